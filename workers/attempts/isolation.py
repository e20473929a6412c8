"""Isolation of a suspected poison row: its attempt runs while no other attempt is under way in this process."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class IsolationTimeout(Exception):
    """The other attempts did not end in time; the row is tried again later."""


class Isolation:
    """A lock that any number of attempts share, or that one holds exclusively."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._sharing = 0
        self._is_exclusive = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Waits while another attempt is exclusive, without limit: that attempt has its own deadline."""
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
        """Keeps new attempts out and waits for those under way.

        Raises IsolationTimeout when they have not ended after `patience_seconds`; then nobody is kept out any more.
        """
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
"""Of this process: one for all its attempts."""
