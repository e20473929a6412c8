"""A process that is stopped in the middle of its work, and goes on when others have long taken that work over."""

import os
import signal
import time
from contextlib import suppress
from typing import Self

from tests.crash.stage import Stage
from tests.leadway_double.nouns import PlacedCall
from tests.support.waiting import eventually

ENDS_WITHIN_SECONDS = 30.0
ATTEMPT_ENDED = '"attempt_ended"'


class Frozen:
    """`with Frozen(stage, pid, call) as frozen: …; frozen.thaw()` – stopped by SIGSTOP, in any case until the end.

    `clock_stands_still`: it does not notice how long it slept. That is a suspended machine, whose monotonic clock does
    not count the time; a process that is merely stopped sees that its deadline has passed.
    """

    def __init__(self, stage: Stage, pid: int, call: PlacedCall, *, clock_stands_still: bool = False) -> None:
        self._stage = stage
        self._pid = pid
        self._call = call
        self._clock_stands_still = clock_stands_still
        self._name = stage.worker_of(pid)

    def __enter__(self) -> Self:
        self._lost_before = self._stage.leases_lost(self._call)
        self._since = time.monotonic()
        self._is_stopped = True
        self._signal(signal.SIGSTOP)
        return self

    def __exit__(self, *_error: object) -> None:
        self._go_on()

    def thaw(self) -> None:
        """Lets it go on, and returns when it has ended each attempt whose lease others have taken over."""
        lost = self._stage.leases_lost(self._call) - self._lost_before
        ended_before = self._attempts_ended()
        self._go_on()
        if self._name is not None:
            eventually(
                lambda: self._attempts_ended() - ended_before >= lost or not self._is_there(),
                timeout=ENDS_WITHIN_SECONDS,
                describe=lambda: f"the thawed worker to end {lost} attempts:\n{self._log()[-2000:]}",
            )

    def _go_on(self) -> None:
        if not self._is_stopped:
            return
        self._is_stopped = False
        if self._clock_stands_still:
            self._stage.turn_clock_back(self._pid, time.monotonic() - self._since)
        self._signal(signal.SIGCONT)

    def _signal(self, how: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, how)

    def _is_there(self) -> bool:
        return self._name is not None and self._stage.worker_of(self._pid) == self._name

    def _attempts_ended(self) -> int:
        return self._log().count(ATTEMPT_ENDED)

    def _log(self) -> str:
        return "" if self._name is None else self._stage.world.processes.log(self._name)
