"""Claims, leases and fences: one attempt at a time, and nobody writes after his lease."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from models.accounts import pauses
from models.accounts.pauses import PauseCause
from models.calls import calls
from models.database import Database
from models.follow_ups import follow_ups
from models.reconciling import windows
from models.work import history, lifecycle
from models.work.history import Outcome
from models.work.lifecycle import FAILURES_ALLOWED, Claim, LeaseLost
from models.work.work_rows import IS_THIS_ROW, Lane, WorkKey, WorkStatus, work_table
from tests.support.rows import (
    LOCATION,
    announce,
    call_log,
    change,
    claim_call,
    claim_follow_up,
    claim_work,
    claimed_call,
    make_due,
    plan,
    read,
    rows_of,
    run_out,
    seconds_until,
    standing_call,
    store_reading,
    write,
)
from tests.support.waiting import at_once

KEY = calls.work_key(LOCATION, "call-1")
WINDOW_KEY = windows.work_key(LOCATION, "regular")


def row_of(database: Database, key: WorkKey = KEY) -> Any:
    """The row of work with all its columns; None: nothing is open."""
    with database.reading() as connection:
        return connection.execute(sa.select(work_table).where(IS_THIS_ROW), key.parameters).one_or_none()


def status_of(database: Database) -> str:
    standing = standing_call(database)
    return "complete" if standing is None else standing.status


def claim_again(database: Database, **how: Any) -> Claim:
    got = claim_call(database, "call-1", **how)
    assert got is not None
    return got


def lose_lease(database: Database, *, isolated: bool = False) -> None:
    """Claims call-1 and never comes back."""
    claim_again(database, isolated=isolated)
    run_out(database, KEY)


def complete(database: Database, claim: Claim) -> None:
    write(database, lifecycle.complete, claim)


def reschedule(database: Database, claim: Claim, **how: Any) -> None:
    write(database, lifecycle.reschedule, claim, **{"seconds": 5.0, **how})


def told(database: Database) -> Sequence[sa.RowMapping]:
    return rows_of(database, history.attempts_table)


# Claims


def test_one_of_many_who_claim_at_once_gets_the_row(database: Database) -> None:
    announce(database, "call-1", "call-2")
    got = at_once([lambda n=n: claim_call(database, "call-1", worker=f"worker-{n}") for n in range(8)])
    (winner,) = [each for each in got if each is not None]
    row = row_of(database)
    assert (status_of(database), row.fence, row.attempts) == (WorkStatus.RUNNING, winner.fence, 1)
    assert row.running_on == winner.worker
    assert row_of(database, calls.work_key(LOCATION, "call-2")).lease_until is None


def test_one_of_many_takes_over_a_lease_that_ran_out(database: Database) -> None:
    announce(database, "call-1")
    lose_lease(database)
    before = row_of(database)
    got = at_once([lambda: claim_call(database, "call-1") for _ in range(8)])
    (winner,) = [each for each in got if each is not None]
    assert winner.fence > before.fence
    assert (winner.lease_lost_at, winner.lost_leases) == (before.lease_until, 1)
    assert [(each["outcome"], each["fence"], each["started_at"]) for each in told(database)] == [
        (Outcome.LEASE_LOST, None, None)
    ]


def test_a_later_claim_of_any_kind_has_a_greater_fence(database: Database) -> None:
    follow_up_id = plan(database)
    follow_up = follow_ups.work_key(LOCATION, follow_up_id)
    announce(database, "call-2", "call-3")
    write(database, lifecycle.add, WINDOW_KEY, lane=Lane.RECONCILED)
    fences = []
    for key in (calls.work_key(LOCATION, "call-2"), WINDOW_KEY, follow_up, calls.work_key(LOCATION, "call-3")):
        claim = claim_work(database, key)
        assert claim is not None
        fences.append(claim.fence)
    write(database, lifecycle.take_from_worker, follow_up)  # a person's is one of them
    fences.append(row_of(database, follow_up).fence)
    again = claim_work(database, calls.work_key(LOCATION, "call-1"))
    assert again is None, "nothing is open, so no number is taken"
    run_out(database, WINDOW_KEY)
    taken_over = claim_work(database, WINDOW_KEY)
    assert taken_over is not None
    assert [*fences, taken_over.fence] == sorted({*fences, taken_over.fence})


def test_claims_of_different_rows_at_once_get_different_fences(database: Database) -> None:
    announce(database, *(f"call-{n}" for n in range(8)))
    got = at_once([lambda n=n: claim_call(database, f"call-{n}") for n in range(8)])
    assert len({each.fence for each in got if each is not None}) == 8


def test_a_claim_says_what_it_holds_and_until_when(database: Database) -> None:
    claim = claimed_call(database)
    row = row_of(database)
    assert 55 < seconds_until(database, row.lease_until) <= 60
    assert row.due_at == row.lease_until
    same = ("fence", "lane", "attempts", "failures", "lost_leases", "requested", "claimed_at", "created_at")
    assert [getattr(claim, name) for name in same] == [getattr(row, name) for name in same]
    assert claim.request is not None
    assert claim.request.first_heard_at == claim.request.announced_at == row.first_heard_at
    assert 0 < claim.seconds_left <= 20
    assert claim.deadline < time.monotonic() + 21


END: dict[str, Callable[[Database, Claim], None]] = {
    "completed": complete,
    "dead": lambda database, claim: write(database, lifecycle.dead_letter, claim, cause="not_found"),
    "waiting for a person": lambda database, claim: reschedule(database, claim, seconds=None),
    "not due": lambda database, claim: reschedule(database, claim, seconds=60),
    "leased": lambda database, claim: None,
}


@pytest.mark.parametrize("how", list(END))
def test_what_is_not_due_is_not_claimed(database: Database, how: str) -> None:
    claim = claimed_call(database)
    END[how](database, claim)
    if how in ("dead", "waiting for a person"):
        assert row_of(database).due_at is None
    assert claim_call(database, "call-1") is None
    assert claim_call(database, "nobody-announced-it") is None


def test_a_paused_account_is_not_claimed_from_until_it_is_resumed(database: Database) -> None:
    announce(database, "call-1")
    write(database, pauses.pause, LOCATION, cause=PauseCause.TOKEN, detail="set a new one")
    assert claim_call(database, "call-1") is None
    write(database, pauses.resume, LOCATION)
    claim_again(database)


def test_a_pause_of_one_kind_of_work_leaves_the_other_to_go_on(database: Database) -> None:
    follow_up_id = plan(database)
    announce(database, "call-2")
    write(database, pauses.pause, LOCATION, cause=PauseCause.SCOPE, detail="contacts.write", work="follow_up")
    assert claim_follow_up(database, follow_up_id) is None
    assert claim_call(database, "call-2") is not None


# After the lease


ENDINGS: dict[str, Callable[[sa.Connection, Claim], object]] = {
    "complete": lifecycle.complete,
    "reschedule": lambda connection, claim: lifecycle.reschedule(connection, claim, seconds=5),
    "go on": lifecycle.go_on,
    "dead-letter": lambda connection, claim: lifecycle.dead_letter(connection, claim, cause="not_found"),
    "discard": lifecycle.discard,
    "abort": lambda connection, claim: lifecycle.abort(connection, claim, error="KeyError", first_seconds=5),
}


@pytest.mark.parametrize("ending", list(ENDINGS))
@pytest.mark.parametrize("by", ["another worker", "a person", "nobody: it is complete"])
def test_a_worker_that_comes_back_after_its_lease_ends_nothing(database: Database, ending: str, by: str) -> None:
    late = claimed_call(database)
    if by == "another worker":
        run_out(database, KEY)
        claim_again(database, worker="worker-2")
    elif by == "a person":
        write(database, lifecycle.start_over, KEY, lane=Lane.LIVE)
    else:
        complete(database, late)
    before, history_before = row_of(database), told(database)
    with pytest.raises(LeaseLost):
        write(database, ENDINGS[ending], late)
    assert not write(database, lifecycle.hold, late, seconds=0)
    assert (row_of(database), told(database)) == (before, history_before)


def test_the_whole_transaction_of_a_late_worker_is_rolled_back(database: Database) -> None:
    late = claimed_call(database)
    run_out(database, KEY)
    claim_again(database)

    def store(connection: sa.Connection) -> None:
        store_reading(connection, late, call_log(summary="late"))
        lifecycle.complete(connection, late)

    with pytest.raises(LeaseLost):
        database.transact(store)
    assert read(database, calls.get, LOCATION, "call-1") is None
    assert [each["outcome"] for each in told(database)] == [Outcome.LEASE_LOST]


def test_a_worker_may_still_complete_after_its_lease_when_nobody_took_over(database: Database) -> None:
    claim = claimed_call(database)
    run_out(database, KEY)
    complete(database, claim)
    assert row_of(database) is None


def test_a_row_is_held_only_while_enough_of_the_lease_is_left(database: Database) -> None:
    claim = claimed_call(database)
    assert not write(database, lifecycle.hold, claim, seconds=70)
    assert write(database, lifecycle.hold, claim, seconds=50)
    run_out(database, KEY)
    assert not write(database, lifecycle.hold, claim, seconds=0)


# Poison


def test_a_row_that_lost_two_leases_is_claimed_only_in_isolation(database: Database) -> None:
    announce(database, "call-1")
    lose_lease(database)
    assert not read(database, lifecycle.needs_isolation, KEY)
    lose_lease(database)
    assert claim_call(database, "call-1") is None
    assert read(database, lifecycle.needs_isolation, KEY)
    claim_again(database, isolated=True)
    row = row_of(database)
    assert (row.isolated, row.lost_leases, row.lost_isolated) == (True, 2, 0)
    assert not read(database, lifecycle.needs_isolation, KEY), "it runs"


@pytest.mark.parametrize("key", [KEY, WINDOW_KEY])
def test_two_leases_lost_in_isolation_make_a_row_dead_of_poison_if_its_kind_may_die(
    database: Database, key: WorkKey
) -> None:
    announce(database, "call-2")
    write(database, lifecycle.add, key, lane=Lane.LIVE)
    for isolated in (False, False, True, True):
        assert claim_work(database, key, isolated=isolated) is not None
        run_out(database, key)
    seen: list[bool] = []
    claim = claim_work(database, key, isolated=True, at_claim=lambda _connection, _claim, dead: seen.append(dead))
    row = row_of(database, key)
    outcomes = [each["outcome"] for each in told(database)]
    if key.kind.may_die:
        assert (claim, seen, row.dead_cause, row.due_at) == (None, [True], "poison", None)
        assert outcomes == [Outcome.LEASE_LOST] * 4 + [Outcome.DEAD]
    else:
        assert claim is not None
        assert (seen, row.dead_cause) == ([False], None)
    neighbour = row_of(database, calls.work_key(LOCATION, "call-2"))
    assert (neighbour.lost_leases, neighbour.attempts) == (0, 0)


@pytest.mark.parametrize("ending", ["reschedule", "go on", "dead-letter", "abort"])
def test_any_outcome_resets_the_count_of_lost_leases(database: Database, ending: str) -> None:
    announce(database, "call-1")
    for isolated in (False, False, True):
        lose_lease(database, isolated=isolated)
    claim = claim_again(database, isolated=True)
    assert row_of(database).lost_isolated == 1
    write(database, ENDINGS[ending], claim)
    row = row_of(database)
    assert (row.lost_leases, row.lost_isolated, row.isolated) == (0, 0, False)
    assert (row.lease_until, row.lease_lost_at, row.claimed_at, row.running_on) == (None, None, None, None)


# What an attempt counts for


def test_a_rescheduled_row_is_due_later_and_its_uncounted_try_is_given_back(database: Database) -> None:
    claim = claimed_call(database)
    reschedule(database, claim, seconds=30, error="throttled", http_status=429)
    row = row_of(database)
    assert 25 < seconds_until(database, row.due_at) <= 30
    assert (row.attempts, row.failures, row.lane, row.last_error) == (0, 0, Lane.LIVE, "throttled")
    (attempt,) = told(database)
    assert (attempt["outcome"], attempt["error"], attempt["http_status"]) == (Outcome.POSTPONED, "throttled", 429)
    assert (attempt["kind"], attempt["location_id"], attempt["subject"]) == ("call", LOCATION, "call-1")
    assert (attempt["fence"], attempt["started_at"], attempt["worker"]) == (claim.fence, claim.claimed_at, "worker-1")


def test_waiting_for_the_budget_leaves_no_trace_in_the_history(database: Database) -> None:
    reschedule(database, claimed_call(database), tried=False)
    assert row_of(database).attempts == 0
    assert told(database) == []


def test_a_counted_try_is_kept_and_sinks_to_the_retries(database: Database) -> None:
    reschedule(database, claimed_call(database), counted=True)
    row = row_of(database)
    assert (row.attempts, row.failures, row.lane) == (1, 0, Lane.RETRY)
    make_due(database, KEY)
    reschedule(database, claim_again(database), counted=True, failed=True)
    row = row_of(database)
    assert (row.attempts, row.failures, row.lane) == (2, 1, Lane.RETRY)


def test_a_retry_of_the_backfill_does_not_rise(database: Database) -> None:
    announce(database, "call-1", lane=Lane.BACKFILLED)
    reschedule(database, claim_again(database), counted=True)
    assert row_of(database).lane == Lane.BACKFILLED


def test_a_step_of_several_forgets_the_failures_before_it_and_leaves_no_history(database: Database) -> None:
    reschedule(database, claimed_call(database), counted=True, failed=True, error="HTTP 500", tried=False)
    make_due(database, KEY)
    write(database, lifecycle.go_on, claim_again(database), seconds=30)
    row = row_of(database)
    assert (row.attempts, row.failures, row.last_error, told(database)) == (0, 0, None, [])
    assert 25 < seconds_until(database, row.due_at) <= 30


def test_delays_double_up_to_ten_minutes_and_half_of_each_is_chance() -> None:
    for attempt, longest in ((1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (9, 600), (5000, 600)):
        delays = [lifecycle.backoff(attempt, first_seconds=5) for _ in range(50)]
        assert longest / 2 <= min(delays)
        assert max(delays) <= longest
        assert len(set(delays)) > 1


# Requested while it runs


@pytest.mark.parametrize("who", [calls.announce, calls.replay])
@pytest.mark.parametrize("ending", ["complete", "reschedule", "dead-letter", "abort"])
def test_what_is_requested_while_it_runs_is_due_at_once_when_it_ends_however_it_ends(
    database: Database, ending: str, who: Callable[..., bool]
) -> None:
    announce(database, "call-1")
    change(database, KEY, failures=FAILURES_ALLOWED - 1)
    claim = claim_again(database)
    write(database, who, LOCATION, "call-1")
    assert row_of(database).due_at == row_of(database).lease_until, "no second attempt beside the first"
    write(database, ENDINGS[ending], claim)
    row = row_of(database)
    assert (row.dead_cause, row.lease_until) == (None, None)
    assert seconds_until(database, row.due_at) <= 0
    complete(database, claim_again(database))
    assert row_of(database) is None, "requested once, repeated once"


def test_what_is_only_brought_forward_while_it_runs_is_not_repeated(database: Database) -> None:
    claim = claimed_call(database)
    write(database, lifecycle.bring_forward, KEY, lane=Lane.LIVE)
    complete(database, claim)
    assert row_of(database) is None
    write(database, lifecycle.bring_forward, KEY, lane=Lane.LIVE)
    reschedule(database, claim_again(database), seconds=60)
    write(database, lifecycle.bring_forward, KEY, lane=Lane.LIVE)
    assert claim_call(database, "call-1") is not None


def test_completing_forgets_what_an_earlier_failure_left_though_it_was_requested_again(database: Database) -> None:
    reschedule(database, claimed_call(database), counted=True, failed=True, error="HTTP 500")
    make_due(database, KEY)
    claim = claim_again(database)
    announce(database, "call-1")
    complete(database, claim)
    row = row_of(database)
    assert (row.attempts, row.failures, row.last_error) == (0, 0, None)
    assert [each["outcome"] for each in told(database)] == [Outcome.POSTPONED, Outcome.DONE]


# Aborted, discarded, given back


def test_an_attempt_that_raised_is_made_again_and_dead_after_too_many(database: Database) -> None:
    announce(database, "call-1")
    for number in range(1, FAILURES_ALLOWED + 1):
        make_due(database, KEY)
        dead = write(database, lifecycle.abort, claim_again(database), error="KeyError", first_seconds=5)
        assert dead == (number == FAILURES_ALLOWED)
        row = row_of(database)
        assert row.attempts == number
    assert (row.dead_cause, row.due_at, row.last_error) == ("broken", None, "KeyError")


def test_work_that_may_not_die_is_made_again_however_often_it_raised(database: Database) -> None:
    write(database, lifecycle.add, WINDOW_KEY, lane=Lane.RECONCILED)
    change(database, WINDOW_KEY, failures=FAILURES_ALLOWED + 5)
    claim = claim_work(database, WINDOW_KEY)
    assert claim is not None
    assert not write(database, lifecycle.abort, claim, error="KeyError", first_seconds=5)
    assert row_of(database, WINDOW_KEY).due_at is not None


def test_a_row_that_is_no_work_is_discarded_with_a_line_in_the_history(database: Database) -> None:
    announce(database, "call-2")
    write(database, lifecycle.discard, claimed_call(database), error="wrong_kind", http_status=422)
    assert [row["subject"] for row in rows_of(database, work_table)] == ["call-2"]
    (attempt,) = told(database)
    assert (attempt["outcome"], attempt["error"], attempt["http_status"]) == (Outcome.DROPPED, "wrong_kind", 422)


def test_a_worker_that_is_told_to_end_gives_back_its_own_lease_only(database: Database) -> None:
    claimed_call(database)
    write(database, lifecycle.give_back, KEY, worker="worker-2")
    assert claim_call(database, "call-1") is None
    write(database, lifecycle.give_back, KEY, worker="worker-1")
    assert (claim_again(database).lost_leases, told(database)) == (0, [])
