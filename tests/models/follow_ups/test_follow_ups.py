"""Follow-ups: planned once, intended under the lease, settled by a person where nothing else can."""

import pytest
import sqlalchemy as sa

from models.database import Database, moment
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP
from models.follow_ups.rules import PlannedFollowUp, SkipReason
from models.work import lifecycle
from models.work.lifecycle import Claim
from models.work.work_rows import Lane, WorkStatus
from tests.support.rows import (
    LOCATION,
    announce,
    change,
    claim_follow_up,
    claimed_follow_up,
    follow_up_row,
    make_due,
    plan,
    planned,
    rows_of,
    run_out,
    seconds_until,
    write,
)


def plan_all(
    database: Database, *wanted: PlannedFollowUp, delay_seconds: float = 0, lane: Lane = Lane.FOLLOW_UP
) -> int:
    announce(database, "call-1")
    return write(database, follow_ups.plan, LOCATION, "call-1", wanted, delay_seconds=delay_seconds, lane=lane)


def rows(database: Database) -> list[sa.RowMapping]:
    return rows_of(database, follow_ups.follow_ups_table)


def intend(database: Database, claim: Claim, *, seconds: float = 20, **words: str) -> bool:
    return write(database, follow_ups.intend, claim, seconds=seconds, **words)


def become_unclear(database: Database, follow_up_id: str) -> None:
    claim = claimed_follow_up(database, follow_up_id)
    assert intend(database, claim, body="words")
    with database.transaction() as connection:
        lifecycle.reschedule(
            connection, claim, seconds=120, status=WorkStatus.UNCLEAR, counted=True, unclear_since=moment(-60)
        )


def become_done(database: Database, follow_up_id: str) -> None:
    claim = claimed_follow_up(database, follow_up_id)
    assert intend(database, claim, body="words")
    with database.transaction() as connection:
        lifecycle.complete(connection, claim, remote_id="note-1", done_at=moment())


def test_planning_twice_plans_once(database: Database) -> None:
    assert plan_all(database, planned(), planned(rule_id="other"), planned(action_key="id-2")) == 3
    before = rows(database)
    assert plan_all(database, planned(), planned(rule_id="other"), planned(action_key="id-2")) == 3
    assert rows(database) == before
    assert len({row["follow_up_id"] for row in before}) == 3


def test_a_fuller_log_adds_what_is_new_and_repeats_nothing_that_is_done(database: Database) -> None:
    plan_all(database, planned())
    (first,) = rows(database)
    become_done(database, first["follow_up_id"])
    assert plan_all(database, planned(), planned(action_key="id-2")) == 1
    status = {row["action_key"]: row["status"] for row in rows(database)}
    assert status == {"id-1": WorkStatus.DONE, "id-2": WorkStatus.PENDING}


def test_nothing_to_plan_writes_nothing(database: Database) -> None:
    assert plan_all(database) == 0
    assert rows(database) == []


def test_what_waits_for_the_summary_is_brought_forward_when_it_came(database: Database) -> None:
    assert plan_all(database, planned(), delay_seconds=120) == 0
    (row,) = rows(database)
    assert 100 < seconds_until(database, row["due_at"]) <= 120
    assert plan_all(database, planned(), delay_seconds=60) == 0
    assert rows(database) == [row], "a wait is not begun anew, nor shortened"
    assert plan_all(database, planned()) == 1
    assert seconds_until(database, rows(database)[0]["due_at"]) <= 0


def test_a_follow_up_that_waits_after_a_try_is_not_brought_forward_by_planning_again(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    write(database, lifecycle.reschedule, claim, seconds=300, counted=True)
    assert plan_all(database, planned()) == 0
    assert seconds_until(database, follow_up_row(database, follow_up_id).due_at) > 200


@pytest.mark.parametrize("reason", list(SkipReason))
def test_what_is_skipped_is_written_down_with_its_reason_and_never_sent(database: Database, reason: SkipReason) -> None:
    assert plan_all(database, planned(skip_reason=reason)) == 0
    (row,) = rows(database)
    assert (row["status"], row["skip_reason"], row["due_at"]) == (WorkStatus.SKIPPED, reason, None)
    assert claim_follow_up(database, row["follow_up_id"]) is None


def test_what_was_skipped_for_want_of_a_contact_is_due_when_a_fuller_log_names_one(database: Database) -> None:
    plan_all(database, planned(contact_id=None, skip_reason=SkipReason.NO_CONTACT))
    plan_all(database, planned(contact_id=None, skip_reason=SkipReason.NO_CONTACT))
    assert rows(database)[0]["status"] == WorkStatus.SKIPPED
    assert plan_all(database, planned(contact_id="contact-1")) == 1
    (row,) = rows(database)
    assert (row["status"], row["skip_reason"], row["contact_id"]) == (WorkStatus.PENDING, None, "contact-1")
    plan_all(database, planned(contact_id=None, skip_reason=SkipReason.NO_CONTACT))
    assert rows(database)[0]["status"] == WorkStatus.PENDING, "and a poorer log takes nothing back"


@pytest.mark.parametrize("reason", [SkipReason.TRIAL_CALL, SkipReason.TOO_OLD])
def test_what_was_skipped_for_another_reason_stays_skipped(database: Database, reason: SkipReason) -> None:
    plan_all(database, planned(skip_reason=reason))
    assert plan_all(database, planned()) == 0
    assert rows(database)[0]["status"] == WorkStatus.SKIPPED


def test_follow_ups_of_the_history_wait_in_its_lane(database: Database) -> None:
    plan_all(database, planned(), lane=Lane.BACKFILLED)
    assert rows(database)[0]["lane"] == Lane.BACKFILLED


def test_an_intent_is_written_with_its_words_under_the_lease(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    assert intend(database, claim, body="words")
    row = follow_up_row(database, follow_up_id)
    assert (row.body, row.posts, row.absences, row.unclear_since) == ("words", 1, 0, None)
    assert row.intent_at is not None


def test_no_intent_when_too_little_of_the_lease_is_left(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    assert not intend(database, claim, seconds=61)
    run_out(database, FOLLOW_UP, (follow_up_id,))
    assert not intend(database, claim, seconds=0)
    assert follow_up_row(database, follow_up_id).intent_at is None


def test_no_intent_when_somebody_took_over(database: Database) -> None:
    follow_up_id = plan(database)
    late = claimed_follow_up(database, follow_up_id)
    run_out(database, FOLLOW_UP, (follow_up_id,))
    present = claimed_follow_up(database, follow_up_id)
    assert not intend(database, late)
    assert intend(database, present)
    assert follow_up_row(database, follow_up_id).posts == 1


def test_no_intent_after_the_end(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    write(database, lifecycle.complete, claim, remote_id="note-1", done_at=moment())
    assert not intend(database, claim)


def test_a_person_who_found_it_settles_an_unclear_one(database: Database) -> None:
    follow_up_id = plan(database)
    become_unclear(database, follow_up_id)
    with database.transaction() as connection:
        assert follow_ups.settle_by_person(connection, follow_up_id, is_there=True)
        assert not follow_ups.settle_by_person(connection, follow_up_id, is_there=True)
    row = follow_up_row(database, follow_up_id)
    assert (row.status, row.due_at, row.unclear_since) == (WorkStatus.DONE, None, None)
    assert (row.last_error, row.dead_cause) == (None, None)
    assert row.done_at is not None


def test_a_person_who_did_not_find_it_has_it_sent_again(database: Database) -> None:
    follow_up_id = plan(database)
    become_unclear(database, follow_up_id)
    assert write(database, follow_ups.settle_by_person, follow_up_id, is_there=False)
    row = follow_up_row(database, follow_up_id)
    assert (row.status, row.intent_at, row.unclear_since) == (WorkStatus.PENDING, None, None)
    assert (row.posts, row.absences) == (0, 0)
    assert claim_follow_up(database, follow_up_id) is not None


@pytest.mark.parametrize("is_there", [True, False])
def test_a_person_settles_nothing_while_it_runs_and_nothing_unknown(database: Database, is_there: bool) -> None:
    follow_up_id = plan(database)
    become_unclear(database, follow_up_id)
    make_due(database, FOLLOW_UP, (follow_up_id,))
    claimed_follow_up(database, follow_up_id)
    with database.transaction() as connection:
        assert not follow_ups.settle_by_person(connection, follow_up_id, is_there=is_there)
        assert not follow_ups.settle_by_person(connection, "unknown", is_there=is_there)
        assert not follow_ups.resend(connection, follow_up_id)
    assert follow_up_row(database, follow_up_id).status == WorkStatus.RUNNING


def test_a_dead_one_that_never_got_out_is_sent_again_at_once(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    write(database, lifecycle.dead_letter, claim, cause="contact_unknown")
    assert write(database, follow_ups.resend, follow_up_id)
    row = follow_up_row(database, follow_up_id)
    assert (row.status, row.dead_cause, row.unclear_since) == (WorkStatus.PENDING, None, None)
    assert claim_follow_up(database, follow_up_id) is not None


def test_a_dead_one_that_may_have_got_out_is_looked_for_first(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    assert intend(database, claim, body="words")
    write(database, lifecycle.dead_letter, claim, cause="poison")
    intent_at = follow_up_row(database, follow_up_id).intent_at
    assert write(database, follow_ups.resend, follow_up_id)
    row = follow_up_row(database, follow_up_id)
    assert (row.status, row.unclear_since, row.body) == (WorkStatus.UNCLEAR, intent_at, "words")
    assert (row.intent_at, row.absences, row.posts) == (intent_at, 0, 0)
    assert claim_follow_up(database, follow_up_id) is not None


def test_an_unclear_one_is_looked_for_at_once_when_a_person_asks_and_its_window_stays(database: Database) -> None:
    follow_up_id = plan(database)
    become_unclear(database, follow_up_id)
    since = follow_up_row(database, follow_up_id).unclear_since
    assert write(database, follow_ups.resend, follow_up_id)
    row = follow_up_row(database, follow_up_id)
    assert (row.status, row.unclear_since) == (WorkStatus.UNCLEAR, since)
    assert seconds_until(database, row.due_at) <= 0


def test_what_is_done_or_skipped_is_not_sent_again(database: Database) -> None:
    plan_all(database, planned(skip_reason=SkipReason.TOO_OLD), planned(action_key="id-2"))
    skipped, done = (row["follow_up_id"] for row in sorted(rows(database), key=lambda row: row["action_key"]))
    become_done(database, done)
    for follow_up_id in (skipped, done):
        with database.transaction() as connection:
            assert not follow_ups.resend(connection, follow_up_id)
    assert [row["status"] for row in rows(database)].count(WorkStatus.SKIPPED) == 1


def test_whoever_held_it_when_a_person_decided_writes_nothing(database: Database) -> None:
    follow_up_id = plan(database)
    become_unclear(database, follow_up_id)
    stale = claimed_follow_up_as_it_was(database, follow_up_id)
    write(database, follow_ups.settle_by_person, follow_up_id, is_there=False)
    assert not intend(database, stale)
    with pytest.raises(lifecycle.LeaseLost), database.transaction() as connection:
        lifecycle.complete(connection, stale)


def claimed_follow_up_as_it_was(database: Database, follow_up_id: str) -> Claim:
    row = follow_up_row(database, follow_up_id)
    return Claim(FOLLOW_UP, (follow_up_id,), row.fence, 1, 0, row.planned_at, 0.0, row)


def test_appointments_that_other_calls_told_are_known_for_the_contact(database: Database) -> None:
    plan_all(database, planned())
    (row,) = rows(database)
    change(database, FOLLOW_UP, (row["follow_up_id"],), appointment_id="appointment-1")
    with database.reading() as connection:
        assert follow_ups.appointments_used(connection, LOCATION, "contact-1", but_call="call-2") == {"appointment-1"}
        assert follow_ups.appointments_used(connection, LOCATION, "contact-1", but_call="call-1") == set()
        assert follow_ups.appointments_used(connection, LOCATION, "contact-2", but_call="call-2") == set()
        assert follow_ups.has_action_key(connection, LOCATION, "call-1", "id-1")
        assert not follow_ups.has_action_key(connection, LOCATION, "call-1", "id-9")
