"""Follow-ups: planned once, intended under the lease, settled by a person where nothing else can."""

from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from models.database import Database
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUpState
from models.follow_ups.rules import PlannedFollowUp, SkipReason
from models.work import lifecycle
from models.work.history import Outcome, attempts_table
from models.work.lifecycle import FAILURES_ALLOWED, Claim, LeaseLost
from models.work.work_rows import Lane, WorkKey, work_table
from tests.support.rows import (
    LOCATION,
    call_log,
    change,
    claim_follow_up,
    claimed_follow_up,
    dead_follow_up,
    done_follow_up,
    follow_up_row,
    on_postgresql,
    only_follow_up,
    plan,
    planned,
    read,
    rows_of,
    run_out,
    seconds_until,
    store,
    unclear_follow_up,
    until_somebody_waits,
    write,
)
from tests.support.waiting import at_once, meanwhile


@pytest.fixture
def stored(database: Database) -> Database:
    """With one stored call that owes nothing yet."""
    store(database, call_log())
    return database


def plan_all(database: Database, *wanted: PlannedFollowUp, **how: Any) -> None:
    write(database, follow_ups.plan, LOCATION, "call-1", wanted, **how)


def rows(database: Database) -> list[sa.RowMapping]:
    return rows_of(database, follow_ups.follow_ups_table)


def work(database: Database) -> list[sa.RowMapping]:
    return rows_of(database, work_table)


def key_of(follow_up_id: str) -> WorkKey:
    return follow_ups.work_key(LOCATION, follow_up_id)


def intend(database: Database, claim: Claim, *, seconds: float = 20, **words: str) -> bool:
    """As an attempt does that read the follow-up just after its claim."""
    follow_up = read(database, follow_ups.get, claim.key.subject)
    assert follow_up is not None
    return write(database, follow_ups.intend, claim, follow_up, seconds=seconds, **words)


def abort(database: Database, claim: Claim) -> None:
    with database.transaction() as connection:
        dead = lifecycle.abort(connection, claim, error="KeyError", first_seconds=5)
        follow_ups.record_abort(connection, claim, dead=dead)


# Planning


def test_planning_twice_plans_once(stored: Database) -> None:
    wanted = (planned(), planned(rule_id="other"), planned(action_key="id-2"))
    plan_all(stored, *wanted)
    before, due = rows(stored), work(stored)
    assert len({row["follow_up_id"] for row in before}) == len(due) == 3
    plan_all(stored, *wanted)
    assert rows(stored) == before
    assert [row["subject"] for row in work(stored)] == [row["subject"] for row in due]


def test_a_fuller_log_adds_what_is_new_and_repeats_nothing_that_is_done(stored: Database) -> None:
    plan_all(stored, planned())
    done = done_follow_up(stored)
    plan_all(stored, planned(), planned(action_key="id-2"))
    states = {row["action_key"]: row["status"] for row in rows(stored)}
    assert states == {"id-1": FollowUpState.DONE, "id-2": FollowUpState.PENDING}
    assert done not in [row["subject"] for row in work(stored)]


def test_what_waits_for_the_summary_is_brought_forward_when_it_came(stored: Database) -> None:
    plan_all(stored, planned(), delay_seconds=120)
    [row] = work(stored)
    assert 100 < seconds_until(stored, row["due_at"]) <= 120
    plan_all(stored, planned(), delay_seconds=60)
    assert work(stored) == [row], "a wait is not begun anew, nor shortened"
    plan_all(stored, planned())
    [row] = work(stored)
    assert seconds_until(stored, row["due_at"]) <= 0
    plan_all(stored, planned())
    assert work(stored) == [row], "and what is due keeps its turn"


@pytest.mark.parametrize("seconds", [300, None])
def test_a_follow_up_that_waits_after_a_try_is_not_brought_forward_by_planning_again(
    stored: Database, seconds: float | None
) -> None:
    plan_all(stored, planned())
    unclear_follow_up(stored, seconds=seconds)
    before = work(stored)
    plan_all(stored, planned())
    assert work(stored) == before
    assert (before[0]["due_at"] is None) is (seconds is None), "unclear for a person: nothing happens by itself"


@pytest.mark.parametrize("reason", list(SkipReason))
def test_what_is_skipped_is_written_down_with_its_reason_and_is_no_work(stored: Database, reason: SkipReason) -> None:
    plan_all(stored, planned(skip_reason=reason))
    follow_up = only_follow_up(stored)
    assert (follow_up.status, follow_up.skip_reason) == (FollowUpState.SKIPPED, reason)
    assert work(stored) == []


@pytest.mark.parametrize("reason", list(SkipReason))
def test_only_what_was_skipped_for_want_of_a_contact_is_due_when_a_fuller_log_asks_for_it(
    stored: Database, reason: SkipReason
) -> None:
    skipped = planned(contact_id=None, skip_reason=reason)
    plan_all(stored, skipped)
    plan_all(stored, planned(contact_id="contact-1"))
    plan_all(stored, skipped)  # a poorer log takes nothing back
    follow_up = only_follow_up(stored)
    taken_up = reason is SkipReason.NO_CONTACT
    as_planned = (FollowUpState.PENDING, None, "contact-1")
    as_skipped = (FollowUpState.SKIPPED, reason, None)
    told = (follow_up.status, follow_up.skip_reason, follow_up.contact_id)
    assert told == (as_planned if taken_up else as_skipped)
    assert len(work(stored)) == taken_up


@pytest.mark.parametrize("reason", list(SkipReason))
def test_a_person_has_skipped_ones_taken_up_whatever_the_reason_and_each_once(
    stored: Database, reason: SkipReason
) -> None:
    plan_all(stored, planned(skip_reason=reason), planned(action_key="id-2"))
    wanted = [planned(), planned(action_key="id-2")]
    assert at_once([lambda: write(stored, follow_ups.take_up_skipped, LOCATION, "call-1", wanted)] * 2) in (
        [1, 0],
        [0, 1],
    )
    assert [row["status"] for row in rows(stored)] == [FollowUpState.PENDING] * 2
    assert len(work(stored)) == 2


def test_follow_ups_of_the_history_wait_in_its_lane(stored: Database) -> None:
    plan_all(stored, planned(), lane=Lane.BACKFILLED)
    assert [row["lane"] for row in work(stored)] == [Lane.BACKFILLED]


# The intent


def test_an_intent_is_written_with_its_words_under_the_lease(database: Database) -> None:
    follow_up_id = plan(database)
    assert intend(database, claimed_follow_up(database, follow_up_id), body="words")
    row = follow_up_row(database, follow_up_id)
    assert (row.body, row.posts, row.absences, row.unclear_since) == ("words", 1, 0, None)
    assert row.intent_at is not None


def test_no_intent_when_too_little_of_the_lease_is_left(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    assert not intend(database, claim, seconds=61)
    run_out(database, key_of(follow_up_id))
    assert not intend(database, claim, seconds=0)
    assert follow_up_row(database, follow_up_id).intent_at is None


def test_no_intent_when_somebody_took_over(database: Database) -> None:
    follow_up_id = plan(database)
    late = claimed_follow_up(database, follow_up_id)
    run_out(database, key_of(follow_up_id))
    present = claimed_follow_up(database, follow_up_id)
    assert not intend(database, late)
    assert intend(database, present)
    assert follow_up_row(database, follow_up_id).posts == 1


def test_no_intent_after_the_end(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    write(database, follow_ups.finish, claim, remote_id="note-1")
    assert not intend(database, claim)


@pytest.mark.parametrize("before", ["never sent", "sent before"])
def test_under_one_claim_an_intent_succeeds_once(database: Database, before: str) -> None:
    """Whoever asks again after a lost answer must not send: the first may have done so."""
    follow_up_id = plan(database)
    if before == "sent before":
        unclear_follow_up(database, seconds=0)
    claim = claimed_follow_up(database, follow_up_id)
    as_claimed = only_follow_up(database)
    tries = [lambda: write(database, follow_ups.intend, claim, as_claimed, seconds=20)] * 4
    assert sorted(at_once(tries)) == [False] * 3 + [True]
    assert only_follow_up(database).posts == as_claimed.posts + 1


# An end that nobody came back to tell


def test_whoever_died_after_the_intent_left_it_unclear_since_the_end_of_the_lease(database: Database) -> None:
    follow_up_id = plan(database)
    assert intend(database, claimed_follow_up(database, follow_up_id))
    run_out(database, key_of(follow_up_id))
    lease_end = follow_up_row(database, follow_up_id).lease_until
    for isolated in (False, True):
        claimed_follow_up(database, follow_up_id, isolated=isolated)
        row = only_follow_up(database)
        assert (row.status, row.unclear_since) == (FollowUpState.UNCLEAR, lease_end), "it counts from the first"
        run_out(database, key_of(follow_up_id))


def test_whoever_gave_it_back_after_the_intent_left_it_unclear_since_the_next_claim(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    assert intend(database, claim)
    write(database, lifecycle.give_back, claim.key, worker=claim.worker)
    again = claimed_follow_up(database, follow_up_id)
    row = only_follow_up(database)
    assert (row.status, row.unclear_since) == (FollowUpState.UNCLEAR, again.claimed_at)


def test_whoever_died_before_the_intent_left_nothing_unclear(database: Database) -> None:
    follow_up_id = plan(database)
    claimed_follow_up(database, follow_up_id)
    run_out(database, key_of(follow_up_id))
    claimed_follow_up(database, follow_up_id)
    assert (only_follow_up(database).status, only_follow_up(database).unclear_since) == (FollowUpState.PENDING, None)


@pytest.mark.parametrize("intended", [False, True])
@pytest.mark.parametrize("how", ["raised", "raised once too often", "poison"])
def test_what_may_be_written_is_unclear_and_never_dead(database: Database, intended: bool, how: str) -> None:
    follow_up_id = plan(database)
    if how == "raised once too often":
        change(database, key_of(follow_up_id), failures=FAILURES_ALLOWED - 1)
    claim = claimed_follow_up(database, follow_up_id)
    if intended:
        assert intend(database, claim)
    if how == "poison":
        run_out(database, claim.key)
        for isolated in (False, True, True):
            claimed_follow_up(database, follow_up_id, isolated=isolated)
            run_out(database, claim.key)
        assert claim_follow_up(database, follow_up_id, isolated=True) is None
    else:
        abort(database, claim)
    ended = FollowUpState.PENDING if how == "raised" else FollowUpState.DEAD
    row = only_follow_up(database)
    assert row.status == (FollowUpState.UNCLEAR if intended else ended)
    assert (row.unclear_since is not None) is intended
    assert (work(database)[0]["due_at"] is None) is (how != "raised"), "at last a person has to look"


def test_a_finished_one_leaves_its_result_and_no_work(database: Database) -> None:
    plan(database)
    done_follow_up(database)
    row = only_follow_up(database)
    assert (row.status, row.remote_id, row.body, row.unclear_since) == (FollowUpState.DONE, "note-42", "words", None)
    assert row.done_at is not None
    assert work(database) == []


# A person decides


@pytest.mark.parametrize("seconds", [None, 60.0])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_person_settles_an_unclear_one_once_by_what_the_crm_shows(
    database: Database, is_there: bool, seconds: float | None
) -> None:
    plan(database)
    follow_up_id = unclear_follow_up(database, seconds=seconds)
    decided = [lambda: write(database, follow_ups.settle_by_person, follow_up_id, is_there=is_there)] * 2
    assert sorted(at_once(decided)) == [False, True]
    row = only_follow_up(database)
    assert row.unclear_since is None
    if is_there:
        assert (row.status, row.done_at is not None, work(database)) == (FollowUpState.DONE, True, [])
    else:
        assert (row.status, row.intent_at, row.posts, row.absences) == (FollowUpState.PENDING, None, 0, 0)
        assert intend(database, claimed_follow_up(database, follow_up_id))


@pytest.mark.parametrize("decision", ["is there", "send again", "look again"])
def test_an_attempt_that_is_under_way_when_a_person_decides_writes_nothing(database: Database, decision: str) -> None:
    plan(database)
    follow_up_id = unclear_follow_up(database, seconds=0)
    claim = claimed_follow_up(database, follow_up_id)
    as_claimed = only_follow_up(database)
    if decision == "look again":
        assert write(database, follow_ups.resend, follow_up_id)
    else:
        assert write(database, follow_ups.settle_by_person, follow_up_id, is_there=decision == "is there")
    before = (only_follow_up(database), work(database), rows_of(database, attempts_table))
    assert not write(database, follow_ups.intend, claim, as_claimed, seconds=0, body="late")
    for end, how in (
        (follow_ups.finish, {"remote_id": "note-late"}),
        (follow_ups.reschedule, {"seconds": 5, "facts": {"absences": 1}, "outcome": Outcome.UNCLEAR}),
        (follow_ups.dead_letter, {"cause": "cannot_be_worded", "error": "no rule"}),
    ):
        with pytest.raises(LeaseLost):
            write(database, end, claim, **how)
    assert (only_follow_up(database), work(database), rows_of(database, attempts_table)) == before


@on_postgresql
@pytest.mark.parametrize("first", ["the attempt", "the person"])
def test_of_an_attempts_intent_and_a_persons_decision_at_once_the_first_to_lock_the_work_succeeds(
    database: Database, first: str
) -> None:
    plan(database)
    follow_up_id = unclear_follow_up(database, seconds=0)
    claim = claimed_follow_up(database, follow_up_id)
    intending = partial(follow_ups.intend, claim=claim, follow_up=only_follow_up(database), seconds=20)
    settling = partial(follow_ups.settle_by_person, follow_up_id=follow_up_id, is_there=True)
    one, other = (intending, settling) if first == "the attempt" else (settling, intending)
    got: list[bool] = []
    with database.transaction() as connection:
        assert one(connection)
        with meanwhile(lambda: got.append(write(database, other))):
            until_somebody_waits(database)
            connection.commit()
    assert got == [False]


def test_a_request_that_is_under_way_is_not_settled_nor_sent_again(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    assert intend(database, claim)
    with database.transaction() as connection:
        assert not follow_ups.settle_by_person(connection, follow_up_id, is_there=True)
        assert not follow_ups.settle_by_person(connection, "unknown", is_there=True)
        assert not follow_ups.resend(connection, follow_up_id)
    write(database, follow_ups.finish, claim, remote_id="note-1")


def test_a_dead_one_that_never_got_out_is_sent_again_at_once(database: Database) -> None:
    plan(database)
    follow_up_id = dead_follow_up(database)
    assert (follow_up_row(database, follow_up_id).due_at, claim_follow_up(database, follow_up_id)) == (None, None)
    assert write(database, follow_ups.resend, follow_up_id)
    row = follow_up_row(database, follow_up_id)
    assert (row.status, row.dead_cause, row.unclear_since) == (FollowUpState.PENDING, None, None)
    assert claim_follow_up(database, follow_up_id) is not None


@pytest.mark.parametrize("state", ["waits for a person", "waits", "dead"])
def test_what_may_be_written_is_looked_for_at_once_when_a_person_asks_and_its_window_stays(
    database: Database, state: str
) -> None:
    plan(database)
    follow_up_id = unclear_follow_up(database, seconds={"waits for a person": None, "waits": 600, "dead": 0}[state])
    if state == "dead":
        claim = claimed_follow_up(database, follow_up_id)
        write(database, follow_ups.dead_letter, claim, cause="cannot_be_worded", error="no rule")
    before = only_follow_up(database)
    assert write(database, follow_ups.resend, follow_up_id)
    row = follow_up_row(database, follow_up_id)
    assert (row.status, row.unclear_since) == (FollowUpState.UNCLEAR, before.unclear_since)
    assert (row.intent_at, row.body, row.absences, row.posts) == (before.intent_at, "words", 0, 0)
    assert seconds_until(database, row.due_at) <= 0


def test_what_is_done_skipped_or_unknown_is_not_sent_again(stored: Database) -> None:
    plan_all(stored, planned())
    done = done_follow_up(stored)
    plan_all(stored, planned(skip_reason=SkipReason.TOO_OLD, action_key="id-2"))
    for follow_up_id in (done, *(row["follow_up_id"] for row in rows(stored)), "unknown"):
        assert not write(stored, follow_ups.resend, follow_up_id)
    assert work(stored) == []


def test_appointments_that_other_calls_told_are_known_for_the_contact(database: Database) -> None:
    follow_up_id = plan(database)
    assert intend(database, claimed_follow_up(database, follow_up_id), appointment_id="appointment-1")
    with database.reading() as connection:
        assert follow_ups.appointments_used(connection, LOCATION, "contact-1", but_call="call-2") == {"appointment-1"}
        assert follow_ups.appointments_used(connection, LOCATION, "contact-1", but_call="call-1") == set()
        assert follow_ups.appointments_used(connection, LOCATION, "contact-2", but_call="call-2") == set()
        assert follow_ups.has_action_key(connection, LOCATION, "call-1", "id-1")
        assert not follow_ups.has_action_key(connection, LOCATION, "call-1", "id-9")
