"""Asks a database that may hang, for so long and no longer: the caller goes on, the question is left behind."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlinePool:
    """So many threads that work for callers who wait `seconds` at most. The threads begin with the first work."""

    def __init__(self, threads: int, *, seconds: float, name: str) -> None:
        self._threads, self._seconds = threads, seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._left_behind: set[Future[Any]] = set()
        self._lock = threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """Raises TimeoutError when it takes too long, and what `work` raises.

        While every thread hangs it raises at once, so that a long outage neither fills memory with waiting work nor
        makes a crowd of callers wait in turns. When the threads come back, so does the work.
        """
        with self._lock:
            if len(self._left_behind) == self._threads:
                raise TimeoutError("every thread hangs")
        future = self._pool.submit(work)
        try:
            return future.result(timeout=self._seconds)
        except TimeoutError:
            if not future.cancel():
                self._leave_behind(future)
            raise

    def _leave_behind(self, future: Future[Any]) -> None:
        with self._lock:
            self._left_behind.add(future)
        future.add_done_callback(self._is_back)  # at once, if it has ended meanwhile

    def _is_back(self, future: Future[Any]) -> None:
        with self._lock:
            self._left_behind.discard(future)
