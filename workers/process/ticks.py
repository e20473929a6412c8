"""Ticks: what a process does again and again, each tick in a thread of its own.

One thread for all would be held up by its slowest tick: a probe of Leadway may wait 20 s for its answer.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)

TICK_PAUSE_SECONDS = 0.2
"""Between two ticks at least: what is asked for meanwhile shares the next one."""
LONGEST_REST_SECONDS = 0.5
PAUSE_AFTER_FAILURE_SECONDS = 0.25
TICK_ENDS_SECONDS = 1.0
"""How long a process that ends waits for a tick. Longer: the tick ends with the process, as if that had been killed."""

dispatch_wanted = threading.Event()
"""Set when work may have become due: this process dispatches at once. By each attempt that ends, and by wake-ups."""


class Tick:
    """Runs its steps in turn, `seconds` after it last did, or as soon as it is woken. `seconds` None: only when woken.

    A step that raises is logged when it fails in another way than before. The next step and the next tick run
    nevertheless. After a tick it pauses for `pause_seconds`, or for `rests` times as long as the tick took, if that is
    more: so a tick with little to do is prompt, and one with much to do takes only a part of the process' time.
    `woken`: an event that others set to wake the tick.
    """

    def __init__(
        self,
        *steps: Callable[[], None],
        seconds: float | None = None,
        pause_seconds: float = TICK_PAUSE_SECONDS,
        rests: Callable[[], float] = lambda: 0.0,
        woken: threading.Event | None = None,
    ) -> None:
        self._steps = steps
        self._seconds, self._pause_seconds, self._rests = seconds, pause_seconds, rests
        self._woken = woken or threading.Event()
        self._stopped = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failing: dict[str, str] = {}

    def start(self) -> None:
        """Starts the thread, once. A tick with a period runs at once, any other when it is woken."""
        with self._starting:
            if self._thread is None:
                if self._seconds is not None:
                    self._woken.set()
                self._thread = threading.Thread(target=self._run, name=self._steps[0].__name__, daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Asks for a tick and returns at once. Many at once are one tick, and one more if one is under way."""
        self._woken.set()

    def stop(self) -> None:
        self._stopped.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout=TICK_ENDS_SECONDS)

    def _run(self) -> None:
        while True:
            self._woken.wait(self._seconds)
            if self._stopped.is_set():
                return
            self._woken.clear()
            began_at = time.monotonic()
            failed = [step for step in self._steps if not self._runs_well(step)]
            pause = max(self._pause_seconds, min(LONGEST_REST_SECONDS, self._rests() * (time.monotonic() - began_at)))
            if failed:
                pause = max(pause, PAUSE_AFTER_FAILURE_SECONDS)
            if self._stopped.wait(pause):
                return

    def _runs_well(self, step: Callable[[], None]) -> bool:
        name = step.__name__
        try:
            step()
        except Exception as raised:  # nothing may end the thread: Redis away or refusing, the database away, a bug
            error = type(raised).__name__
            if error != self._failing.get(name):
                log.warning("tick_failed", tick=name, error=error, exc_info=True)
            self._failing[name] = error
            return False
        if self._failing.pop(name, None) is not None:
            log.info("tick_recovered", tick=name)
        return True


@contextmanager
def ticking(*ticks: Tick) -> Iterator[None]:
    """Each ticks while the block runs."""
    for tick in ticks:
        tick.start()
    try:
        yield
    finally:
        for tick in ticks:
            tick.stop()
