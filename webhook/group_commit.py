"""Group commit: handlers hand rows over and wait, one thread writes all that wait in one transaction.

There is no timer. A lone row is written at once; while one batch is being written the next one gathers.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from models.database import is_of_one_row
from models.intake.notifications import Arrival

log = structlog.get_logger(__name__)

ROWS_AT_ONCE = 200
DEAD_WRITER = 70
"""Exit code of a process whose writer has died: it would take notifications and never answer."""


class GroupCommit:
    """The writer of one process. Its thread starts with the first row, so that it runs after any fork."""

    def __init__(
        self,
        put_all: Callable[[Sequence[Arrival]], set[str]],
        *,
        quarantine: Callable[[Arrival, Exception], None],
        name: str,
    ) -> None:
        """`put_all` commits rows, and returns the arrival ids of those that are repeats. `quarantine` keeps one that
        is refused by itself."""
        self._put_all, self._quarantine, self.name = put_all, quarantine, name
        self._waiting: deque[_Row] = deque()
        self._lock = threading.Lock()
        self._some = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._began_at: float | None = None

    def write(self, arrival: Arrival, *, seconds: float) -> bool:
        """Returns when the row is committed: whether it is a repeat. Raises TimeoutError, and what `put_all` raises.

        After a TimeoutError the row may be committed nevertheless, if the writer had begun with it.
        """
        row = _Row(arrival)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
                self._thread.start()
            self._waiting.append(row)
            self._some.notify()
        if not row.done.acquire(timeout=seconds):
            with self._lock:
                if row in self._waiting:
                    self._waiting.remove(row)
            raise TimeoutError("the rows before it are still being written")
        if row.error is not None:
            raise row.error
        return row.is_repeat

    def hangs_for(self) -> float:
        """For how many seconds the batch that is being written has been written."""
        began_at = self._began_at
        return 0.0 if began_at is None else time.monotonic() - began_at

    def stop(self) -> None:
        """Ends the thread after its batch."""
        with self._lock:
            self._stopped = True
            self._some.notify()
        if self._thread is not None:
            self._thread.join(timeout=1)

    def _run(self) -> None:
        try:
            while batch := self._next():
                self._began_at = time.monotonic()
                self._write(batch)
                self._began_at = None
        except BaseException as error:
            log.critical("writer_died", writer=self.name, error=type(error).__name__, exc_info=True)
            os._exit(DEAD_WRITER)

    def _next(self) -> list["_Row"]:
        with self._lock:
            while not self._waiting and not self._stopped:
                self._some.wait()
            return [self._waiting.popleft() for _ in range(min(len(self._waiting), ROWS_AT_ONCE))]

    def _write(self, batch: Sequence["_Row"]) -> None:
        try:
            repeats = self._put_all([row.arrival for row in batch])
        except Exception as error:
            if not is_of_one_row(error) or isinstance(error, OSError):
                for row in batch:
                    row.end(error=error)
            elif len(batch) > 1:
                for row in batch:
                    self._write([row])
            else:
                self._set_aside(batch[0], error)
            return
        for row in batch:
            row.end(is_repeat=row.arrival.arrival_id in repeats)

    def _set_aside(self, row: "_Row", error: Exception) -> None:
        try:
            self._quarantine(row.arrival, error)
        except Exception as failed:
            row.end(error=failed)
        else:
            row.end()


class _Row:
    """A row on its way, for the handler that waits for it."""

    __slots__ = ("arrival", "done", "error", "is_repeat")

    def __init__(self, arrival: Arrival) -> None:
        self.arrival = arrival
        self.done = threading.Lock()
        self.done.acquire()
        self.error: Exception | None = None
        self.is_repeat = False

    def end(self, *, is_repeat: bool = False, error: Exception | None = None) -> None:
        self.is_repeat, self.error = is_repeat, error
        self.done.release()
