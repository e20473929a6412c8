"""Waiting for what another process does, and doing things at the same time in threads."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


def at_once(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Runs all in threads that start together; returns their results, or raises what one of them raised."""
    barrier = threading.Barrier(len(tasks))
    results: list[T | None] = [None] * len(tasks)
    raised: list[BaseException] = []

    def run(number: int, task: Callable[[], T]) -> None:
        try:
            barrier.wait(20)
            results[number] = task()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if raised:
        raise raised[0]
    return results  # type: ignore[return-value]


@contextmanager
def meanwhile(task: Callable[[], object]) -> Iterator[threading.Thread]:
    """Runs `task` in a thread during the block and waits for its end. An error of `task` fails the test."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            task()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    thread.join(30)
    assert not thread.is_alive()
    if raised:
        raise raised[0]
