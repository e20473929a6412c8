"""Lets a suspect run alone in this process: no other attempt is under way that would die with it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class IsolationTimeout(Exception):
    """The others did not end in time: try again later."""


class Isolation:
    """Either any number in company, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._is_exclusive = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_exclusive)
            self._sharing += 1
        try:
            yield
        finally:
            with self._changed:
                self._sharing -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self, *, patience_seconds: float) -> Iterator[None]:
        """Keeps newcomers out, waits for those inside, then runs. Raises Crowded."""
        deadline = time.monotonic() + patience_seconds
        with self._changed:
            if not self._changed.wait_for(lambda: not self._is_exclusive, timeout=patience_seconds):
                raise IsolationTimeout
            self._is_exclusive = True
            try:
                if not self._changed.wait_for(lambda: not self._sharing, timeout=deadline - time.monotonic()):
                    raise IsolationTimeout
            except BaseException:
                self._is_exclusive = False
                self._changed.notify_all()
                raise
        try:
            yield
        finally:
            with self._changed:
                self._is_exclusive = False
                self._changed.notify_all()


isolation = Isolation()
