"""A process that is stopped in the middle of its work, and goes on when others have long taken that work over."""

import json
import os
import signal
import time
from contextlib import suppress
from typing import Any, Self

from tests.crash.stage import Stage
from tests.support.waiting import eventually

ENDS_WITHIN_SECONDS = 30.0


class Frozen:
    """`with Frozen(stage, pid) as process: …; process.thaw()` – stopped by SIGSTOP, at the longest until the end.

    `clock_stands_still`: it does not notice how long it slept. That is a suspended machine, whose monotonic clock does
    not count the time; a process that is merely stopped sees that its deadline has passed.
    """

    def __init__(self, stage: Stage, pid: int, *, clock_stands_still: bool = False) -> None:
        self._stage = stage
        self._pid = pid
        self._clock_stands_still = clock_stands_still
        self._name = stage.worker_of(pid)
        self._is_stopped = False
        self.in_hand = 0
        """Attempts that were under way when it was stopped."""

    def __enter__(self) -> Self:
        self._since = time.monotonic()
        self._is_stopped = True
        self._signal(signal.SIGSTOP)
        if self._name is not None:
            node = self._told("worker_started")[-1]["name"]
            self.in_hand = self._stage.in_hand(node)
        return self

    def __exit__(self, *_error: object) -> None:
        self._go_on()

    def thaw(self) -> None:
        """Lets it go on, and returns when it has ended each attempt that it had in hand."""
        ended_before = len(self._told("attempt_ended"))
        self._go_on()
        if self._name is not None:
            eventually(
                lambda: len(self._told("attempt_ended")) - ended_before >= self.in_hand or not self._is_there(),
                timeout=ENDS_WITHIN_SECONDS,
                describe=f"the thawed worker to end {self.in_hand} attempts",
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

    def _told(self, event: str) -> list[dict[str, Any]]:
        """What the worker has logged of this kind."""
        lines = [] if self._name is None else self._stage.world.processes.log(self._name).splitlines()
        return [json.loads(line) for line in lines if f'"event": "{event}"' in line]
