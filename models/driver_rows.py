"""Rows for statements that go to the driver as they are, because SQLAlchemy's part would cost several times as much.

On PostgreSQL all rows are one parameter, a JSON list of objects, so the statement's text is always the same and is
prepared once. On SQLite each row is a tuple: to take a JSON object apart there costs more than to bind its values.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from models.database import Json, UtcDateTime

NOW = {"postgresql": "statement_timestamp()", "sqlite": "strftime('%Y-%m-%d %H:%M:%f000', 'now')"}
"""The database's clock, as `models.database.moment` reads it."""

WITHOUT_ZONE = len("2026-01-31 00:00:00.000000")

Columns = Mapping[str, sa.types.TypeEngine[Any]]


def columns_of(table: sa.Table) -> dict[str, sa.types.TypeEngine[Any]]:
    """The names and types of a table's columns."""
    return {column.name: column.type for column in table.c}


def as_json(rows: Iterable[Mapping[str, Any]]) -> str:
    """The parameter for PostgreSQL. Values: what JSON has, aware datetimes, dates."""
    return json.dumps(list(rows), default=_as_text)


def rows_of_json(columns: Columns) -> str:
    """What to select from, as `rows`, with the place of the parameter. Times are without a zone, in UTC."""
    typed = ", ".join(f"{name} {_type_name(type_)}" for name, type_ in columns.items())
    return f"json_to_recordset(CAST(%s AS json)) AS rows({typed})"


def value_of_json(columns: Columns, name: str) -> str:
    """A value of `rows`, as it goes into a column of its type."""
    return f"rows.{name} AT TIME ZONE 'UTC'" if isinstance(columns[name], UtcDateTime) else f"rows.{name}"


def tuple_maker(columns: Columns) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """What makes the parameters for SQLite of a row, in the order of the columns; null where the row has nothing."""
    conversions = [(name, _IN_SQLITE.get(type(type_))) for name, type_ in columns.items()]

    def as_tuple(row: Mapping[str, Any]) -> tuple[Any, ...]:
        get = row.get
        return tuple(
            [
                value if (value := get(name)) is None or convert is None else convert(value)
                for name, convert in conversions
            ]
        )

    return as_tuple


def _as_text(value: object) -> str:
    """In the form in which SQLite keeps it, and PostgreSQL reads it."""
    if isinstance(value, datetime):
        in_utc = value if value.tzinfo is UTC else value.astimezone(UTC)
        return in_utc.isoformat(" ", "microseconds")[:WITHOUT_ZONE]
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be a value of a row")


_IN_SQLITE: Mapping[type, Callable[[Any], Any]] = {
    UtcDateTime: _as_text, sa.Date: _as_text, sa.Text: str, type(Json): json.dumps,
}  # fmt: skip


def _type_name(type_: sa.types.TypeEngine[Any]) -> str:
    if isinstance(type_, UtcDateTime):
        return "timestamp"
    return "jsonb" if type_ is Json else str(type_.compile(postgresql.dialect()))  # type: ignore[no-untyped-call]
