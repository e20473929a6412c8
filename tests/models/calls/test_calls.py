"""Calls: announced once, stored by the newest reading, and never poorer than before."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError

from models.calls import calls
from models.calls.call_log import Action, CallLog, Source
from models.calls.calls import CALL, Origin
from models.database import Database, moment
from models.work import lifecycle
from models.work.work_rows import Lane, WorkStatus
from tests.support.rows import (
    LOCATION,
    STARTED_AT,
    announce,
    call_log,
    call_row,
    change,
    claim_call,
    claimed_call,
    fetch,
    rows_of,
    run_out,
    seconds_until,
    write,
)
from tests.support.waiting import at_once

KEY = (LOCATION, "call-1")
FULL = call_log(
    contact_id="contact-1",
    agent_id="agent-1",
    agent_deleted=False,
    message_id="message-1",
    from_number="+15550100",
    started_at=STARTED_AT,
    duration_seconds=61.5,
    trial_call=False,
    transferred=True,
    summary="Booked.",
    transcript="bot: hello\nhuman: hi, señor 👋",
    translation={"es": "hola"},
    extracted_data={"budget": 12.5, "tags": ["a", None]},
    actions=(
        Action("SMS", "text", "id-a", {"to": "x"}, STARTED_AT, STARTED_AT),
        Action("CALL_TRANSFER", "front desk", "id-b", {}, STARTED_AT + timedelta(seconds=5)),
    ),
    document={"id": "call-1", "unknown": {"deep": [1, 2]}},
)
LATER = STARTED_AT + timedelta(hours=1)


def save(
    database: Database, log: CallLog, *, read_at: datetime = LATER, settled: bool = True
) -> list[tuple[str, Action]]:
    with database.transaction() as connection:
        held = calls.get(connection, *KEY)
        assert held is not None
        return calls.save(connection, LOCATION, log, read_at=read_at, settled=settled, stored=asdict(held))


def stored(database: Database) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    with database.reading() as connection:
        row = calls.get(connection, *KEY)
        actions = calls.actions_of(connection, *KEY)
    assert row is not None
    return asdict(row), [asdict(action) for action in actions]


@pytest.fixture
def announced(database: Database) -> Database:
    announce(database, "call-1")
    return database


def test_a_first_reading_is_stored_with_every_column_and_action(announced: Database) -> None:
    keyed = save(announced, FULL)
    row, actions = stored(announced)
    assert (row["read_at"], row["read_from"]) == (LATER, Source.FETCH)
    assert row["stored_at"] is not None
    assert row["settled_at"] is not None
    assert [key for key, _ in keyed] == ["id-id-a", "id-id-b"] == [each["action_key"] for each in actions]
    assert [each["position"] for each in actions] == [0, 1]
    assert actions[0]["parameters"] == {"to": "x"}
    assert actions[0]["executed_at"] == STARTED_AT
    with announced.reading() as connection:
        assert calls.as_call_log(calls.find(connection, "call-1")[0]) == replace(FULL, actions=())
        assert [action for _, action in calls.keyed_actions(connection, *KEY)] == list(FULL.actions)


def test_a_later_reading_replaces_what_it_tells(announced: Database) -> None:
    save(announced, FULL, settled=False)
    first, _ = stored(announced)
    save(announced, replace(FULL, summary="Booked for Monday."), read_at=LATER + timedelta(seconds=1))
    row, _ = stored(announced)
    assert row["summary"] == "Booked for Monday."
    assert row["stored_at"] == first["stored_at"], "when it was first stored"
    assert first["settled_at"] is None
    assert row["settled_at"] is not None


@pytest.mark.parametrize("earlier", [timedelta(0), timedelta(seconds=1)])
def test_an_older_reading_changes_nothing(announced: Database, earlier: timedelta) -> None:
    keyed = save(announced, FULL)
    before = stored(announced)
    other = call_log(summary="old", actions=(Action("KNOWLEDGE_BASE"),), document={"id": "old"})
    assert sorted(save(announced, other, read_at=LATER - earlier)) == sorted(keyed)
    assert stored(announced) == before


@pytest.mark.parametrize("source", list(Source))
def test_what_is_absent_or_empty_erases_nothing(announced: Database, source: Source) -> None:
    save(announced, FULL)
    row, actions = stored(announced)
    save(announced, call_log(source=source, duration_seconds=61.5), read_at=LATER + timedelta(minutes=1))
    after, actions_after = stored(announced)
    ours = ("read_at", "read_from")
    assert {name: value for name, value in after.items() if name not in ours} == {
        name: value for name, value in row.items() if name not in ours
    }
    assert actions_after == actions


def test_a_trial_call_stays_one_when_a_reading_does_not_say(announced: Database) -> None:
    save(announced, replace(FULL, trial_call=True))
    save(announced, FULL, read_at=LATER + timedelta(minutes=1))
    assert stored(announced)[0]["trial_call"] is True


def test_false_and_zero_are_values(announced: Database) -> None:
    save(announced, replace(FULL, transferred=True, agent_deleted=True))
    save(
        announced,
        replace(FULL, transferred=False, agent_deleted=False, duration_seconds=0.0),
        read_at=LATER + timedelta(1),
    )
    row, _ = stored(announced)
    assert (row["transferred"], row["agent_deleted"], row["duration_seconds"]) == (False, False, 0.0)


def test_a_reading_from_a_list_keeps_what_a_list_cannot_carry(announced: Database) -> None:
    save(announced, FULL)
    from_list = call_log(source=Source.LIST, summary="Longer summary.", document={"id": "call-1", "summary": "…"})
    save(announced, from_list, read_at=LATER + timedelta(minutes=1))
    row, _ = stored(announced)
    assert row["summary"] == "Longer summary."
    assert row["extracted_data"] == FULL.extracted_data
    assert row["document"] == {"id": "call-1", "unknown": {"deep": [1, 2]}, "summary": "…"}
    assert row["read_from"] == Source.LIST


def test_actions_that_a_newer_log_lacks_stay_and_those_it_adds_come_to_them(announced: Database) -> None:
    save(announced, FULL)
    newer = replace(FULL, actions=(Action("SMS", "another", "id-c"), FULL.actions[1]))
    keyed = save(announced, newer, read_at=LATER + timedelta(minutes=1))
    assert [key for key, _ in keyed] == ["id-id-c", "id-id-b", "id-id-a"]
    assert [each["action_key"] for each in stored(announced)[1]] == ["id-id-c", "id-id-b", "id-id-a"]


def test_an_action_keeps_what_a_newer_log_does_not_say_of_it(announced: Database) -> None:
    save(announced, FULL)
    newer = replace(FULL, actions=(Action("SMS", "", "id-a", {}, None, None),))
    save(announced, newer, read_at=LATER + timedelta(minutes=1))
    kept = next(each for each in stored(announced)[1] if each["action_key"] == "id-id-a")
    assert (kept["action_name"], kept["parameters"], kept["executed_at"]) == ("text", {"to": "x"}, STARTED_AT)


_actions = st.builds(
    Action,
    action_type=st.sampled_from(["SMS", "CALL_TRANSFER"]),
    name=st.sampled_from(["", "a"]),
    action_id=st.sampled_from([None, "x", "y"]),
    executed_at=st.sampled_from([None, STARTED_AT, LATER]),
)


@given(st.lists(st.lists(_actions, max_size=4), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_readings_no_stored_action_is_lost_and_no_key_is_given_twice(
    database: Database, readings: list[list[Action]]
) -> None:
    with database.transaction() as connection:
        connection.execute(calls.calls_table.delete())
        calls.announce(connection, *KEY)
        known: set[str] = set()
        for number, actions in enumerate(readings):
            log = call_log(actions=tuple(actions))
            held = calls.get(connection, *KEY)
            assert held is not None
            read_at = LATER + timedelta(seconds=number)
            keyed = calls.save(connection, LOCATION, log, read_at=read_at, settled=True, stored=asdict(held))
            keys = [key for key, _ in keyed]
            assert len(set(keys)) == len(keys)
            assert known <= set(keys)
            assert keys == [each.action_key for each in calls.actions_of(connection, *KEY)]
            known = set(keys)


def test_alike_actions_keep_their_keys_when_the_log_is_read_again(announced: Database) -> None:
    alike, other = Action("SMS", "text"), Action("CALL_TRANSFER", "desk")
    save(announced, call_log(actions=(alike, alike)))
    shorter = call_log(actions=(other, other, alike))
    first = save(announced, shorter, read_at=LATER + timedelta(seconds=1))
    again = save(announced, shorter, read_at=LATER + timedelta(seconds=2))
    assert [key for key, _ in again] == [key for key, _ in first]
    assert [key for key, _ in first][2:] == ["sms", "sms-2"]


def test_a_new_call_is_due_at_once_and_a_known_one_is_told_from_it(database: Database) -> None:
    with database.transaction() as connection:
        assert calls.announce(connection, *KEY)
        assert not calls.announce(connection, *KEY)
        assert calls.announce(connection, "another location", "call-1")
    row = call_row(database)
    assert (row.status, row.lane, row.origin) == (WorkStatus.PENDING, Lane.LIVE, Origin.NOTIFICATION)
    assert seconds_until(database, row.due_at) <= 0
    assert row.announced_at == row.created_at
    assert row.wants_follow_ups is True


def test_many_announcements_at_once_make_one_call(database: Database) -> None:
    def announce_it() -> bool:
        return write(database, calls.announce, *KEY)

    assert sorted(at_once([announce_it] * 8)) == [False] * 7 + [True]
    assert len(rows_of(database, calls.calls_table)) == 1


def test_a_repeated_notification_brings_the_next_reading_of_an_unsettled_call_forward(announced: Database) -> None:
    claim = claimed_call(announced)
    with announced.transaction() as connection:
        calls.save(connection, LOCATION, FULL, read_at=claim.claimed_at, settled=False, stored=claim.row)
        lifecycle.reschedule(connection, claim, seconds=600, counted=True)
    announce(announced, "call-1")
    row = call_row(announced)
    assert seconds_until(announced, row.due_at) <= 0
    assert (row.lane, row.attempts) == (Lane.LIVE, 1)


def test_an_announcement_does_not_put_off_what_is_already_due(announced: Database) -> None:
    change(announced, CALL, KEY, due_at=moment(-60))
    announce(announced, "call-1", lane=Lane.BACKFILLED)
    row = call_row(announced)
    assert seconds_until(announced, row.due_at) < -50
    assert row.lane == Lane.LIVE, "and it does not sink"


def test_an_announcement_wakes_a_call_that_waited_for_nothing(announced: Database) -> None:
    change(announced, CALL, KEY, due_at=None)
    announce(announced, "call-1")
    assert claim_call(announced, "call-1") is not None


def test_a_running_call_keeps_its_lease_when_it_is_announced_again(announced: Database) -> None:
    claim = claimed_call(announced)
    announce(announced, "call-1")
    row = call_row(announced)
    assert row.due_at == row.lease_until == claim.row["lease_until"]
    assert row.requested == claim.row["requested"] + 1


def test_a_settled_call_is_not_changed_by_another_notification(announced: Database) -> None:
    claim = claimed_call(announced)
    with announced.transaction() as connection:
        calls.save(connection, LOCATION, FULL, read_at=claim.claimed_at, settled=True, stored=claim.row)
        lifecycle.complete(connection, claim)
    before = call_row(announced)
    announce(announced, "call-1")
    assert call_row(announced) == before


def test_a_call_that_a_listing_found_first_remembers_when_its_notification_came(database: Database) -> None:
    announce(database, "call-1", origin=Origin.RECONCILE, lane=Lane.RECONCILED)
    assert call_row(database).announced_at is None
    announce(database, "call-1")
    row = call_row(database)
    assert row.announced_at is not None
    assert (row.origin, row.lane) == (Origin.RECONCILE, Lane.LIVE)


def test_a_backfilled_call_gets_follow_ups_when_it_is_announced_before_it_settled(database: Database) -> None:
    announce(database, "call-1", origin=Origin.BACKFILL, lane=Lane.BACKFILLED, wants_follow_ups=False)
    announce(database, "call-1", origin=Origin.BACKFILL, lane=Lane.BACKFILLED, wants_follow_ups=False)
    assert call_row(database).wants_follow_ups is False
    announce(database, "call-1")
    assert call_row(database).wants_follow_ups is True


@pytest.mark.parametrize("origin", list(Origin))
def test_a_dead_call_is_revived_by_a_notification_and_by_a_listing(database: Database, origin: Origin) -> None:
    claim = claimed_call(database)
    write(database, lifecycle.dead_letter, claim, cause="not_found")
    announce(database, "call-1", origin=origin)
    row = call_row(database)
    assert (row.status, row.dead_cause, row.failures) == (WorkStatus.PENDING, None, 0)
    assert claim_call(database, "call-1") is not None


def test_poison_is_not_revived_by_a_notification_or_a_listing_but_by_a_person(announced: Database) -> None:
    for isolated in (False, False, True, True):
        claim_call(announced, "call-1", isolated=isolated)
        run_out(announced, CALL, KEY)
    assert claim_call(announced, "call-1", isolated=True) is None
    for origin in Origin:
        announce(announced, "call-1", origin=origin)
    assert call_row(announced).status == WorkStatus.DEAD
    assert write(announced, calls.replay, *KEY)
    row = call_row(announced)
    assert (row.status, row.dead_cause, row.lost_leases, row.lost_isolated) == (
        WorkStatus.PENDING,
        None,
        0,
        0,
    )
    assert claim_call(announced, "call-1") is not None, "in company, as a new one"


def test_a_person_may_have_a_finished_call_read_again_but_no_unknown_one(announced: Database) -> None:
    claim = claimed_call(announced)
    with announced.transaction() as connection:
        calls.save(connection, LOCATION, FULL, read_at=claim.claimed_at, settled=True, stored=claim.row)
        lifecycle.complete(connection, claim)
        assert calls.replay(connection, *KEY)
        assert not calls.replay(connection, LOCATION, "unknown")
    row = call_row(announced)
    assert (row.status, row.lane) == (WorkStatus.PENDING, Lane.LIVE)
    assert row.summary == FULL.summary, "nothing is lost until the new reading is there"
    assert claim_call(announced, "call-1") is not None


def test_calls_of_the_same_id_in_two_accounts_are_both_found(database: Database) -> None:
    announce(database, "call-1")
    announce(database, "call-1", location_id="another location")
    with database.reading() as connection:
        assert [row.location_id for row in calls.find(connection, "call-1")] == ["another location", LOCATION]


def test_two_readings_stored_at_once_leave_the_newer_one(announced: Database) -> None:
    """Only the holder of the row stores; but a late worker may try, before its fence stops it."""
    late = claimed_call(announced)
    run_out(announced, CALL, KEY)
    present = claim_call(announced, "call-1")
    assert present is not None

    def store(claim: lifecycle.Claim, log: CallLog) -> bool:
        def work(connection: Any) -> None:
            lifecycle.complete(connection, claim)
            calls.save(connection, LOCATION, log, read_at=claim.claimed_at, settled=True, stored=claim.row)

        try:
            announced.transact(work)
        except (lifecycle.LeaseLost, DBAPIError):
            return False
        return True

    old = replace(FULL, summary="old")
    assert at_once([lambda: store(late, old), lambda: store(present, FULL)]) == [False, True]
    row, actions = stored(announced)
    assert (row["summary"], row["status"]) == (FULL.summary, WorkStatus.DONE)
    assert len(actions) == 2


def documents() -> Mapping[str, Any]:
    return {"n": 10**30, "f": 1e-300, "text": "\u2028 é \U0001f600 \\u0000", "": None, "list": [[], {}, True]}


def test_odd_but_storable_documents_come_back_as_they_went_in(announced: Database) -> None:
    save(announced, replace(FULL, document=documents(), transcript="x" * 300_000))
    row, _ = stored(announced)
    assert row["document"] == documents()
    assert len(row["transcript"]) == 300_000


def test_a_settled_call_that_was_taken_in_without_follow_ups_is_read_again_when_its_notification_comes(
    database: Database,
) -> None:
    with database.transaction() as connection:
        calls.announce(
            connection, LOCATION, "backfilled", origin=Origin.BACKFILL, lane=Lane.BACKFILLED, wants_follow_ups=False
        )
    fetch(database, call_log("backfilled"))
    with database.transaction() as connection:
        calls.announce(connection, LOCATION, "backfilled")
        row = calls.get(connection, LOCATION, "backfilled")
    assert row is not None
    assert (row.status, row.wants_follow_ups, row.lane) == (WorkStatus.PENDING, True, Lane.LIVE)
    fetch(database, call_log("backfilled"))
    with database.transaction() as connection:
        calls.announce(connection, LOCATION, "backfilled")
        assert calls.get(connection, LOCATION, "backfilled").status == WorkStatus.DONE  # type: ignore[union-attr]
