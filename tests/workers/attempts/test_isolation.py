"""A suspect runs alone: it waits for its neighbours, and newcomers wait for it."""

import threading

import pytest

from tests.support.waiting import meanwhile
from workers.attempts.isolation import Isolation, IsolationTimeout

PATIENCE = 20.0
A_MOMENT = 0.3
"""In which what may begin has begun."""


def stay(isolation: Isolation, entered: threading.Event, leave: threading.Event) -> None:
    with isolation.shared():
        entered.set()
        assert leave.wait(PATIENCE)


def test_any_number_run_in_company() -> None:
    isolation = Isolation()
    with isolation.shared(), isolation.shared(), isolation.shared():
        pass


def test_a_suspect_waits_for_its_neighbours_and_newcomers_wait_for_it() -> None:
    isolation = Isolation()
    entered, leave, arrived, alone, done = (threading.Event() for _ in range(5))
    newcomer_entered, newcomer_may_leave = threading.Event(), threading.Event()
    newcomer_may_leave.set()

    def be_suspect() -> None:
        arrived.set()
        with isolation.exclusive(patience_seconds=PATIENCE):
            alone.set()
            assert done.wait(PATIENCE)

    with meanwhile(lambda: stay(isolation, entered, leave)):
        assert entered.wait(PATIENCE)
        with meanwhile(be_suspect):
            assert arrived.wait(PATIENCE)
            assert not alone.wait(A_MOMENT), "a neighbour is still inside"
            with meanwhile(lambda: stay(isolation, newcomer_entered, newcomer_may_leave)):
                assert not newcomer_entered.wait(A_MOMENT), "the suspect waits already"
                leave.set()
                assert alone.wait(PATIENCE)
                assert not newcomer_entered.is_set()
                done.set()
                assert newcomer_entered.wait(PATIENCE)


def test_two_suspects_run_one_after_the_other() -> None:
    isolation, inside, most = Isolation(), [], []

    def be_suspect() -> None:
        with isolation.exclusive(patience_seconds=PATIENCE):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    with meanwhile(be_suspect), meanwhile(be_suspect), meanwhile(be_suspect):
        pass
    assert most == [1, 1, 1]


def test_neighbours_that_do_not_end_leave_it_crowded_and_the_door_open() -> None:
    isolation = Isolation()
    with isolation.shared():
        with pytest.raises(IsolationTimeout), isolation.exclusive(patience_seconds=0.01):
            raise AssertionError("not reached")
        with isolation.shared():
            pass
    with isolation.exclusive(patience_seconds=0.01):
        pass


def test_another_suspect_that_does_not_end_leaves_it_crowded() -> None:
    isolation = Isolation()
    with (
        isolation.exclusive(patience_seconds=0.01),
        pytest.raises(IsolationTimeout),
        isolation.exclusive(patience_seconds=0.01),
    ):
        raise AssertionError("not reached")


def test_a_suspect_that_raises_lets_the_others_in_again() -> None:
    isolation = Isolation()
    with pytest.raises(ZeroDivisionError), isolation.exclusive(patience_seconds=0.01):
        raise ZeroDivisionError
    with isolation.shared():
        pass
