"""Runs a database call under a deadline; on time-out the caller continues and the call is abandoned to its thread."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class DeadlinePool:
    """`threads` threads that run calls for callers who wait at most `seconds`. A thread starts with its first call."""

    def __init__(self, threads: int, *, seconds: float, name: str) -> None:
        self._threads, self._seconds = threads, seconds
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._abandoned: set[Future[Any]] = set()
        self._lock = threading.Lock()

    def run(self, work: Callable[[], T]) -> T:
        """Returns the result of `work`. Raises TimeoutError after the deadline, and what `work` raises.

        While every thread runs an abandoned call, it raises TimeoutError at once. Otherwise a long outage would fill
        memory with calls that wait, and callers would wait one deadline after the other. An abandoned call that ends
        gives its thread back.
        """
        with self._lock:
            if len(self._abandoned) == self._threads:
                raise TimeoutError("every thread hangs")
        future = self._pool.submit(work)
        try:
            return future.result(timeout=self._seconds)
        except TimeoutError:
            if not future.cancel():
                self._abandon(future)
            raise

    def _abandon(self, future: Future[Any]) -> None:
        with self._lock:
            self._abandoned.add(future)
        future.add_done_callback(self._ended)  # is called at once when the call has ended meanwhile

    def _ended(self, future: Future[Any]) -> None:
        with self._lock:
            self._abandoned.discard(future)
