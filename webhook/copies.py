"""Copies of what costs something to tell and may be a second old: however often it is asked for, it is made once."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

COPY_SECONDS = 1.0


class CopyOf(Generic[T]):
    """What `make` returns, at most COPY_SECONDS old. Who asks while it is made waits for it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._copy: tuple[float, T] | None = None

    def get(self) -> T:
        """Raises what `make` raises."""
        with self._lock:
            if self._copy is None or time.monotonic() - self._copy[0] > COPY_SECONDS:
                self._copy = time.monotonic(), self._make()
            return self._copy[1]
