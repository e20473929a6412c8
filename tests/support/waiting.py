"""Waiting for something that another process will do."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_SECONDS = 0.02


def eventually(
    look: Callable[[], T],
    *,
    timeout: float = 15.0,
    describe: str | Callable[[], object] = "",
    every: float = LOOK_SECONDS,
) -> T:
    """The first truthy thing that `look` returns. An error that it raises counts as "not yet".

    Fails the test after `timeout` seconds, with `describe` (called, if it is a function) and what was seen last.
    """
    deadline = time.monotonic() + timeout
    while True:
        error: Exception | None = None
        seen: T | None = None
        try:
            seen = look()
        except Exception as raised:
            error = raised
        if seen:
            return seen
        if time.monotonic() >= deadline:
            told = describe() if callable(describe) else describe
            last = f"raised {error!r}" if error is not None else repr(seen)
            raise AssertionError(f"not within {timeout:g} s: {told or look}; seen last: {last}") from error
        time.sleep(every)
