"""Lets a suspect run alone in this process: no other attempt is under way that would die with it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Crowded(Exception):
    """The others did not end in time: try again later."""


class Room:
    """Either any number in company, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_company = 0
        self._alone = False

    @contextmanager
    def in_company(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._in_company += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_company -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, *, patience_seconds: float) -> Iterator[None]:
        """Keeps newcomers out, waits for those inside, then runs. Raises Crowded."""
        deadline = time.monotonic() + patience_seconds
        with self._changed:
            if not self._changed.wait_for(lambda: not self._alone, timeout=patience_seconds):
                raise Crowded
            self._alone = True
            try:
                if not self._changed.wait_for(lambda: not self._in_company, timeout=deadline - time.monotonic()):
                    raise Crowded
            except BaseException:
                self._alone = False
                self._changed.notify_all()
                raise
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


room = Room()
