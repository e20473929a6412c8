"""The frame of an attempt: what nobody expected is put back, and poison takes no neighbours with it."""

import threading
from collections.abc import Callable
from typing import NoReturn

import sqlalchemy as sa
from sqlalchemy.exc import ResourceClosedError

from models.accounts import accounts, pauses
from models.accounts.pauses import PauseCause
from models.calls.calls import Origin
from models.work import lifecycle
from models.work.lifecycle import FAILURES_ALLOWED, ISOLATED_AFTER, POISON_AFTER_LOST_ISOLATED
from models.work.work_rows import Lane
from tests.support.rows import Standing, claim_work, make_due, read, run_out, write
from tests.support.waiting import meanwhile
from tests.support.worker import AtWork
from workers.attempts.attempt import claimed
from workers.attempts.isolation import isolation

CALLERS_WORDS = "my number is 555 0100"


def break_down() -> NoReturn:
    raise ValueError(CALLERS_WORDS)


def attempt_call(at_work: AtWork, call_id: str, how: Callable[[], object] = break_down) -> Standing:
    with claimed(at_work.call_key(call_id)) as attempt:
        if attempt is not None:
            how()
    return at_work.call(call_id)


def test_an_error_nobody_expected_puts_the_row_back_with_its_type_alone(at_work: AtWork) -> None:
    at_work.announce("call-1")
    row = attempt_call(at_work, "call-1")
    assert (row.status, row.failures, row.attempts) == ("pending", 1, 1)
    assert row.last_error == "ValueError"
    assert at_work.seconds_until(row.due_at) > 1
    [kept] = at_work.rows("attempts")
    assert (kept["outcome"], kept["error"]) == ("failed", "ValueError")
    assert CALLERS_WORDS not in str([*at_work.rows("attempts"), *at_work.rows("work")])


def test_too_many_of_them_make_it_dead_and_a_new_notification_revives_it(at_work: AtWork) -> None:
    at_work.announce("call-1")
    for _ in range(FAILURES_ALLOWED):
        make_due(at_work.database, at_work.call_key("call-1"))
        row = attempt_call(at_work, "call-1")
    assert (row.status, row.dead_cause, row.due_at) == ("dead", "broken", None)
    at_work.announce("call-1")
    assert at_work.call("call-1").status == "pending"


def test_a_database_that_fails_in_any_way_leaves_the_row_to_its_lease_or_puts_it_back(at_work: AtWork) -> None:
    def fail() -> NoReturn:
        raise ResourceClosedError(CALLERS_WORDS)

    at_work.announce("call-1")
    assert attempt_call(at_work, "call-1", fail).last_error == "ResourceClosedError"


def forget_account(at_work: AtWork) -> None:
    """Something nobody expects: the account of a row is gone."""
    with at_work.database.transaction() as connection:
        connection.execute(sa.delete(accounts.accounts_table))


def test_a_follow_up_with_an_intent_becomes_unclear_instead_and_never_dead(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.double.fault("create_note", "do_then_reset", times=1)
    unclear_since = at_work.send(follow_up_id).unclear_since
    forget_account(at_work)
    for _ in range(FAILURES_ALLOWED):
        at_work.make_due(follow_up_id)
        row = at_work.send(follow_up_id)
        assert (row.status, row.unclear_since, row.last_error) == ("unclear", unclear_since, "UnknownAccount")
    assert row.due_at is None, "it waits for a person"


def test_a_follow_up_without_an_intent_ends_dead(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    forget_account(at_work)
    for _ in range(FAILURES_ALLOWED):
        at_work.make_due(follow_up_id)
        row = at_work.send(follow_up_id)
    assert (row.status, row.dead_cause) == ("dead", "broken")


# Poison


def lose_leases(at_work: AtWork, call_id: str, number: int = ISOLATED_AFTER) -> None:
    """Worker processes died with the call, one after the other."""
    for _ in range(number):
        assert claim_work(at_work.database, at_work.call_key(call_id))
        run_out(at_work.database, at_work.call_key(call_id))


def test_a_suspect_waits_until_its_neighbours_have_ended(at_work: AtWork) -> None:
    at_work.announce("suspect")
    at_work.announce("neighbour")
    lose_leases(at_work, "suspect")
    inside, may_end, ran, order = threading.Event(), threading.Event(), threading.Event(), list[str]()

    def hold() -> None:
        inside.set()
        assert may_end.wait(10)
        order.append("neighbour")

    def run() -> None:
        order.append("suspect")
        ran.set()

    with meanwhile(lambda: attempt_call(at_work, "neighbour", hold)):
        assert inside.wait(10)
        with meanwhile(lambda: attempt_call(at_work, "suspect", run)):
            assert not ran.wait(0.3), "a neighbour is still inside"
            may_end.set()
    assert order == ["neighbour", "suspect"]
    [isolated] = [each for each in at_work.said if each["event"] == "isolated_attempt_started"]
    assert isolated["subject"] == "suspect"


def test_a_suspect_that_finds_no_room_stays_as_it_was(at_work: AtWork) -> None:
    at_work.settings.leadway_lease_seconds = 0.2
    at_work.announce("suspect")
    lose_leases(at_work, "suspect")
    before = at_work.rows("work")
    with isolation.shared():
        attempt_call(at_work, "suspect")
    assert at_work.rows("work") == before


def test_a_paused_suspect_does_not_ask_the_others_to_leave(at_work: AtWork) -> None:
    at_work.announce("suspect")
    lose_leases(at_work, "suspect")
    write(at_work.database, pauses.pause, at_work.location_id, cause=PauseCause.PERSON, detail="why")
    assert not read(at_work.database, lifecycle.needs_isolation, at_work.call_key("suspect"))
    before = at_work.rows("work")
    attempt_call(at_work, "suspect")
    assert at_work.rows("work") == before


def test_leases_lost_in_company_make_nobody_dead_but_in_isolation_they_do(at_work: AtWork) -> None:
    at_work.announce("poison")
    for number in range(ISOLATED_AFTER + POISON_AFTER_LOST_ISOLATED):
        row = attempt_call(at_work, "poison", lambda: None)
        assert (row.status, row.attempts, row.lost_leases) == ("running", number + 1, number)
        [work] = at_work.rows("work")
        assert work["isolated"] == (number >= ISOLATED_AFTER)
        run_out(at_work.database, at_work.call_key("poison"))
    row = attempt_call(at_work, "poison")
    assert (row.status, row.dead_cause, row.due_at) == ("dead", "poison", None)
    at_work.announce("poison")
    at_work.announce("poison", origin=Origin.RECONCILE, lane=Lane.RECONCILED)
    assert at_work.call("poison").status == "dead", "poison waits for a person"
    at_work.replay("poison")
    assert at_work.call("poison").status == "pending"


def test_an_outcome_ends_the_suspicion(at_work: AtWork) -> None:
    at_work.announce("suspect")
    lose_leases(at_work, "suspect")
    assert attempt_call(at_work, "suspect").status == "pending"
    [work] = at_work.rows("work")
    assert (work["lost_leases"], work["lost_isolated"], work["isolated"]) == (0, 0, False)
