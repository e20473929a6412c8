"""One call log becomes one row with its actions and the follow-ups that it calls for, whatever Leadway answers."""

import json
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from models.accounts import pauses
from models.accounts.pauses import PauseCause
from models.calls.call_log import YOUNG
from models.calls.calls import Origin
from models.follow_ups.rules_file import load_rules
from models.intake.notifications import NotificationStatus
from models.reconciling.unknown_calls import CEILING, TOO_MANY
from models.work.lifecycle import FAILURES_ALLOWED
from models.work.work_rows import Lane
from tests.leadway_double.calls import TYPICAL_ACTIONS
from tests.support.rows import arrive, claim_work, notify, on_sqlite, receive, run_out, write
from tests.support.waiting import eventually, meanwhile
from tests.support.worker import HOUR, QUICK_LEASE, RETRY_SECONDS, TOLERATED, AtWork, reconcile, was_served_since
from workers.fetch_call import fetch_call
from workers.take_in import take_in


def test_a_log_is_stored_in_typed_columns_with_its_actions_and_without_its_secrets(at_work: AtWork) -> None:
    call = at_work.double.place_call(
        actions=["CUSTOM_ACTION", "DATA_EXTRACTION", "SOMETHING_NEW"],
        contact=True, language="es", duration=90, fields={"novelty": {"kept": True}},
    )  # fmt: skip
    at_work.announce(call)
    row = at_work.fetch(call)
    assert (row.status, row.work, row.read_from) == ("complete", None, "fetch")
    assert (row.contact_id, row.agent_id, row.duration_seconds) == (call.contact_id, call.agent_id, 90)
    assert abs(row.started_at - call.created_at) < timedelta(milliseconds=1)
    assert (row.trial_call, row.agent_handoff, row.agent_deleted) == (False, False, False)
    assert row.summary
    assert row.transcript.startswith("bot:")
    assert row.translation == {"enabled": True, "language": "es"}
    assert set(row.extracted_data) == {"customerName", "reason"}
    assert row.document["novelty"] == {"kept": True}
    assert not row.document.keys() & {"id", "summary", "transcript", "extractedData", "createdAt"}
    assert row.stored_at == row.settled_at is not None
    actions = at_work.rows("call_actions")
    assert sorted(each["action_type"] for each in actions) == ["CUSTOM_ACTION", "DATA_EXTRACTION", "SOMETHING_NEW"]
    assert {each["position"] for each in actions} == {0, 1, 2}
    assert "secret-" not in json.dumps([row.document, *(each["parameters"] for each in actions)])
    assert at_work.attempts_of(call.call_id) == ["done"]


@on_sqlite
@pytest.mark.parametrize("kinds", TYPICAL_ACTIONS, ids=lambda kinds: "+".join(kinds) or "none")
def test_exactly_the_follow_ups_due_are_planned_and_due_at_once(at_work: AtWork, kinds: tuple[str, ...]) -> None:
    call = at_work.fetched(actions=kinds)
    planned = at_work.follow_ups_of(call)
    due = [kind for kind in kinds if kind in ("APPOINTMENT_BOOKING", "CALL_TRANSFER")]
    rules = {rule.id: rule.action for rule in load_rules(None).everywhere}
    assert sorted(rules[each.rule_id] for each in planned) == sorted(due)
    for each in (at_work.follow_up(each.follow_up_id) for each in planned):
        assert (each.status, each.contact_id, each.lane) == ("pending", call.contact_id, Lane.FOLLOW_UP)
        assert at_work.seconds_until(each.due_at) <= 0


def test_when_the_finish_fails_nothing_is_stored_and_nothing_is_planned(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True)
    at_work.announce(call)
    at_work.double.fault("fetch", "delay", seconds=0.3, times=1)
    with meanwhile(lambda: fetch_call(at_work.location_id, call.call_id)):
        eventually(lambda: at_work.requests("fetch"))
        run_out(at_work.database, at_work.call_key(call))
        assert claim_work(at_work.database, at_work.call_key(call), worker="worker-2")
    row = at_work.call(call)
    assert (row.status, row.running_on, row.row) == ("running", "worker-2", None)
    assert not at_work.rows("call_actions")
    assert not at_work.follow_ups_of(call)
    assert at_work.fetch_when_due(call).status == "complete"
    assert len(at_work.follow_ups_of(call)) == 1


@pytest.mark.parametrize(
    ("wish", "reason"),
    [({"trial": True}, "trial_call"), ({"contact": False}, "no_contact"), ({"ago": 73 * HOUR}, "too_old")],
)
def test_follow_ups_that_are_not_for_this_call_are_skipped_with_the_reason(
    at_work: AtWork, wish: dict[str, Any], reason: str
) -> None:
    call = at_work.fetched(**{"actions": ["CALL_TRANSFER"], **wish})
    assert at_work.call(call).status == "complete"
    [planned] = at_work.follow_ups_of(call)
    follow_up = at_work.send(planned.follow_up_id)
    assert (follow_up.status, follow_up.skip_reason, follow_up.work) == ("skipped", reason, None)
    assert not at_work.double.truth.notes()


def test_a_call_71_hours_old_still_gets_its_note_which_says_so(at_work: AtWork) -> None:
    row = at_work.send(at_work.owed(ago=71 * HOUR))
    [note] = at_work.double.truth.notes()
    assert row.status == "done"
    assert "written 2 days after the call" in note.body


# Not there yet, not complete yet


def test_a_log_that_is_not_there_yet_is_read_again_at_growing_intervals_and_costs_no_attempts(at_work: AtWork) -> None:
    call = at_work.double.place_call(late=300)
    at_work.announce(call)
    intervals = []
    row = at_work.fetch(call)
    while row.status == "pending":
        assert (row.attempts, row.failures, row.last_error) == (0, 0, "not_found")
        intervals.append(at_work.seconds_until(row.due_at))
        row = at_work.fetch_when_due(call)
    assert row.status == "complete"
    assert intervals[0] == pytest.approx(2 * RETRY_SECONDS, abs=TOLERATED)
    assert all(later > before - 0.1 for before, later in pairwise(intervals))
    assert len(intervals) <= 12


def test_a_log_that_is_not_there_after_a_day_is_dead_and_a_new_notification_revives_it(at_work: AtWork) -> None:
    call = at_work.double.place_call(late=25 * HOUR)
    at_work.announce(call)
    at_work.fetch(call)
    at_work.time_passes(23 * HOUR)
    row = at_work.fetch(call)
    assert row.status == "pending"
    assert at_work.seconds_until(row.due_at) == pytest.approx(600, abs=TOLERATED)
    at_work.time_passes(HOUR)
    row = at_work.fetch(call)
    assert (row.status, row.dead_cause, row.due_at) == ("dead", "not_found", None)
    at_work.time_passes(2 * HOUR)
    at_work.announce(call)
    assert at_work.fetch(call).status == "complete"


def test_an_empty_transcript_is_stored_unsettled_and_settled_later(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True, empty_for=60)
    at_work.announce(call)
    row = at_work.fetch(call)
    assert (row.status, row.settled_at, row.attempts) == ("pending", None, 0)
    assert row.stored_at is not None
    [early] = at_work.follow_ups_of(call)
    due_at = at_work.follow_up(early.follow_up_id).due_at
    assert at_work.seconds_until(due_at) == pytest.approx(120, abs=TOLERATED), "it waits for the summary"
    while row.status == "pending":
        row = at_work.fetch_when_due(call)
    assert row.summary
    assert row.settled_at is not None
    [follow_up] = at_work.follow_ups_of(call)
    assert follow_up.follow_up_id == early.follow_up_id
    assert at_work.seconds_until(at_work.follow_up(follow_up.follow_up_id).due_at) <= 0
    assert set(at_work.attempts_of(call.call_id)) == {"unsettled", "done"}


def test_a_summary_that_never_comes_is_waited_for_two_minutes_and_the_log_settles_after_two_hours(
    at_work: AtWork,
) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True, empty_for=9 * HOUR)
    at_work.announce(call)
    at_work.fetch(call)
    [follow_up] = at_work.follow_ups_of(call)
    assert at_work.send_when_due(follow_up.follow_up_id).status == "done"
    [note] = at_work.double.truth.notes()
    assert "no summary" in note.body
    at_work.time_passes(2 * HOUR)
    row = at_work.fetch(call)
    assert (row.status, row.transcript or "") == ("complete", "")
    assert row.settled_at is not None
    assert len(at_work.follow_ups_of(call)) == 1


def test_a_call_without_length_is_settled_without_words_when_it_is_not_young_any_more(at_work: AtWork) -> None:
    young = at_work.fetched(duration=0, actions=[], empty_for=HOUR)
    assert at_work.call(young).status == "pending"
    at_work.time_passes(YOUNG.total_seconds())
    assert at_work.fetch(young).status == "complete"
    old = at_work.fetched(duration=0, actions=[], empty_for=2 * HOUR, ago=HOUR)
    assert at_work.call(old).status == "complete"


@pytest.mark.parametrize("first", [{"duration": 0}, {"duration": None}, {"duration": -1}])
@pytest.mark.parametrize("after_seconds", [5.0, 200.0])
def test_a_young_log_without_words_and_length_is_read_again_and_its_note_comes_within_a_minute(
    at_work: AtWork, first: dict[str, Any], after_seconds: float
) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True)
    whole = json.loads(call.versions[-1][1])
    at_work.double.change_call(call.call_id, **first, summary="", transcript="", executedCallActions=[])
    at_work.double.change_call(call.call_id, after=after_seconds, **whole)
    at_work.announce(call)
    row, waited = at_work.fetch(call), 0.0
    while row.status == "pending":
        waited += at_work.seconds_until(row.due_at)
        row = at_work.fetch_when_due(call)
    assert waited < after_seconds + 60
    assert len(at_work.follow_ups_of(call)) == 1


def test_a_young_call_with_words_and_without_actions_is_read_once_more(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True, actions_late=2 * RETRY_SECONDS)
    silent = at_work.double.place_call(actions=[])
    old = at_work.double.place_call(actions=[], ago=601)
    for each, status in ((call, "pending"), (silent, "pending"), (old, "complete")):
        at_work.announce(each)
        assert at_work.fetch(each).status == status
    assert at_work.seconds_until(at_work.call(call).due_at) < 60
    for each in (call, silent):
        assert at_work.fetch_when_due(each).status == "complete"
    assert len(at_work.follow_ups_of(call)) == 1
    assert len(at_work.requests("fetch")) == 5


def test_a_repeated_notification_of_a_young_call_without_actions_waits_for_them(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True, actions_late=100)
    at_work.announce(call)
    assert at_work.fetch(call).status == "pending"
    assert at_work.fetch_when_due(call).status == "complete"
    at_work.announce(call)
    row, waited = at_work.fetch(call), 0.0
    while row.status == "pending":
        waited += at_work.seconds_until(row.due_at)
        row = at_work.fetch_when_due(call)
    assert waited < 160
    assert len(at_work.follow_ups_of(call)) == 1


def test_the_first_notification_of_a_young_call_that_a_list_told_of_earns_one_reading(at_work: AtWork) -> None:
    was_served_since(at_work, HOUR)
    call = at_work.double.place_call(actions=[])
    reconcile(at_work)
    assert at_work.call(call).status == "complete"
    at_work.announce(call)
    assert at_work.fetch(call).status == "complete"
    assert len(at_work.requests("fetch")) == 1


def test_an_unwritten_follow_up_moves_to_the_contact_of_the_newest_log(at_work: AtWork) -> None:
    call = at_work.fetched(actions=["CALL_TRANSFER"])
    [planned] = at_work.follow_ups_of(call)
    merged = at_work.double.place_call(contact=True).contact_id
    at_work.double.change_call(call.call_id, contactId=merged)
    at_work.replay(call)
    at_work.fetch(call)
    assert at_work.send_when_due(planned.follow_up_id).status == "done"
    assert [note.contact_id for note in at_work.notes(planned.follow_up_id)] == [merged]


def test_a_follow_up_that_died_of_an_unknown_contact_revives_with_another_and_a_written_one_stays(
    at_work: AtWork,
) -> None:
    call, written = at_work.fetched(actions=["CALL_TRANSFER"]), at_work.fetched(actions=["CALL_TRANSFER"])
    [planned], [sent] = at_work.follow_ups_of(call), at_work.follow_ups_of(written)
    assert at_work.send(sent.follow_up_id).status == "done"
    at_work.double.fault("create_note", "status", status=404, body={"message": "Contact not found"}, times=1)
    assert at_work.send(planned.follow_up_id).status == "dead"
    merged = at_work.double.place_call(contact=True).contact_id
    for each in (call, written):
        at_work.double.change_call(each.call_id, contactId=merged)
        at_work.replay(each)
        at_work.fetch(each)
    assert at_work.send_when_due(planned.follow_up_id).status == "done"
    assert [note.contact_id for note in at_work.notes(planned.follow_up_id)] == [merged]
    assert [note.contact_id for note in at_work.notes(sent.follow_up_id)] == [written.contact_id]


def test_a_fuller_log_later_adds_follow_ups_and_repeats_none(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True, empty_for=15)
    at_work.announce(call)
    at_work.fetch(call)
    transfer = json.loads(call.versions[-1][1])["executedCallActions"]
    booking = {"actionType": "APPOINTMENT_BOOKING", "actionName": "Book", "actionId": "b" * 24, "actionParameters": {}}
    at_work.double.change_call(call.call_id, executedCallActions=[booking, *transfer])
    row = at_work.fetch_when_due(call)
    while row.status == "pending":
        row = at_work.fetch_when_due(call)
    follow_ups = at_work.follow_ups_of(call)
    assert sorted(each.rule_id for each in follow_ups) == ["booking-note", "transfer-note"]
    for each in follow_ups:
        at_work.send(each.follow_up_id)
    at_work.replay(call)
    at_work.fetch(call)
    assert len(at_work.follow_ups_of(call)) == 2


def test_an_older_copy_erases_nothing(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER", "SMS"], contact=True, empty_for=5, actions_late=5)
    at_work.time_passes(6)
    at_work.announce(call)
    newest = at_work.fetch(call)
    assert newest.status == "complete"
    at_work.replay(call)
    at_work.double.fault("fetch", "older_copy", times=1)
    row = at_work.fetch(call)
    for name in ("summary", "transcript", "contact_id", "settled_at", "stored_at"):
        assert getattr(row, name) == getattr(newest, name), name
    assert len(at_work.rows("call_actions")) == 2
    assert len(at_work.follow_ups_of(call)) == 1


@pytest.mark.parametrize(("empty_for", "status"), [(0.0, "complete"), (HOUR, "pending")])
def test_a_fetch_that_began_before_the_listing_that_stored_the_call_changes_nothing(
    at_work: AtWork, empty_for: float, status: str
) -> None:
    was_served_since(at_work, HOUR)
    call = at_work.double.place_call(ago=600, actions=["CALL_TRANSFER"], contact=True, empty_for=empty_for)
    at_work.announce(call)
    at_work.double.fault("fetch", "delay", seconds=1, times=1)
    with meanwhile(lambda: fetch_call(at_work.location_id, call.call_id)):
        eventually(lambda: at_work.requests("fetch"))
        reconcile(at_work)
        listed = at_work.call(call)
        assert (listed.status, listed.read_from) == ("running", "list")
    row = at_work.call(call)
    assert row.row == listed.row
    assert row.status == status, "its work ends if the stored log is settled"


def test_what_only_a_signed_notification_carried_fills_what_the_log_lacks(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], fields={"contactId": None, "extractedData": None})
    contact_id = at_work.double.place_call(contact=True).contact_id
    told = {"id": call.call_id, "contactId": contact_id, "extractedData": {"name": "Ana"}, "summary": "Told."}
    receive(
        at_work.database, "signed", location_id=at_work.location_id, call_id=call.call_id, authenticated_by="ed25519",
        document=told,
    )  # fmt: skip
    take_in(at_work.database)
    at_work.fetch(call)
    row = at_work.call(call)
    assert (row.contact_id, row.extracted_data, row.summary != "Told.") == (contact_id, {"name": "Ana"}, True)
    assert (row.contact_from, row.extracted_data_from, row.summary_from) == ("notification", "notification", "fetch")
    [planned] = at_work.follow_ups_of(call)
    assert planned.contact_id == contact_id


def test_what_came_with_an_intake_secret_fills_nothing(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=[], fields={"contactId": None})
    told = {"id": call.call_id, "contactId": "somebody"}
    receive(
        at_work.database, "secret", location_id=at_work.location_id, call_id=call.call_id,
        authenticated_by="intake_path", document=told,
    )  # fmt: skip
    take_in(at_work.database)
    at_work.fetch(call)
    assert (at_work.call(call).contact_id, at_work.call(call).contact_from) == (None, "fetch"), "known to be absent"


# Ids and documents that are no good


def test_beyond_the_ceiling_an_unknown_call_of_a_signed_notification_is_asked_for_once(at_work: AtWork) -> None:
    for number in range(CEILING):
        arrive(
            at_work.database, f"no id {number}", location_id=at_work.location_id, status=NotificationStatus.UNRESOLVED
        )
    signed, secret = (at_work.double.place_call(late=HOUR) for _ in range(2))
    at_work.announce(signed)
    at_work.announce(secret)
    for call, proof in ((signed, "ed25519"), (secret, "intake_path")):
        notify(at_work.database, call.call_id, location_id=at_work.location_id, proof=proof)
    assert at_work.fetch(secret).status == "pending"
    fetch_call(at_work.location_id, signed.call_id)
    assert at_work.maybe_call(signed.call_id) is None
    assert at_work.attempts_of(signed.call_id) == ["dropped"]
    [notification] = [
        each for each in at_work.rows("notifications") if each["dedupe_key"] == f"webhook:{signed.call_id}"
    ]
    assert (notification["status"], notification["reason"]) == ("unresolved", TOO_MANY)


def test_an_id_of_another_kind_leaves_no_row_and_an_unresolved_notification(at_work: AtWork) -> None:
    notify(at_work.database, "msg_123", location_id=at_work.location_id)
    fetch_call(at_work.location_id, "msg_123")
    assert at_work.maybe_call("msg_123") is None
    [notification] = at_work.rows("notifications")
    assert (notification["status"], notification["reason"]) == ("unresolved", "call_id_of_another_kind")
    assert notification["call_id"] is None
    assert at_work.attempts_of("msg_123") == ["dropped"]
    fetch_call(at_work.location_id, "msg_123")
    assert len(at_work.requests("fetch")) == 1


@on_sqlite
@pytest.mark.parametrize("fault", ["wrong_document", "broken_json", "redirect"])
def test_an_answer_that_is_not_this_log_is_asked_for_again_and_ends_dead_with_nothing_stored(
    at_work: AtWork, fault: str
) -> None:
    other = at_work.double.place_call()
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True)
    at_work.announce(call)
    number = at_work.double.fault("fetch", fault)
    row = at_work.fetch(call)
    assert (row.status, row.failures, row.last_error) == ("pending", 1, "puzzling")
    for _ in range(FAILURES_ALLOWED - 1):
        row = at_work.fetch_when_due(call)
    assert (row.status, row.dead_cause, row.row) == ("dead", "puzzling", None)
    assert at_work.maybe_call(other) is None
    at_work.double.clear_faults(number)
    at_work.announce(call, origin=Origin.RECONCILE, lane=Lane.RECONCILED)
    assert at_work.fetch(call).status == "complete"


# Outages


OUTAGES: dict[str, dict[str, Any]] = {
    "500": {"what": "status", "status": 500},
    "503": {"what": "status", "status": 503},
    "reset": {"what": "reset"},
    "cut off": {"what": "truncated"},
    "answer lost": {"what": "do_then_reset"},
}
SLOW: dict[str, dict[str, Any]] = {
    "hang": {"what": "hang"},
    "crumbs": {"what": "drip", "seconds": 3},
    "too late": {"what": "delay", "seconds": 1.2},
}


@on_sqlite
@pytest.mark.parametrize("fault", OUTAGES)
def test_outages_make_nothing_dead_however_many(at_work: AtWork, fault: str) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True)
    at_work.announce(call)
    number = at_work.double.fault("fetch", **OUTAGES[fault])
    for attempt in range(1, FAILURES_ALLOWED + 3):
        row = at_work.fetch_when_due(call)
        assert (row.status, row.failures, row.attempts) == ("pending", 0, attempt)
        assert row.last_error == "outage"
        longest = min(600.0, RETRY_SECONDS * 2 ** (attempt - 1))
        assert longest / 2 - TOLERATED <= at_work.seconds_until(row.due_at) <= longest
    assert at_work.account().outages_in_a_row == FAILURES_ALLOWED + 2
    at_work.double.clear_faults(number)
    assert at_work.fetch_when_due(call).status == "complete"
    assert at_work.account().outages_in_a_row == 0
    assert len(at_work.follow_ups_of(call)) == 1


@on_sqlite
@pytest.mark.parametrize("fault", SLOW)
def test_an_answer_that_takes_too_long_is_given_up_before_the_lease_ends(at_work: AtWork, fault: str) -> None:
    at_work.settings.leadway_lease_seconds = QUICK_LEASE
    call = at_work.double.place_call()
    at_work.announce(call)
    at_work.double.fault("fetch", times=1, **SLOW[fault])
    row = at_work.fetch(call)
    assert (row.status, row.last_error, row.failures, row.lost_leases) == ("pending", "outage", 0, 0)
    at_work.settings.leadway_lease_seconds = 20
    assert at_work.fetch_when_due(call).status == "complete"


def test_a_503_may_say_when_to_come_back(at_work: AtWork) -> None:
    call = at_work.double.place_call()
    at_work.announce(call)
    at_work.double.fault("fetch", "status", status=503, retry_after=77, times=1)
    assert at_work.seconds_until(at_work.fetch(call).due_at) == pytest.approx(77, abs=TOLERATED)


@pytest.mark.parametrize("retry_after", [None, 33])
def test_429_holds_the_whole_account_and_is_no_attempt(at_work: AtWork, retry_after: float | None) -> None:
    call = at_work.double.place_call()
    at_work.announce(call)
    at_work.double.fault("fetch", "status", status=429, retry_after=retry_after, times=1)
    row = at_work.fetch(call)
    wait = retry_after or 10
    assert (row.status, row.attempts, row.failures) == ("pending", 0, 0)
    assert at_work.seconds_until(row.due_at) == pytest.approx(wait, abs=TOLERATED)
    open_until = at_work.account().open_until
    assert open_until is not None
    assert at_work.seconds_until(open_until) == pytest.approx(wait, abs=TOLERATED)
    assert at_work.fetch_when_due(call).status == "complete"


def test_no_budget_is_no_attempt_and_no_line_in_the_history(at_work: AtWork) -> None:
    call = at_work.double.place_call()
    at_work.announce(call)
    seconds, _ = at_work.this.redis.time()
    at_work.this.redis.hset(f"leadway:budget:{at_work.location_id}", "open_until", str(seconds + 60))
    row = at_work.fetch(call)
    assert (row.status, row.attempts, row.last_error) == ("pending", 0, "budget")
    assert at_work.seconds_until(row.due_at) == pytest.approx(60, abs=TOLERATED)
    assert not at_work.attempts_of(call.call_id)
    assert not at_work.requests("fetch")
    assert at_work.fetch_when_due(call).status == "complete"


def test_an_answer_of_any_kind_ends_the_rest_after_outages(at_work: AtWork) -> None:
    call, not_there = at_work.double.place_call(), at_work.double.place_call(late=HOUR)
    at_work.announce(call)
    at_work.announce(not_there)
    at_work.double.fault("fetch", "status", status=500, times=6)
    for _ in range(6):
        at_work.fetch_when_due(call)
    assert at_work.account().outages_in_a_row == 6
    at_work.fetch_when_due(not_there)
    assert at_work.account().outages_in_a_row == 0


# What comes in while the log is being read


def test_a_notification_during_a_backfilled_reading_still_gets_its_note(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True)
    at_work.announce(call, origin=Origin.BACKFILL, lane=Lane.BACKFILLED, wants_follow_ups=False)
    at_work.double.fault("fetch", "delay", seconds=0.3, times=1)
    with meanwhile(lambda: fetch_call(at_work.location_id, call.call_id)):
        eventually(lambda: at_work.requests("fetch"))
        at_work.announce(call)
    assert at_work.fetch_when_due(call).status == "complete"
    assert len(at_work.follow_ups_of(call)) == 1
    [row] = at_work.rows("calls")
    assert (row["origin"], row["wants_follow_ups"], row["announced_at"] is None) == ("backfill", True, False)


def test_a_backfilled_call_gets_no_follow_ups(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True)
    at_work.announce(call, origin=Origin.BACKFILL, lane=Lane.BACKFILLED, wants_follow_ups=False)
    assert at_work.fetch(call).status == "complete"
    assert not at_work.follow_ups_of(call)


def test_a_repeated_notification_brings_an_unsettled_or_young_calls_reading_forward_and_leaves_an_old_one_alone(
    at_work: AtWork,
) -> None:
    call = at_work.double.place_call(empty_for=60, duration=30)
    at_work.announce(call)
    assert at_work.seconds_until(at_work.fetch(call).due_at) > 5
    at_work.announce(call)
    assert at_work.seconds_until(at_work.call(call).due_at) <= 0
    at_work.time_passes(61)
    assert at_work.fetch(call).status == "complete"
    at_work.announce(call)
    assert at_work.seconds_until(at_work.call(call).due_at) <= 0, "its log may still grow"
    row = at_work.fetch(call)
    at_work.change_call(call, started_at=row.started_at - timedelta(minutes=10))
    at_work.announce(call)
    assert at_work.call(call).status == "complete"


@pytest.mark.parametrize("why", ["leased", "paused"])
def test_a_call_that_is_leased_or_paused_is_not_fetched(at_work: AtWork, why: str) -> None:
    call = at_work.double.place_call()
    at_work.announce(call)
    if why == "leased":
        assert claim_work(at_work.database, at_work.call_key(call))
    else:
        write(at_work.database, pauses.pause, at_work.location_id, cause=PauseCause.PERSON, detail="why")
    at_work.fetch(call)
    assert not at_work.requests("fetch")


def test_a_log_that_is_too_large_is_named_so_and_an_edges_answer_makes_nothing_dead(at_work: AtWork) -> None:
    large, fine = at_work.double.place_call(), at_work.double.place_call()
    for call in (large, fine):
        at_work.announce(call)
    body = b'{"id": "' + large.call_id.encode() + b'", "x": [' + b"{}," * 1_000_000 + b"{}]}"
    at_work.double.fault("fetch", "status", status=200, body=body, only=large.call_id)
    row = at_work.fetch(large)
    assert (row.status, row.dead_cause) == ("dead", "too_large")
    at_work.double.fault("fetch", "status", status=403, body=b"Access denied", only=fine.call_id, times=1)
    row = at_work.fetch(fine)
    assert (row.status, row.failures) == ("pending", 0)
    assert at_work.fetch_when_due(fine).status == "complete"
