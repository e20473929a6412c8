"""A tick comes at once, again and again, and sooner when woken; one that fails or hangs stops no other."""

import threading
import time

import pytest
from structlog.testing import capture_logs

from tests.support.waiting import eventually
from workers.process.ticks import TICK_ENDS_SECONDS, TICK_PAUSE_SECONDS, Tick, ticking

LONG = 600.0


class Steps:
    """Counts what was done, and does what it is told to: raises, or hangs until it may go on."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.error: Exception | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def first(self) -> None:
        self.done.append("first")
        self.may_go_on.wait(10)
        if self.error is not None:
            raise self.error

    def second(self) -> None:
        self.done.append("second")


@pytest.fixture
def steps() -> Steps:
    return Steps()


def test_a_tick_comes_at_once_and_again_and_again_each_time_with_all_its_steps_in_turn(steps: Steps) -> None:
    with ticking(Tick(steps.first, steps.second, seconds=0.01, pause_seconds=0.01)):
        eventually(lambda: len(steps.done) >= 6)
    assert steps.done[:6] == ["first", "second"] * 3


def test_who_wakes_it_waits_for_no_period_and_many_share_one_tick(steps: Steps) -> None:
    woken = threading.Event()
    with ticking(Tick(steps.first, seconds=LONG, woken=woken)):
        eventually(lambda: len(steps.done) == 1)
        since = time.monotonic()
        while time.monotonic() < since + 2 * TICK_PAUSE_SECONDS:
            woken.set()
            time.sleep(0.001)  # a busy worker: hundreds of attempts end
        assert 2 <= len(steps.done) <= 4
        before = len(steps.done)
        woken.set()
        eventually(lambda: len(steps.done) > before)


def test_who_wakes_it_during_a_tick_gets_one_more(steps: Steps) -> None:
    steps.may_go_on.clear()
    tick = Tick(steps.first, pause_seconds=0.01)
    tick.start()
    assert not steps.done, "without a period it waits until it is woken"
    tick.wake()
    eventually(lambda: len(steps.done) == 1)
    for _ in range(5):
        tick.wake()
    steps.may_go_on.set()
    eventually(lambda: len(steps.done) == 2)
    tick.stop()
    assert len(steps.done) == 2


def test_a_step_that_fails_is_told_when_its_error_changes_and_everything_goes_on(steps: Steps) -> None:
    def fails_with(error: Exception | None) -> None:
        steps.error = error
        number = len(steps.done)
        eventually(lambda: len(steps.done) > number + 6, describe="both steps to go on")

    with (
        capture_logs() as logs,
        ticking(Tick(steps.first, steps.second, seconds=0.01, pause_seconds=0.01)),
    ):
        for error in (ConnectionError("one"), ConnectionError("two"), MemoryError(), None):
            fails_with(error)
    assert [(each["event"], each.get("error")) for each in logs if each.get("tick") == "first"] == [
        ("tick_failed", "ConnectionError"),
        ("tick_failed", "MemoryError"),
        ("tick_recovered", None),
    ]


def test_a_tick_that_hangs_stops_no_other_and_holds_up_no_end(steps: Steps) -> None:
    hanging = Steps()
    hanging.may_go_on.clear()
    with ticking(Tick(hanging.first, seconds=0.01), Tick(steps.first, seconds=0.01, pause_seconds=0.01)):
        eventually(lambda: hanging.done and len(steps.done) > 3)
        since = time.monotonic()
    assert time.monotonic() - since < 2 * TICK_ENDS_SECONDS
    ended = len(steps.done)
    hanging.may_go_on.set()
    eventually(lambda: not {"first"} & {thread.name for thread in threading.enumerate()})
    assert (len(hanging.done), len(steps.done)) == (1, ended)
