"""The rows of the views `leadway_v1`, with the same types from both databases, all of one moment."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum, auto
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from migrations import views
from models.database import Database, on_postgresql

CALLS = "calls"
OF_CALLS = ("call_turns", "call_actions", "call_fields", "follow_ups")
"""The views whose rows belong to one call each."""
COVERAGE = "coverage"
CALLS_AT_ONCE = 200


class Type(StrEnum):
    TEXT = auto()
    INTEGER = auto()
    NUMBER = auto()
    BOOLEAN = auto()
    DAY = auto()
    INSTANT = auto()
    """With its time zone, UTC."""
    JSON = auto()


_DAYS = {"started_on", "day"}
_INSTANTS = {"as_of", "complete_from", "complete_until"}
_NUMBERS = {"duration_seconds", "number"}
_INTEGERS = {
    "started_hour", "minutes_billed", "bookings", "position", "calls", "unannounced", "open", "dead", "quarantined",
}  # fmt: skip


def type_of(column: str) -> Type:
    """Of a column of these views: SQLite's views do not know it."""
    if column.endswith("_at") or column in _INSTANTS:
        return Type.INSTANT
    if column.startswith("is_") or column == "boolean":
        return Type.BOOLEAN
    if column in _DAYS:
        return Type.DAY
    if column in _NUMBERS:
        return Type.NUMBER
    if column in _INTEGERS:
        return Type.INTEGER
    return Type.JSON if column == "parameters" else Type.TEXT


@dataclass(frozen=True)
class Asked:
    """What is exported: the calls that began on these days, both included, each in its account's time zone."""

    first: date
    last: date
    locations: tuple[str, ...]
    """Empty: of all accounts."""
    with_words: bool

    def columns(self, view: str) -> tuple[str, ...]:
        return tuple(each.name for each in views.described(view).columns if self.with_words or not each.has_words)


Row = tuple[Any, ...]


class Snapshot:
    """The views as they were when the block began, whatever is written meanwhile."""

    def __init__(self, connection: Connection, asked: Asked) -> None:
        self._connection, self._asked = connection, asked
        self._prefix = f"{views.SCHEMA}." if on_postgresql(connection) else views.SQLITE_PREFIX

    def number_of_calls(self) -> int:
        where = self._of_days("started_on")
        found = self._execute(f"SELECT count(*) FROM {self._prefix}{CALLS} WHERE {where}", self._values)  # noqa: S608 - names of ours
        return int(found.scalar_one())

    def calls(self) -> Iterator[list[Row]]:
        """In the order of day and key, some at a time."""
        rows = self._select(
            CALLS, f"WHERE {self._of_days('started_on')} ORDER BY location_id, started_on, call_id", self._values
        )
        while some := list(islice(rows, CALLS_AT_ONCE)):
            yield some

    def of_calls(self, view: str, calls: Sequence[Row]) -> Iterator[Row]:
        """The rows of a view that belong to these calls, which are in order of their accounts."""
        columns = self._asked.columns(CALLS)
        account, key = columns.index("location_id"), columns.index("call_id")
        order = "follow_up_id" if view == "follow_ups" else "field" if view == "call_fields" else "position"
        where = f"WHERE location_id = :location AND call_id IN :calls ORDER BY call_id, {order}"
        for location, these in groupby(calls, key=lambda row: row[account]):
            yield from self._select(view, where, {"location": location, "calls": [row[key] for row in these]})

    def coverage(self) -> Iterator[Row]:
        yield from self._select(COVERAGE, f"WHERE {self._of_days('day')} ORDER BY location_id, day", self._values)

    def _of_days(self, column: str) -> str:
        own = " AND location_id IN :locations" if self._asked.locations else ""
        return f"{column} BETWEEN :first AND :last{own}"

    @property
    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = {"first": self._asked.first, "last": self._asked.last}
        if not on_postgresql(self._connection):
            values = {name: day.isoformat() for name, day in values.items()}
        return values | ({"locations": list(self._asked.locations)} if self._asked.locations else {})

    def _select(self, view: str, rest: str, values: dict[str, Any]) -> Iterator[Row]:
        columns = self._asked.columns(view)
        types = [type_of(name) for name in columns]
        statement = f"SELECT {', '.join(columns)} FROM {self._prefix}{view} {rest}"  # noqa: S608 - names of ours
        for row in self._execute(statement, values):
            yield tuple(map(_typed, types, row))

    def _execute(self, statement: str, values: dict[str, Any]) -> sa.CursorResult[Any]:
        many: list[sa.BindParameter[Any]] = [
            sa.bindparam(name, expanding=True) for name in ("locations", "calls") if name in values
        ]
        return self._connection.execute(
            sa.text(statement).bindparams(*many), values, execution_options={"yield_per": CALLS_AT_ONCE}
        )


@contextmanager
def snapshot(database: Database, asked: Asked) -> Iterator[Snapshot]:
    """Raises SQLAlchemyError."""
    with database.engine.connect() as connection:
        if on_postgresql(connection):
            with connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True).begin():
                yield Snapshot(connection, asked)
            return
        connection.execution_options(isolation_level="AUTOCOMMIT")  # else it would take SQLite's write lock
        connection.exec_driver_sql("BEGIN")
        try:
            yield Snapshot(connection, asked)
        finally:
            connection.exec_driver_sql("ROLLBACK")


def _typed(kind: Type, value: Any) -> Any:
    """A str, int, float, bool, date, datetime in UTC, or what JSON holds; None stays None."""
    if value is None:
        return None
    match kind:
        case Type.INSTANT:
            at = datetime.fromisoformat(value) if isinstance(value, str) else value
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        case Type.DAY:
            return date.fromisoformat(value) if isinstance(value, str) else value
        case Type.BOOLEAN:
            return bool(value)
        case Type.NUMBER:
            return float(value)
        case Type.INTEGER:
            return int(value)
        case Type.JSON:
            return json.loads(value) if isinstance(value, str) else value
        case Type.TEXT:
            return value
