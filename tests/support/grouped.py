"""Transactions of several threads that are one group."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import Connection

from tests.support.waiting import eventually
from workers.process.grouped_transactions import GroupedTransactions

Write = Callable[[Connection], Any]


def together(grouped: GroupedTransactions, writes: Sequence[Write]) -> list[Any]:
    """What each of so many threads is given that wait while another one leads."""
    begun, gate = threading.Event(), threading.Event()

    def first(connection: Connection) -> None:
        begun.set()
        assert gate.wait(30)

    def one(numbered: tuple[int, Write]) -> Any:
        number, write = numbered
        try:
            return grouped.transact(write, order=number)
        except Exception as error:
            return error

    with ThreadPoolExecutor(len(writes) + 1) as threads:
        leader = threads.submit(grouped.transact, first, order=-1)
        assert begun.wait(30)
        answers = [threads.submit(one, each) for each in enumerate(writes)]
        eventually(lambda: len(grouped._waiting) == len(writes))
        gate.set()
        leader.result()
        return [each.result() for each in answers]
