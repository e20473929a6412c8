"""Claims, leases and fences: one attempt at a time, and nobody writes after his lease."""

import time
from dataclasses import asdict

import pytest
import sqlalchemy as sa

from models.accounts import pauses
from models.accounts.pauses import PauseCause
from models.calls import calls
from models.calls.calls import CALL
from models.database import Database
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP, UNCLEAR_FROM_THE_LEASE
from models.work import history, lifecycle
from models.work.history import Outcome
from models.work.lifecycle import FAILURES_ALLOWED, Claim, LeaseLost
from models.work.work_rows import Lane, WorkStatus
from tests.support.rows import (
    LOCATION,
    announce,
    call_log,
    call_row,
    change,
    claim_call,
    claim_follow_up,
    claimed_call,
    claimed_follow_up,
    follow_up_row,
    make_due,
    plan,
    read,
    rows_of,
    run_out,
    seconds_until,
    write,
)
from tests.support.waiting import at_once

KEY = (LOCATION, "call-1")


def lose_lease(database: Database, *, isolated: bool = False) -> Claim | None:
    """Claims call-1 and never comes back."""
    got = claim_call(database, "call-1", isolated=isolated)
    if got is not None:
        run_out(database, CALL, KEY)
    return got


def finish(database: Database, claim: Claim) -> None:
    write(database, lifecycle.complete, claim)


def postpone(database: Database, claim: Claim, **how: object) -> None:
    write(database, lifecycle.reschedule, claim, **{"seconds": 5.0, **how})  # type: ignore[arg-type]


def test_one_of_many_who_claim_at_once_gets_the_row(database: Database) -> None:
    announce(database, "call-1", "call-2")
    got = at_once([lambda n=n: claim_call(database, "call-1", worker=f"worker-{n}") for n in range(8)])
    winners = [each for each in got if each is not None]
    assert len(winners) == 1
    row = call_row(database)
    assert (row.status, row.fence, row.attempts) == (WorkStatus.RUNNING, 1, 1)
    assert row.running_on == winners[0].row["running_on"]
    assert call_row(database, "call-2").status == WorkStatus.PENDING


def test_one_of_many_takes_over_a_lease_that_ran_out(database: Database) -> None:
    announce(database, "call-1")
    lose_lease(database)
    got = at_once([lambda: claim_call(database, "call-1") for _ in range(8)])
    assert [each.fence for each in got if each is not None] == [2]
    assert call_row(database).lost_leases == 1


def test_a_claim_says_what_it_holds_and_until_when(database: Database) -> None:
    announce(database, "call-1")
    claim = claim_call(database, "call-1")
    assert claim is not None
    row = call_row(database)
    assert 55 < seconds_until(database, row.lease_until) <= 60
    assert row.due_at == row.lease_until
    assert row.claimed_at == claim.claimed_at
    assert dict(claim.row) == asdict(row)
    assert 0 < claim.seconds_left <= 20
    assert claim.deadline < time.monotonic() + 21


@pytest.mark.parametrize("status", [WorkStatus.DONE, WorkStatus.DEAD, WorkStatus.SKIPPED])
def test_what_has_ended_is_not_claimed(database: Database, status: WorkStatus) -> None:
    announce(database, "call-1")
    change(database, CALL, KEY, status=status)
    assert claim_call(database, "call-1") is None


def test_what_is_not_due_is_not_claimed(database: Database) -> None:
    postpone(database, claimed_call(database), seconds=60)
    assert claim_call(database, "call-1") is None


def test_what_somebody_holds_is_not_claimed(database: Database) -> None:
    claimed_call(database)
    assert claim_call(database, "call-1") is None
    assert call_row(database).attempts == 1


def test_an_unknown_row_is_not_claimed(database: Database) -> None:
    assert claim_call(database, "nobody-announced-it") is None


def test_a_paused_account_is_not_claimed_from_until_it_is_resumed(database: Database) -> None:
    announce(database, "call-1")
    write(database, pauses.pause, LOCATION, cause=PauseCause.TOKEN, detail="set a new one")
    assert claim_call(database, "call-1") is None
    write(database, pauses.resume, LOCATION)
    assert claim_call(database, "call-1") is not None


def test_a_pause_of_one_kind_of_work_leaves_the_other_to_go_on(database: Database) -> None:
    follow_up_id = plan(database)
    write(database, pauses.pause, LOCATION, cause=PauseCause.SCOPE, detail="contacts.write", work="follow_up")
    assert claim_follow_up(database, follow_up_id) is None
    assert claim_call(database, "call-1") is not None


def test_a_worker_that_comes_back_after_its_lease_finishes_nothing(database: Database) -> None:
    late = claimed_call(database)
    run_out(database, CALL, KEY)
    present = claim_call(database, "call-1", worker="worker-2")
    assert present is not None
    with pytest.raises(LeaseLost):
        finish(database, late)
    with pytest.raises(LeaseLost):
        postpone(database, late)
    with pytest.raises(LeaseLost), database.transaction() as connection:
        lifecycle.dead_letter(connection, late, cause="not_found")
    with pytest.raises(LeaseLost), database.transaction() as connection:
        lifecycle.discard(connection, late)
    with pytest.raises(LeaseLost), database.transaction() as connection:
        lifecycle.abort(connection, late, error="KeyError", first_seconds=5)
    row = call_row(database)
    assert (row.status, row.fence, row.running_on) == (WorkStatus.RUNNING, present.fence, "worker-2")
    finish(database, present)


def test_the_whole_transaction_of_a_late_worker_is_rolled_back(database: Database) -> None:
    late = claimed_call(database)
    run_out(database, CALL, KEY)
    claim_call(database, "call-1")

    def store(connection: sa.Connection) -> None:
        calls.save(
            connection, LOCATION, call_log(summary="late"), read_at=late.claimed_at, settled=True, stored=late.row
        )
        lifecycle.complete(connection, late)

    with pytest.raises(LeaseLost):
        database.transact(store)
    row = call_row(database)
    assert row.summary is None
    assert row.stored_at is None
    assert [each["outcome"] for each in rows_of(database, history.attempts_table)] == [Outcome.LEASE_LOST]


def test_a_worker_may_still_finish_after_its_lease_when_nobody_took_over(database: Database) -> None:
    claim = claimed_call(database)
    run_out(database, CALL, KEY)
    finish(database, claim)
    assert call_row(database).status == WorkStatus.DONE


def test_a_finished_row_cannot_be_finished_again(database: Database) -> None:
    claim = claimed_call(database)
    finish(database, claim)
    with pytest.raises(LeaseLost):
        finish(database, claim)
    assert len(rows_of(database, history.attempts_table)) == 1


def test_writing_under_the_lease_wants_enough_of_it_left(database: Database) -> None:
    claim = claimed_call(database)
    with database.transaction() as connection:
        assert not lifecycle.update_under_lease(connection, claim, seconds=70, last_error="x")
        assert lifecycle.update_under_lease(connection, claim, seconds=50, last_error="y")
    run_out(database, CALL, KEY)
    with database.transaction() as connection:
        assert not lifecycle.update_under_lease(connection, claim, seconds=0, last_error="z")
    assert call_row(database).last_error == "y"


def test_a_run_out_lease_is_taken_over_counted_and_told(database: Database) -> None:
    first = claimed_call(database)
    run_out(database, CALL, KEY)
    second = claim_call(database, "call-1")
    assert second is not None
    assert (second.fence, second.row["lost_leases"], second.row["lost_isolated"]) == (2, 1, 0)
    (told,) = rows_of(database, history.attempts_table)
    assert (told["outcome"], told["fence"], told["started_at"]) == (Outcome.LEASE_LOST, first.fence, None)
    assert (told["work"], told["location_id"], told["call_id"]) == ("call", LOCATION, "call-1")


def test_a_row_that_lost_two_leases_is_given_out_alone_only(database: Database) -> None:
    announce(database, "call-1")
    lose_lease(database)
    assert not read(database, lifecycle.needs_isolation, CALL, KEY)
    lose_lease(database)
    assert claim_call(database, "call-1") is None
    assert read(database, lifecycle.needs_isolation, CALL, KEY)
    alone = claim_call(database, "call-1", isolated=True)
    assert alone is not None
    assert alone.row["isolated"]
    assert (alone.row["lost_leases"], alone.row["lost_isolated"]) == (2, 0)
    assert not read(database, lifecycle.needs_isolation, CALL, KEY), "it runs"


def test_a_lease_lost_alone_twice_makes_the_row_dead_of_poison(database: Database) -> None:
    announce(database, "call-1", "call-2")
    for isolated in (False, False, True, True):
        assert lose_lease(database, isolated=isolated) is not None
    assert claim_call(database, "call-1", isolated=True) is None
    row = call_row(database)
    assert (row.status, row.dead_cause, row.due_at) == (WorkStatus.DEAD, "poison", None)
    outcomes = [each["outcome"] for each in rows_of(database, history.attempts_table)]
    assert outcomes == [Outcome.LEASE_LOST] * 4 + [Outcome.DEAD]
    neighbour = call_row(database, "call-2")
    assert (neighbour.status, neighbour.lost_leases, neighbour.attempts) == (WorkStatus.PENDING, 0, 0)


@pytest.mark.parametrize("outcome", ["postponed", "not a try", "finished", "given up", "broken off"])
def test_any_recorded_outcome_resets_the_count_of_lost_leases(database: Database, outcome: str) -> None:
    announce(database, "call-1")
    for isolated in (False, False, True):
        lose_lease(database, isolated=isolated)
    claim = claim_call(database, "call-1", isolated=True)
    assert claim is not None
    assert claim.row["lost_isolated"] == 1
    with database.transaction() as connection:
        match outcome:
            case "postponed":
                lifecycle.reschedule(connection, claim, seconds=1)
            case "not a try":
                lifecycle.reschedule(connection, claim, seconds=1, tried=False)
            case "finished":
                lifecycle.complete(connection, claim)
            case "given up":
                lifecycle.dead_letter(connection, claim, cause="not_found")
            case "broken off":
                lifecycle.abort(connection, claim, error="KeyError", first_seconds=1)
    row = call_row(database)
    assert (row.lost_leases, row.lost_isolated, row.isolated) == (0, 0, False)
    assert (row.lease_until, row.claimed_at, row.running_on) == (None, None, None)


def test_a_postponed_row_is_due_later_and_its_uncounted_try_is_given_back(database: Database) -> None:
    claim = claimed_call(database)
    postpone(database, claim, seconds=30, error="throttled", http_status=429)
    row = call_row(database)
    assert 25 < seconds_until(database, row.due_at) <= 30
    assert (row.status, row.attempts, row.failures, row.lane) == (WorkStatus.PENDING, 0, 0, Lane.LIVE)
    assert row.last_error == "throttled"
    (told,) = rows_of(database, history.attempts_table)
    assert (told["outcome"], told["error"], told["http_status"]) == (Outcome.POSTPONED, "throttled", 429)
    assert told["started_at"] == claim.claimed_at
    assert told["worker"] == "worker-1"


def test_waiting_for_the_budget_leaves_no_trace_in_the_history(database: Database) -> None:
    postpone(database, claimed_call(database), tried=False)
    assert call_row(database).attempts == 0
    assert rows_of(database, history.attempts_table) == []


def test_a_counted_try_is_kept_and_sinks_to_the_retries(database: Database) -> None:
    postpone(database, claimed_call(database), counted=True)
    row = call_row(database)
    assert (row.attempts, row.failures, row.lane) == (1, 0, Lane.RETRY)
    make_due(database, CALL, KEY)
    claim = claim_call(database, "call-1")
    assert claim is not None
    postpone(database, claim, counted=True, failed=True)
    row = call_row(database)
    assert (row.attempts, row.failures, row.lane) == (2, 1, Lane.RETRY)


def test_a_retry_of_the_backfill_does_not_rise(database: Database) -> None:
    announce(database, "call-1", lane=Lane.BACKFILLED)
    claim = claim_call(database, "call-1")
    assert claim is not None
    postpone(database, claim, counted=True)
    assert call_row(database).lane == Lane.BACKFILLED


def test_delays_double_up_to_ten_minutes_and_half_of_each_is_chance() -> None:
    for attempt, longest in ((1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (9, 600), (5000, 600)):
        delays = [lifecycle.backoff(attempt, first_seconds=5) for _ in range(50)]
        assert longest / 2 <= min(delays)
        assert max(delays) <= longest
        assert len(set(delays)) > 1


def test_what_is_asked_for_while_it_runs_is_due_at_once_when_postponed(database: Database) -> None:
    claim = claimed_call(database)
    announce(database, "call-1")
    postpone(database, claim, seconds=600)
    assert seconds_until(database, call_row(database).due_at) <= 0
    again = claim_call(database, "call-1")
    assert again is not None
    postpone(database, again, seconds=600)
    assert seconds_until(database, call_row(database).due_at) > 500, "asked once, repeated once"


def test_a_replay_while_it_runs_makes_the_finished_row_due_again(database: Database) -> None:
    claim = claimed_call(database)
    assert write(database, calls.replay, *KEY)
    finish(database, claim)
    assert call_row(database).status == WorkStatus.PENDING
    again = claim_call(database, "call-1")
    assert again is not None
    finish(database, again)
    assert call_row(database).status == WorkStatus.DONE, "replayed once, read once more"


def test_a_notification_while_it_runs_does_not_repeat_what_is_finished(database: Database) -> None:
    claim = claimed_call(database)
    announce(database, "call-1")
    finish(database, claim)
    row = call_row(database)
    assert (row.status, row.due_at) == (WorkStatus.DONE, None)


def test_what_is_asked_for_while_it_runs_is_not_given_up_but_due_at_once(database: Database) -> None:
    claim = claimed_call(database)
    announce(database, "call-1")
    write(database, lifecycle.dead_letter, claim, cause="not_found", status=WorkStatus.DEAD)
    row = call_row(database)
    assert (row.status, row.dead_cause) == (WorkStatus.PENDING, None)
    again = claim_call(database, "call-1")
    assert again is not None
    write(database, lifecycle.dead_letter, again, cause="not_found")
    row = call_row(database)
    assert (row.status, row.dead_cause, row.due_at) == (WorkStatus.DEAD, "not_found", None)


def test_an_attempt_that_broke_is_made_again_and_dead_after_too_many(database: Database) -> None:
    announce(database, "call-1")
    for number in range(1, FAILURES_ALLOWED + 1):
        make_due(database, CALL, KEY)
        claim = claim_call(database, "call-1")
        assert claim is not None
        write(database, lifecycle.abort, claim, error="KeyError", first_seconds=5)
        row = call_row(database)
        assert row.failures == row.attempts == number
    assert (row.status, row.dead_cause, row.due_at) == (WorkStatus.DEAD, "broken", None)
    assert row.last_error == "KeyError"


def test_an_attempt_that_broke_for_the_last_time_is_made_again_when_asked_for_meanwhile(database: Database) -> None:
    announce(database, "call-1")
    change(database, CALL, KEY, failures=FAILURES_ALLOWED - 1)
    claim = claim_call(database, "call-1")
    assert claim is not None
    with database.transaction() as connection:
        calls.replay(connection, *KEY)
        lifecycle.abort(connection, claim, error="KeyError", first_seconds=5)
    row = call_row(database)
    assert (row.status, row.dead_cause) == (WorkStatus.PENDING, None)
    assert claim_call(database, "call-1") is not None


def test_a_follow_up_that_broke_before_its_request_is_tried_again(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    write(database, lifecycle.abort, claim, error="KeyError", first_seconds=5)
    row = follow_up_row(database, follow_up_id)
    assert (row.status, row.unclear_since) == (WorkStatus.PENDING, None)


@pytest.mark.parametrize("failures", [0, FAILURES_ALLOWED - 1])
def test_a_follow_up_that_broke_after_its_intent_is_unclear_and_never_dead(database: Database, failures: int) -> None:
    follow_up_id = plan(database)
    change(database, FOLLOW_UP, (follow_up_id,), failures=failures)
    claim = claimed_follow_up(database, follow_up_id)
    with database.transaction() as connection:
        assert follow_ups.intend(connection, claim, seconds=5)
        lifecycle.abort(connection, claim, error="KeyError", first_seconds=5)
    row = follow_up_row(database, follow_up_id)
    assert (row.status, row.dead_cause) == (WorkStatus.UNCLEAR, None)
    assert row.unclear_since is not None
    assert (row.due_at is None) == (failures > 0), "at last a person has to look"


def test_whoever_died_after_the_intent_left_it_unclear_since_the_end_of_the_lease(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    write(database, follow_ups.intend, claim, seconds=5)
    run_out(database, FOLLOW_UP, (follow_up_id,))
    lease_end = follow_up_row(database, follow_up_id).lease_until
    taken_over = claimed_follow_up(database, follow_up_id, extra=UNCLEAR_FROM_THE_LEASE)
    assert taken_over.row["unclear_since"] == lease_end
    run_out(database, FOLLOW_UP, (follow_up_id,))
    once_more = claimed_follow_up(database, follow_up_id, extra=UNCLEAR_FROM_THE_LEASE, isolated=True)
    assert once_more.row["unclear_since"] == lease_end, "it counts from the first"


def test_an_unclear_row_keeps_its_window_whoever_asks(database: Database) -> None:
    follow_up_id = plan(database)
    claim = claimed_follow_up(database, follow_up_id)
    change(database, FOLLOW_UP, (follow_up_id,), requested=7)
    postpone(database, claim, seconds=120, status=WorkStatus.UNCLEAR)
    assert seconds_until(database, follow_up_row(database, follow_up_id).due_at) > 100


def test_a_row_that_is_no_work_is_dropped_with_a_line_in_the_history(database: Database) -> None:
    announce(database, "call-2")
    claim = claimed_call(database)
    write(database, lifecycle.discard, claim, error="wrong_kind", http_status=422)
    assert [row["call_id"] for row in rows_of(database, calls.calls_table)] == ["call-2"]
    (told,) = rows_of(database, history.attempts_table)
    assert (told["outcome"], told["error"], told["http_status"]) == (Outcome.DROPPED, "wrong_kind", 422)


def test_finishing_clears_what_an_earlier_failure_left(database: Database) -> None:
    postpone(database, claimed_call(database), counted=True, failed=True, error="HTTP 500")
    make_due(database, CALL, KEY)
    claim = claim_call(database, "call-1")
    assert claim is not None
    finish(database, claim)
    row = call_row(database)
    assert (row.status, row.failures, row.last_error, row.attempts) == (WorkStatus.DONE, 0, None, 2)
    assert row.due_at is None
