"""Group commit for transactions: those that wait at the same moment become one transaction, with one commit.

There is no timer and no thread of its own. Who comes while nothing runs goes first and is the leader; it takes with it
all that gathered meanwhile, and then the first of those that wait is the next leader. So a lone transaction costs what
it would cost by itself, and the busier the process, the fewer commits for each (docs/decisions/0094).

The statements of a group run one after the other. With a database far away that takes longer than the commits that are
saved, so each transaction then runs by itself.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from models.database import Database

Item = TypeVar("Item")
T = TypeVar("T")

MOST_AT_ONCE = 64
FAR_SECONDS = 0.1
"""That one transaction of a group takes; those of a database nearby take a few milliseconds."""
APART_SECONDS = 5.0
"""How long transactions then run by themselves, until a group is tried again."""


class GroupedTransactions:
    """Groups the transactions of one process' threads.

    A group that fails for whatever reason is rolled back, and each of its transactions then runs by itself, in the
    thread that asked for it: so one that is refused, or waits for a lock, stops no other for longer than that.
    """

    def __init__(self, database: Database) -> None:
        self._alone = database
        self._grouped = database.for_groups()
        self._lock = threading.Lock()
        self._waiting: list[_Member[Any, Any]] = []
        self._is_led = False
        self._slow_in_a_row = 0
        self._apart_until = 0.0

    def transact(self, write: Callable[[Connection], T], *, order: Any) -> T:
        """As `Database.transact`, which tells what `write` has to bear. `order`: members of a group run sorted by it,
        so that two processes that write the same rows wait for each other and never in a circle."""
        context = copy_context()  # the names that its log lines carry

        def in_context(connection: Connection) -> T:
            return context.run(write, connection)

        return self.transact_many(_each, in_context, order=order)

    def transact_many(self, many: Callable[[Connection, Sequence[Item]], Sequence[T]], item: Item, *, order: Any) -> T:
        """The same for what has one statement for several: `many` is called once for all members of a group that came
        with it, with their items in order, and returns their results. It has to be the same object each time."""
        if time.monotonic() < self._apart_until:
            return self._alone.transact(lambda connection: many(connection, [item])[0])
        member = _Member(many, item, order)
        with self._lock:
            self._waiting.append(member)
            leads, self._is_led = not self._is_led, True
        if not leads:
            leads = member.waits()
        if leads:
            self._lead()
        if member.error is not None:
            raise member.error
        if member.is_left_alone:
            return self._alone.transact(lambda connection: many(connection, [item])[0])
        return member.result

    def close(self) -> None:
        if self._grouped is not self._alone:
            self._grouped.close()

    def _lead(self) -> None:
        """Runs what waits, the leader's own included, and hands the lead on."""
        with self._lock:
            group, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
        try:
            self._run(sorted(group, key=lambda member: member.order))
        finally:
            with self._lock:
                self._is_led = bool(self._waiting)
                successor = self._waiting[0] if self._waiting else None
            if successor is not None:
                successor.take_the_lead()
            for member in group:
                member.end()

    def _run(self, group: Sequence["_Member[Any, Any]"]) -> None:
        try:
            with self._grouped.transaction() as connection:
                began_at = time.monotonic()
                for many in dict.fromkeys(member.many for member in group):
                    members = [member for member in group if member.many is many]
                    for member, result in zip(
                        members, many(connection, [member.item for member in members]), strict=True
                    ):
                        member.result = result
        except Exception as error:
            if len(group) == 1 and not self._grouped.may_repeat(error):
                group[0].error = error
            return
        for member in group:
            member.is_left_alone = False
        self._look_how_far(time.monotonic() - began_at, len(group))

    def _look_how_far(self, seconds: float, number: int) -> None:
        """Two slow groups in a row tell that the database is far away; one may have met a busy moment."""
        self._slow_in_a_row = self._slow_in_a_row + 1 if seconds > FAR_SECONDS * number else 0
        if self._slow_in_a_row > 1 and self._grouped is not self._alone:
            self._apart_until = time.monotonic() + APART_SECONDS


def _each(connection: Connection, writes: Sequence[Callable[[Connection], T]]) -> list[T]:
    return [write(connection) for write in writes]


class _Member(Generic[Item, T]):
    """A transaction on its way, for the thread that waits for it."""

    __slots__ = ("_leads", "_turn", "error", "is_left_alone", "item", "many", "order", "result")

    result: T

    def __init__(self, many: Callable[[Connection, Sequence[Item]], Sequence[T]], item: Item, order: Any) -> None:
        self.many, self.item, self.order = many, item, order
        self._turn = threading.Lock()
        self._turn.acquire()
        self._leads = False
        self.is_left_alone = True
        self.error: Exception | None = None

    def waits(self) -> bool:
        """Until the transaction has ended: False; or until it is this thread's turn to lead: True."""
        self._turn.acquire()
        return self._leads

    def take_the_lead(self) -> None:
        self._leads = True
        self._turn.release()

    def end(self) -> None:
        self._turn.release()
