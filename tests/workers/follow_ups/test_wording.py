"""What a booking's note says: the appointment that was really made, told once, or honestly that none was found."""

import json
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from models.calls.call_log import Action
from models.database import Database
from models.follow_ups.languages import Language, long_time
from tests.leadway_double.nouns import Appointment, PlacedCall
from tests.support.rows import call_log, on_sqlite
from tests.support.worker import RETRY_SECONDS, TOLERATED, AtWork
from workers.follow_ups.wording import LOOK_AGAIN_FOR, LOOKUPS_TRIED, match_bookings
from workers.leadway.documents import Appointment as ListedAppointment

BOOKED = {"actions": ["APPOINTMENT_BOOKING"], "booked": True}
HOUR = 3600.0


def the_note(at_work: AtWork, follow_up_id: str) -> str:
    [note] = at_work.notes(follow_up_id)
    return note.body


def appointments_of(at_work: AtWork, call: PlacedCall) -> list[Appointment]:
    found = [at_work.double.memory.appointments[each] for each in call.appointment_ids]
    return sorted(found, key=lambda each: each.added_at)


def set_account(database: Database, **values: str) -> None:
    from models.accounts import accounts

    with database.transaction() as connection:
        connection.execute(accounts.accounts_table.update().values(**values))


def test_the_note_gives_the_booked_time_in_the_accounts_zone(at_work: AtWork) -> None:
    call = at_work.fetched(**BOOKED)
    [row] = at_work.follow_ups_of(call)
    row = at_work.send(row.follow_up_id)
    [appointment] = appointments_of(at_work, call)
    body = the_note(at_work, row.follow_up_id)
    assert long_time(appointment.starts_at, language=Language.EN, time_zone="America/New_York") in body
    assert appointment.title in body
    assert row.appointment_id == appointment.appointment_id


def test_the_time_is_exact_also_where_the_account_is_set_to_another_zone_than_the_crm(at_work: AtWork) -> None:
    set_account(at_work.database, time_zone="Europe/Madrid", language="es")
    call = at_work.fetched(**BOOKED)
    [row] = at_work.follow_ups_of(call)
    at_work.send(row.follow_up_id)
    [appointment] = appointments_of(at_work, call)
    body = the_note(at_work, row.follow_up_id)
    assert f"{appointment.starts_at.astimezone(ZoneInfo('Europe/Madrid')):%H:%M} (Europe/Madrid)" in body
    assert "reservó una cita" in body
    assert "Resumen:" in body


@pytest.mark.parametrize(
    "executed_at", [datetime(2027, 11, 7, 5, 9, 55, tzinfo=UTC), datetime(2027, 11, 7, 6, 9, 55, tzinfo=UTC)]
)
def test_a_booking_in_the_hour_that_comes_twice_is_found_by_its_time_without_a_zone(executed_at: datetime) -> None:
    """01:10 in New York: five seconds after either."""
    action = Action("APPOINTMENT_BOOKING", executed_at=executed_at)
    appointment = ListedAppointment(
        "appointment-1", calendar_id=None, title="", status="", starts_at=None,
        added_at=datetime(2027, 11, 7, 1, 10, tzinfo=UTC), zoneless=frozenset({"added_at"}),
    )  # fmt: skip
    found = match_bookings([("key", action)], [appointment], call_log=call_log(), time_zone="America/New_York")
    assert found == {"key": appointment}


def test_an_appointment_that_shows_up_later_is_waited_for(at_work: AtWork) -> None:
    call = at_work.fetched(**BOOKED, booking_late=20)
    [row] = at_work.follow_ups_of(call)
    row = at_work.send(row.follow_up_id)
    assert (row.status, row.last_error) == ("pending", "appointment_not_there_yet")
    assert (row.attempts, row.intent_at, row.body) == (0, None, None)
    while row.status == "pending":
        row = at_work.send_when_due(row.follow_up_id)
    assert "booked an appointment" in the_note(at_work, row.follow_up_id)


def test_after_a_minute_without_an_appointment_the_note_says_that_none_was_found(at_work: AtWork) -> None:
    call = at_work.fetched(actions=["APPOINTMENT_BOOKING"], booked=False)
    [row] = at_work.follow_ups_of(call)
    row = at_work.send(row.follow_up_id)
    while row.status == "pending":
        still_waited = -at_work.seconds_until(at_work.call(call).stored_at)
        assert still_waited < LOOK_AGAIN_FOR * RETRY_SECONDS + TOLERATED
        row = at_work.send_when_due(row.follow_up_id)
    waited = -at_work.seconds_until(at_work.call(call).stored_at)
    assert waited >= LOOK_AGAIN_FOR * RETRY_SECONDS
    assert len(at_work.requests("appointments")) <= 8
    assert "no appointment was found in the calendar" in the_note(at_work, row.follow_up_id)


@on_sqlite
@pytest.mark.parametrize("status", [401, 403])
def test_without_the_lookups_scope_the_note_says_so_and_nothing_pauses(at_work: AtWork, status: int) -> None:
    follow_up_id = at_work.owed(**BOOKED)
    at_work.double.fault(
        "appointments", "status", status=status, body={"message": "The token is not authorized for this scope."}
    )
    assert at_work.send(follow_up_id).status == "done"
    assert "could not be looked up" in the_note(at_work, follow_up_id)
    assert not at_work.pauses()


def test_without_the_calendars_scope_the_time_is_given_without_a_zone(at_work: AtWork) -> None:
    at_work.double.remove_scope("calendars/events.readonly")
    call = at_work.fetched(**BOOKED)
    [row] = at_work.follow_ups_of(call)
    assert at_work.send(row.follow_up_id).status == "done"
    [appointment] = appointments_of(at_work, call)
    body = the_note(at_work, row.follow_up_id)
    assert f"{appointment.starts_at.astimezone(ZoneInfo('America/New_York')):%H:%M}\n" in body
    assert not at_work.pauses()


def test_a_token_that_is_refused_at_the_lookup_pauses_like_anywhere(at_work: AtWork) -> None:
    follow_up_id = at_work.owed(**BOOKED)
    at_work.double.revoke_token()
    assert at_work.send(follow_up_id).status == "pending"
    assert at_work.pauses() == {("token", "all")}


@on_sqlite
def test_a_lookup_that_keeps_failing_is_left_out_in_the_end(at_work: AtWork) -> None:
    follow_up_id = at_work.owed(**BOOKED)
    at_work.double.fault("appointments", "status", status=500)
    row = at_work.send(follow_up_id)
    while row.status == "pending":
        assert row.intent_at is None
        row = at_work.send_when_due(follow_up_id)
    assert row.status == "done"
    assert len(at_work.requests("appointments")) == LOOKUPS_TRIED
    assert "could not be looked up" in the_note(at_work, follow_up_id)


def test_two_bookings_in_one_call_tell_two_appointments(at_work: AtWork) -> None:
    call = at_work.fetched(actions=["APPOINTMENT_BOOKING", "APPOINTMENT_BOOKING"], booked=True, duration=60)
    rows = [at_work.send(row.follow_up_id) for row in reversed(at_work.follow_ups_of(call))]
    assert {row.appointment_id for row in rows} == set(call.appointment_ids)
    by_key = {row.appointment_id: row.action_key for row in rows}
    actions = {row.action_key: row.executed_at for row in at_work.rows("call_actions")}
    in_order = [actions[by_key[each.appointment_id]] for each in appointments_of(at_work, call)]
    assert in_order == sorted(in_order)


def test_an_appointment_that_another_calls_note_has_told_is_not_told_again(at_work: AtWork) -> None:
    first = at_work.fetched(**BOOKED)
    [told] = at_work.follow_ups_of(first)
    at_work.send(told.follow_up_id)
    second = at_work.fetched(actions=["APPOINTMENT_BOOKING"], booked=False, contact=first.contact_id)
    at_work.change_call(second, stored_at=datetime.now(UTC))
    [row] = at_work.follow_ups_of(second)
    row = at_work.send(row.follow_up_id)
    while row.status == "pending":
        row = at_work.send_when_due(row.follow_up_id)
    assert row.appointment_id is None
    assert "no appointment was found" in the_note(at_work, row.follow_up_id)


def test_an_old_appointment_of_the_contact_is_not_taken_for_the_new_one(at_work: AtWork) -> None:
    first = at_work.fetched(**BOOKED, ago=10 * HOUR)
    second = at_work.fetched(**BOOKED, contact=first.contact_id)
    [row] = at_work.follow_ups_of(second)
    assert (at_work.send(row.follow_up_id).appointment_id,) == second.appointment_ids


def test_a_call_that_became_known_late_is_told_as_late_and_a_live_one_is_not(at_work: AtWork) -> None:
    late, live = at_work.owed(ago=5 * HOUR + 60), at_work.owed()
    at_work.send(late)
    at_work.send(live)
    assert "written 5 hours after the call" in the_note(at_work, late)
    assert "after the call" not in the_note(at_work, live)


def test_an_outage_after_the_call_makes_no_late_note(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.time_passes(5 * HOUR)
    at_work.send(follow_up_id)
    assert "after the call" not in the_note(at_work, follow_up_id)


def test_words_of_a_caller_never_reach_a_log_line_or_a_metric(at_work: AtWork) -> None:
    from prometheus_client import generate_latest

    call = at_work.fetched(**BOOKED)
    [row] = at_work.follow_ups_of(call)
    at_work.send(row.follow_up_id)
    summary = json.loads(call.versions[-1][1])["summary"]
    assert summary in the_note(at_work, row.follow_up_id)
    assert summary.encode() not in generate_latest()
    secrets = [summary, at_work.call(call).from_number, at_work.double.token]
    assert not [each for each in at_work.said for secret in secrets if secret in str(each)]
