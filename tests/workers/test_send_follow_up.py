"""A follow-up reaches the CRM exactly once, whatever happens to its requests."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from models.failpoints import arm_failpoints
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp
from models.follow_ups.references import carries_reference
from models.work.lifecycle import FAILURES_ALLOWED, ISOLATED_AFTER, POISON_AFTER_LOST_ISOLATED, Claim
from tests.leadway_double.nouns import Note
from tests.support.rows import claim_work, on_sqlite, read, run_out, write
from tests.support.waiting import eventually, meanwhile
from tests.support.worker import QUICK_LEASE, RETRY_SECONDS, SETTLE_SECONDS, TOLERATED, AtWork
from workers.send_follow_up import MOST_POSTS

NOT_EXECUTED: dict[str, dict[str, Any]] = {
    "422": {"what": "status", "status": 422},
    "500": {"what": "status", "status": 500},
    "400 for an unknown reason": {"what": "status", "status": 400},
    "404 that names no contact": {"what": "status", "status": 404},
    "401 in unknown words": {"what": "status", "status": 401, "body": {"message": "Go away"}},
    "403 without words": {"what": "status", "status": 403, "body": "<html>"},
    "reset before": {"what": "reset"},
    "hang": {"what": "hang"},
    "redirect": {"what": "redirect", "status": 302},
}
EXECUTED: dict[str, dict[str, Any]] = {
    "422 after it was done": {"what": "do_then_status", "status": 422},
    "500 after it was done": {"what": "do_then_status", "status": 500},
    "reset after": {"what": "do_then_reset"},
    "hang after": {"what": "do_then_hang"},
    "done late": {"what": "do_late", "seconds": 0.2},
    "broken JSON": {"what": "broken_json"},
    "cut off": {"what": "truncated"},
    "crumbs": {"what": "drip", "seconds": 3},
}
DENIALS = [
    (401, "Invalid Private Integration token", ("token", "all")),
    (401, "Invalid token: access token is invalid", ("token", "all")),
    (403, "The token does not have access to this location", ("location", "all")),
    (401, "The token is not authorized for this scope.", ("scope", "follow_up")),
    (403, "The token is not authorized for this scope.", ("scope", "follow_up")),
    (401, "version header is invalid", ("version", "all")),
]


def one_note(at_work: AtWork, follow_up_id: str) -> Note:
    [note] = at_work.notes(follow_up_id)
    return note


def answered_looks(at_work: AtWork, kind: str = "list_notes") -> int:
    return sum(each.status == 200 for each in at_work.requests(kind))


def become_unclear(at_work: AtWork, follow_up_id: str, what: str = "do_then_reset", **how: Any) -> None:
    at_work.double.fault("create_note", what, times=1, **how)
    assert at_work.send(follow_up_id).status == "unclear"


def claimed(at_work: AtWork, follow_up_id: str, **how: Any) -> Claim:
    """Another worker process has it, for 60 s."""
    key = at_work.follow_up_key(follow_up_id)
    claim = claim_work(at_work.database, key, worker="worker-2", at_claim=follow_ups.begin, **how)
    assert claim is not None
    return claim


def died_after_intent(at_work: AtWork, follow_up_id: str) -> None:
    """A worker process committed its intent and was never heard of again."""
    claim, words = claimed(at_work, follow_up_id), f"words\n\nLeadway call reference: {follow_up_id}"
    follow_up = read(at_work.database, follow_ups.get, follow_up_id)
    assert write(at_work.database, follow_ups.intend, claim, follow_up, seconds=1, body=words)


def note_by_hand(at_work: AtWork, follow_up_id: str, *, ago: float = 0) -> str:
    row = at_work.follow_up(follow_up_id)
    note = Note(
        note_id=at_work.double.memory.new_id()[:20], location_id=at_work.location_id, contact_id=row.contact_id,
        body=row.body, created_at=at_work.double.memory.now_utc() - timedelta(seconds=ago),
    )  # fmt: skip
    at_work.double.memory.add_note(note)
    return note.note_id


# One row of the table after another


def test_a_request_that_succeeds_is_done_with_the_id_of_the_one_note(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    row = at_work.send(follow_up_id)
    note = one_note(at_work, follow_up_id)
    assert (row.status, row.remote_id, row.posts) == ("done", note.note_id, 1)
    assert carries_reference(note.body, follow_up_id)
    assert row.work is None
    assert not at_work.requests("list_notes")


def test_a_refused_connection_proves_that_nothing_was_written(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.double.go_away()
    for _ in range(MOST_POSTS + 1):
        row = at_work.send_when_due(follow_up_id)
        assert (row.status, row.intent_at, row.posts, row.failures) == ("pending", None, 0, 0)
    at_work.double.come_back()
    assert at_work.send_when_due(follow_up_id).status == "done"
    assert one_note(at_work, follow_up_id)
    assert not at_work.requests("list_notes")


@pytest.mark.parametrize("retry_after", [None, 40])
def test_after_a_429_of_the_vendors_limiter_it_is_looked_for_once_after_the_wait_and_sent_again(
    at_work: AtWork, retry_after: int | None
) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "status", status=429, retry_after=retry_after, times=MOST_POSTS + 1)
    row = at_work.send(follow_up_id)
    assert (row.status, row.posts, row.attempts, row.failures) == ("unclear", 0, 0, 0)
    assert at_work.seconds_until(row.due_at) == pytest.approx(retry_after or 10, abs=TOLERATED)
    # After several 429 the budget may put it off: that is no look.
    eventually(lambda: at_work.send_when_due(follow_up_id).status == "done")
    assert one_note(at_work, follow_up_id)
    assert len(at_work.requests("create_note")) == MOST_POSTS + 2
    assert len(at_work.requests("list_notes")) == MOST_POSTS + 1


def test_a_note_that_was_written_despite_a_429_is_found_and_not_written_again(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "do_then_status", status=429, times=1)
    assert at_work.send(follow_up_id).status == "unclear"
    assert at_work.send_when_due(follow_up_id).status == "done"
    assert one_note(at_work, follow_up_id)


def test_a_crm_that_does_not_keep_the_reference_leaves_what_is_unclear_to_a_person_and_is_told_once(
    at_work: AtWork,
) -> None:
    at_work.double.fault("create_note", "cut_body", times=2)
    for _ in range(2):
        assert at_work.send(at_work.owed()).status == "done"
    assert at_work.account().references_lost_at is not None
    assert [event["event"] for event in at_work.said].count("reference_not_kept") == 1
    follow_up_id = at_work.owed()
    become_unclear(at_work, follow_up_id, "reset")
    at_work.send_when_due(follow_up_id)
    row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.due_at, row.last_error) == ("unclear", None, "reference_not_kept")
    assert at_work.send(at_work.owed()).status == "done"
    assert at_work.account().references_lost_at is None


def test_what_was_provably_not_written_does_not_count_towards_the_posts_that_a_person_looks_after(
    at_work: AtWork,
) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "status", status=429, times=MOST_POSTS)
    for _ in range(MOST_POSTS):
        at_work.send_when_due(follow_up_id)
    at_work.double.fault("create_note", "reset", times=1)
    assert at_work.send_when_due(follow_up_id).status == "unclear"
    # After so many 429 the budget may put it off: that is no try.
    eventually(lambda: at_work.send_when_due(follow_up_id).status == "done")
    assert one_note(at_work, follow_up_id)


@on_sqlite
@pytest.mark.parametrize(
    ("status", "message"),
    [(404, "Contact not found"), (400, "Contact with id abc not found"), (400, "The contact does not exist")],
)
def test_an_unknown_contact_makes_it_dead(at_work: AtWork, status: int, message: str) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "status", status=status, body={"statusCode": status, "message": message})
    row = at_work.send(follow_up_id)
    assert (row.status, row.dead_cause, row.due_at) == ("dead", "contact_unknown", None)
    assert row.intent_at is None
    assert not at_work.notes(follow_up_id)


@on_sqlite
@pytest.mark.parametrize(("status", "message", "pause"), DENIALS)
def test_a_denial_in_known_words_pauses_and_is_not_a_try(
    at_work: AtWork, status: int, message: str, pause: tuple[str, str]
) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "status", status=status, body={"message": message}, times=1)
    row = at_work.send(follow_up_id)
    assert at_work.pauses() == {pause}
    assert (row.status, row.intent_at, row.attempts, row.posts) == ("pending", None, 0, 0)
    at_work.make_due(follow_up_id)
    assert at_work.send(follow_up_id).status == "pending", "paused work is not claimed"


@pytest.mark.parametrize("fault", [*NOT_EXECUTED, *EXECUTED])
def test_anything_else_is_unclear_until_two_looks_after_the_settle_window_and_leaves_one_note(
    at_work: AtWork, fault: str
) -> None:
    if fault in ("hang", "hang after", "done late", "crumbs"):
        at_work.settings.leadway_lease_seconds = QUICK_LEASE
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", **{"times": 1, **(NOT_EXECUTED | EXECUTED)[fault]})
    row = at_work.send(follow_up_id)
    at_work.settings.leadway_lease_seconds = 20
    assert (row.status, row.posts, row.failures) == ("unclear", 1, 0)
    assert row.intent_at is not None
    assert at_work.seconds_until(row.due_at) == pytest.approx(SETTLE_SECONDS, abs=TOLERATED)

    at_work.make_due(follow_up_id)
    row = at_work.send(follow_up_id)
    assert row.status == "unclear"
    assert at_work.seconds_until(row.due_at) == pytest.approx(SETTLE_SECONDS, abs=TOLERATED)
    assert not at_work.requests("list_notes"), "nothing is asked inside the window"

    if fault == "done late":
        eventually(lambda: at_work.notes(follow_up_id))
    row = at_work.send_when_due(follow_up_id)
    if fault in EXECUTED:
        assert answered_looks(at_work) == 1
    else:
        assert (row.status, row.absences) == ("unclear", 1)
        assert at_work.seconds_until(row.due_at) == pytest.approx(SETTLE_SECONDS / 3, abs=TOLERATED)
        row = at_work.send_when_due(follow_up_id)
        assert answered_looks(at_work) == 2
    assert (row.status, row.remote_id) == ("done", one_note(at_work, follow_up_id).note_id)
    assert row.unclear_since is None


# What a look proves


@on_sqlite
@pytest.mark.parametrize("look", ["status", "truncated", "broken_json", "reset", "hang", "redirect"])
def test_a_look_that_fails_is_never_not_there(at_work: AtWork, look: str) -> None:
    follow_up_id = at_work.owed()
    become_unclear(at_work, follow_up_id)
    if look == "hang":
        at_work.settings.leadway_lease_seconds = QUICK_LEASE
    times = 1 if look == "hang" else 4
    at_work.double.fault("list_notes", look, times=times, **({"status": 503} if look == "status" else {}))
    for _ in range(times):
        row = at_work.send_when_due(follow_up_id)
        assert (row.status, row.absences) == ("unclear", 0)
    row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.remote_id) == ("done", one_note(at_work, follow_up_id).note_id)


def test_a_throttled_look_waits_and_counts_nothing(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    become_unclear(at_work, follow_up_id)
    at_work.double.fault("list_notes", "status", status=429, times=3)
    tries = at_work.follow_up(follow_up_id).attempts
    for _ in range(3):
        row = at_work.send_when_due(follow_up_id)
        assert (row.status, row.absences, row.attempts) == ("unclear", 0, tries)
    assert at_work.send_when_due(follow_up_id).status == "done"
    assert one_note(at_work, follow_up_id)


def test_a_list_that_lags_behind_is_seen_through_by_the_second_look(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    become_unclear(at_work, follow_up_id)
    lagging = SETTLE_SECONDS + SETTLE_SECONDS / 6
    at_work.double.fault("list_notes", "lagging", seconds=lagging)
    row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.absences) == ("unclear", 1)
    row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.remote_id) == ("done", one_note(at_work, follow_up_id).note_id)


def test_a_list_that_is_always_unreadable_ends_with_a_person_not_with_a_second_note(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    become_unclear(at_work, follow_up_id)
    at_work.double.fault("list_notes", "broken_json")
    for _ in range(FAILURES_ALLOWED):
        row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.due_at) == ("unclear", None)
    assert one_note(at_work, follow_up_id)


def test_a_contact_that_is_gone_when_it_is_looked_for_waits_for_a_person(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    become_unclear(at_work, follow_up_id)
    at_work.double.fault("list_notes", "status", status=404, body={"message": "Contact not found"})
    row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.due_at, row.last_error) == ("unclear", None, "contact_unknown")


def doubled() -> float:
    return REGISTRY.get_sample_value("leadway_doubled_total") or 0.0


def test_found_twice_is_done_with_the_oldest_and_counted(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    become_unclear(at_work, follow_up_id)
    oldest = note_by_hand(at_work, follow_up_id, ago=30)
    before = doubled()
    row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.remote_id) == ("done", oldest)
    assert doubled() == before + 1
    assert [each["number"] for each in at_work.said if each["event"] == "follow_up_doubled"] == [2]
    assert len(at_work.notes(follow_up_id)) == 2, "nothing is deleted by itself"


def test_another_calls_reference_is_not_ours(at_work: AtWork) -> None:
    first = at_work.owed()
    at_work.send(first)
    second = at_work.owed(contact=at_work.follow_up(first).contact_id)
    become_unclear(at_work, second, "reset")
    assert at_work.send_when_due(second).absences == 1
    at_work.send_when_due(second)
    assert one_note(at_work, second).note_id != one_note(at_work, first).note_id


def test_after_five_posts_each_absent_twice_a_person_looks(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "reset")
    row = at_work.send(follow_up_id)
    for _ in range(2 * MOST_POSTS):
        row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.due_at, row.posts) == ("unclear", None, MOST_POSTS)
    assert row.last_error == "absent_after_every_post"
    assert len(at_work.requests("create_note")) == MOST_POSTS
    assert answered_looks(at_work) == 2 * MOST_POSTS


@pytest.mark.parametrize("obstacle", ["429", "a spent budget"])
def test_once_proven_absent_it_is_not_looked_for_a_third_time_when_the_next_post_is_kept_from_going_out(
    at_work: AtWork, obstacle: str
) -> None:
    follow_up_id = at_work.owed()
    become_unclear(at_work, follow_up_id, "reset")
    assert at_work.send_when_due(follow_up_id).absences == 1
    if obstacle == "a spent budget":
        with meanwhile(lambda: at_work.send_when_due(follow_up_id)):
            at_work.double.fault("list_notes", "delay", seconds=0.3, times=1)
            eventually(lambda: len(at_work.requests("list_notes")) == 2)
            hold_budget(at_work)
    else:
        at_work.double.fault("create_note", "status", status=429, times=1)
        at_work.send_when_due(follow_up_id)
    assert at_work.follow_up(follow_up_id).status in ("unclear", "pending")
    eventually(lambda: at_work.send_when_due(follow_up_id).status == "done")
    assert answered_looks(at_work) == (3 if obstacle == "429" else 2)  # that was a request of its own
    assert one_note(at_work, follow_up_id)


def hold_budget(at_work: AtWork) -> None:
    """As a 429 to somebody else would: nobody of the account asks for a minute."""
    seconds, _ = at_work.this.redis.time()
    at_work.this.redis.hset(f"leadway:budget:{at_work.location_id}", "open_until", str(seconds + 60))


# Crashes and late comers


@pytest.mark.parametrize("written", [True, False])
def test_after_a_crash_behind_the_intent_the_outcome_is_unclear_since_the_leases_end(
    at_work: AtWork, written: bool
) -> None:
    follow_up_id = at_work.owed()
    died_after_intent(at_work, follow_up_id)
    if written:
        note_by_hand(at_work, follow_up_id)
    lease_until = at_work.follow_up(follow_up_id).lease_until
    at_work.time_passes(70)
    row = at_work.send(follow_up_id)
    assert row.status == "unclear"
    assert row.unclear_since == lease_until - timedelta(seconds=70)
    assert at_work.seconds_until(row.due_at) == pytest.approx(SETTLE_SECONDS - 10, abs=TOLERATED)
    assert not at_work.requests("list_notes", "create_note")
    row = at_work.send_when_due(follow_up_id)
    if not written:
        row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.remote_id) == ("done", one_note(at_work, follow_up_id).note_id)


def test_after_a_crash_before_the_intent_it_is_simply_sent(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    claimed(at_work, follow_up_id)
    assert at_work.send(follow_up_id).status == "running", "its lease still runs"
    assert at_work.send_when_due(follow_up_id).status == "done"
    assert one_note(at_work, follow_up_id)
    assert not at_work.requests("list_notes")


@pytest.mark.parametrize("taken_over", [True, False])
def test_a_worker_that_wakes_up_after_its_lease_sends_nothing(at_work: AtWork, taken_over: bool) -> None:
    follow_up_id = at_work.owed(actions=["APPOINTMENT_BOOKING"], booked=True)
    at_work.double.fault("appointments", "delay", seconds=0.4, times=1)
    with meanwhile(lambda: at_work.send(follow_up_id)):
        eventually(lambda: at_work.requests("appointments"))
        run_out(at_work.database, at_work.follow_up_key(follow_up_id))
        if taken_over:
            claimed(at_work, follow_up_id)
    row = at_work.follow_up(follow_up_id)
    assert not at_work.requests("create_note")
    assert row.intent_at is None
    assert row.running_on == ("worker-2" if taken_over else None)
    assert at_work.send_when_due(follow_up_id).status == "done"
    assert one_note(at_work, follow_up_id)


def test_who_finishes_after_his_lease_writes_nothing_and_his_note_is_adopted(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "delay", seconds=1, times=1)
    with meanwhile(lambda: at_work.send(follow_up_id)):
        eventually(lambda: at_work.requests("create_note"))
        run_out(at_work.database, at_work.follow_up_key(follow_up_id))
        second = claimed(at_work, follow_up_id)
        as_claimed = at_work.follow_up(follow_up_id)
    assert isinstance(as_claimed.row, FollowUp)
    assert as_claimed.row.status == "unclear"
    assert as_claimed.unclear_since == second.lease_lost_at
    after = at_work.follow_up(follow_up_id)
    assert (after.row, after.work) == (as_claimed.row, as_claimed.work), "the first one wrote nothing"
    assert at_work.send_when_due(follow_up_id).status == "unclear"
    row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.remote_id) == ("done", one_note(at_work, follow_up_id).note_id)


@pytest.mark.parametrize("step", ["intent_committed", "note_answered"])
def test_an_attempt_that_breaks_behind_its_intent_is_unclear_from_then_on_and_never_dead(
    at_work: AtWork, tmp_path: Path, step: str
) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "delay", seconds=1)
    (tmp_path / f"{step}.armed").mkdir()  # a folder where a file is expected: the failpoint raises
    arm_failpoints(tmp_path)
    row = at_work.send(follow_up_id)
    arm_failpoints(None)
    assert (row.status, row.last_error, row.failures) == ("unclear", "IsADirectoryError", 1)
    [attempt] = at_work.rows("attempts")[-1:]
    assert attempt["ended_at"] - row.unclear_since < timedelta(seconds=0.5)
    while row.status != "done":
        assert row.status == "unclear"
        row = at_work.send_when_due(follow_up_id)
    assert one_note(at_work, follow_up_id)


@pytest.mark.parametrize("intended", [True, False])
def test_poison_waits_for_a_person_who_can_have_it_sent_again_without_a_second_note(
    at_work: AtWork, intended: bool
) -> None:
    follow_up_id = at_work.owed()
    key = at_work.follow_up_key(follow_up_id)
    if intended:
        died_after_intent(at_work, follow_up_id)
        note_by_hand(at_work, follow_up_id)
        run_out(at_work.database, key)
    for lost in range(int(intended), ISOLATED_AFTER + POISON_AFTER_LOST_ISOLATED):
        claimed(at_work, follow_up_id, isolated=lost >= ISOLATED_AFTER)
        run_out(at_work.database, key)
    row = at_work.send(follow_up_id)
    assert (row.status, row.dead_cause, row.due_at) == ("unclear" if intended else "dead", "poison", None)
    assert write(at_work.database, follow_ups.resend, follow_up_id)
    row = at_work.send(follow_up_id)
    while row.status != "done":
        row = at_work.send_when_due(follow_up_id)
    assert one_note(at_work, follow_up_id)
    assert not write(at_work.database, follow_ups.resend, follow_up_id)


# A person's word


def unclear_for_a_person(at_work: AtWork) -> str:
    follow_up_id = at_work.owed()
    become_unclear(at_work, follow_up_id, "reset")
    at_work.double.fault("list_notes", "status", status=404, body={"message": "Contact not found"}, times=1)
    assert at_work.send_when_due(follow_up_id).due_at is None
    return follow_up_id


def test_is_there_ends_it_and_send_again_writes_it_at_once(at_work: AtWork) -> None:
    there, not_there = unclear_for_a_person(at_work), unclear_for_a_person(at_work)
    with at_work.database.transaction() as connection:
        assert follow_ups.settle_by_person(connection, there, is_there=True)
        assert follow_ups.settle_by_person(connection, not_there, is_there=False)
    assert at_work.send(there).status == "done"
    assert at_work.send(not_there).status == "done"
    assert not at_work.notes(there)
    assert one_note(at_work, not_there)
    assert not write(at_work.database, follow_ups.settle_by_person, there, is_there=False)


# Tasks, tags, workflows

TASK_RULE = """
[[rule]]
id = "transfer-note"
enabled = false

[[rule]]
id = "call-back"
action = "CALL_TRANSFER"
kind = "task"
title = "Call {{ call.number }} back"
due_in = "2h"
"""
TAG_RULE = """
[[rule]]
id = "transfer-note"
enabled = false

[[rule]]
id = "transferred"
action = "CALL_TRANSFER"
kind = "tag"
tags = ["transferred", "voice agent"]
"""
WORKFLOW_RULE = """
[[rule]]
id = "transfer-note"
enabled = false

[[rule]]
id = "enrol"
action = "CALL_TRANSFER"
kind = "workflow"
workflow_id = "{workflow_id}"
"""


@pytest.mark.parametrize("executed", [True, False])
def test_a_task_is_looked_for_like_a_note(at_work: AtWork, tmp_path: Path, executed: bool) -> None:
    at_work.use_rules(TASK_RULE, tmp_path)
    follow_up_id = at_work.owed()
    at_work.double.fault("create_task", "do_then_reset" if executed else "reset", times=1)
    assert at_work.send(follow_up_id).status == "unclear"
    row = at_work.send_when_due(follow_up_id)
    if not executed:
        assert row.absences == 1
        row = at_work.send_when_due(follow_up_id)
    [task] = at_work.double.truth.tasks()
    assert (row.status, row.remote_id) == ("done", task.task_id)
    assert task.title.startswith("Call ")
    assert carries_reference(task.body, follow_up_id)
    assert answered_looks(at_work, "list_tasks") == (1 if executed else 2)


@on_sqlite
@pytest.mark.parametrize("fault", ["do_then_status", "do_then_reset", "reset", "truncated"])
def test_a_tag_is_simply_set_again(at_work: AtWork, tmp_path: Path, fault: str) -> None:
    at_work.use_rules(TAG_RULE, tmp_path)
    follow_up_id = at_work.owed()
    at_work.double.fault("add_tags", fault, times=1)
    row = at_work.send(follow_up_id)
    if row.status != "done":  # a 2xx says all that there is to say about tags, even if its body is cut
        assert at_work.seconds_until(row.due_at) <= RETRY_SECONDS
        row = at_work.send_when_due(follow_up_id)
    assert row.status == "done"
    assert at_work.double.memory.contacts[row.contact_id].tags == ["transferred", "voice agent"]
    assert not at_work.requests("list_notes", "list_tasks")


def test_tags_that_are_refused_for_good_are_not_sent_for_ever(at_work: AtWork, tmp_path: Path) -> None:
    at_work.use_rules(TAG_RULE, tmp_path)
    follow_up_id = at_work.owed()
    at_work.double.fault("add_tags", "status", status=422)
    for _ in range(FAILURES_ALLOWED):
        row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.dead_cause, row.due_at) == ("dead", "refused", None)


def test_an_enrolment_that_is_unclear_waits_for_a_person(at_work: AtWork, tmp_path: Path) -> None:
    [workflow_id, *_] = at_work.double.memory.locations[at_work.location_id].workflows
    at_work.use_rules(WORKFLOW_RULE.format(workflow_id=workflow_id), tmp_path)
    clear, unclear = at_work.owed(), at_work.owed()
    assert at_work.send(clear).status == "done"
    at_work.double.fault("enrol", "do_then_reset", times=1)
    at_work.send(unclear)
    row = at_work.send_when_due(unclear)
    assert (row.status, row.due_at, row.last_error) == ("unclear", None, "cannot_be_looked_up")
    assert len(at_work.double.truth.enrolments()) == 2


# Worded once


def test_a_retry_sends_the_same_words_and_repeats_no_lookup(at_work: AtWork) -> None:
    follow_up_id = at_work.owed(actions=["APPOINTMENT_BOOKING"], booked=True)
    at_work.double.fault("create_note", "status", status=429, times=1)
    at_work.double.fault("create_note", "reset", times=1)
    words = at_work.send(follow_up_id).body
    lookups = len(at_work.requests("appointments", "appointment"))
    assert lookups == 2
    at_work.change_call(at_work.follow_up(follow_up_id).call_id, summary="Something else entirely.")
    row = at_work.send_when_due(follow_up_id)
    while row.status != "done":
        row = at_work.send_when_due(follow_up_id)
    assert one_note(at_work, follow_up_id).body == words == row.body
    assert len(at_work.requests("appointments", "appointment")) == lookups


def test_words_found_before_the_budget_ran_out_are_kept(at_work: AtWork) -> None:
    follow_up_id = at_work.owed(actions=["APPOINTMENT_BOOKING"], booked=True)
    at_work.double.fault("appointment", "delay", seconds=0.3, times=1)
    with meanwhile(lambda: at_work.send(follow_up_id)):
        eventually(lambda: at_work.requests("appointment"))
        hold_budget(at_work)
    row = at_work.follow_up(follow_up_id)
    assert (row.status, row.intent_at, row.attempts, row.posts) == ("pending", None, 0, 0)
    row = at_work.send_when_due(follow_up_id)
    assert row.status == "done"
    assert len(at_work.requests("appointments", "appointment")) == 2


@on_sqlite
@pytest.mark.parametrize("endpoint", ["appointments", "appointment"])
def test_a_lookup_that_hangs_keeps_no_note_from_being_written(at_work: AtWork, endpoint: str) -> None:
    at_work.settings.leadway_lease_seconds = QUICK_LEASE
    follow_up_id = at_work.owed(actions=["APPOINTMENT_BOOKING"], booked=True)
    at_work.double.fault(endpoint, "hang")
    for _ in range(8):
        row = at_work.send_when_due(follow_up_id)
        assert row.status in ("pending", "done"), "no lease is left behind"
        if row.status == "done":
            break
    assert row.status == "done"
    assert one_note(at_work, follow_up_id)


def test_during_an_outage_of_all_leadway_no_note_loses_its_appointment(at_work: AtWork) -> None:
    follow_up_id = at_work.owed(actions=["APPOINTMENT_BOOKING"], booked=True)
    at_work.double.go_away()
    for _ in range(8):
        assert at_work.send_when_due(follow_up_id).status == "pending"
    at_work.double.come_back()
    row = at_work.send_when_due(follow_up_id)
    assert (row.status, row.appointment_id is not None) == ("done", True)
    assert "booked an appointment" in one_note(at_work, follow_up_id).body


def test_a_rule_that_is_gone_makes_it_dead(at_work: AtWork, tmp_path: Path) -> None:
    at_work.use_rules(TASK_RULE, tmp_path)
    follow_up_id = at_work.owed()
    at_work.use_rules("", tmp_path)
    row = at_work.send(follow_up_id)
    assert (row.status, row.dead_cause) == ("dead", "cannot_be_worded")


def test_two_workers_at_once_write_one_note(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "delay", seconds=0.1)
    with meanwhile(lambda: at_work.send(follow_up_id)), meanwhile(lambda: at_work.send(follow_up_id)):
        at_work.send(follow_up_id)
    assert at_work.follow_up(follow_up_id).status == "done"
    assert one_note(at_work, follow_up_id)


def test_a_rule_that_makes_another_kind_of_thing_now_sends_nothing_and_is_named(
    at_work: AtWork, tmp_path: Path
) -> None:
    rule = '[[rule]]\nid = "mine"\naction = "SMS"\n'
    at_work.use_rules(rule + 'kind = "task"\ntitle = "Call back"\ndue_in = "1h"\n', tmp_path)
    owed = at_work.owed(actions=["SMS"])
    at_work.use_rules(rule + 'kind = "tag"\ntags = ["texted"]\n', tmp_path)
    with at_work.database.reading() as connection:
        assert follow_ups.changed_rules(connection, at_work.this.rules) == ["mine"]
    assert at_work.send(owed).status == "dead"
    assert not at_work.requests("create_task", "add_tags")
