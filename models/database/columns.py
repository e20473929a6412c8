"""What tables and statements are made of on both databases: column types, the database's clock, dialects."""

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

OWN_FILE = "own_file_on_sqlite"
"""A table whose `info` has this key is in a file of its own on SQLite."""

Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An instant: `timestamptz` on PostgreSQL, `YYYY-MM-DD HH:MM:SS.ffffff` in UTC on SQLite; aware in Python."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        in_utc = value.astimezone(UTC)
        return in_utc if dialect.name == "postgresql" else in_utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class moment(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's time `seconds` from now, before now if negative: the one clock of leases and due times."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: float | sa.ColumnElement[Any] = 0) -> None:
        super().__init__(seconds if isinstance(seconds, sa.ColumnElement) else sa.literal(float(seconds), sa.Double))


@compiles(moment, "postgresql")
def _moment_in_postgresql(element: moment, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(statement_timestamp() + make_interval(secs => CAST({seconds} AS double precision)))"


@compiles(moment, "sqlite")
def _moment_in_sqlite(element: moment, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+.3f seconds', {seconds}))"


def now(connection: Connection) -> datetime:
    """The time by the database's clock."""
    at: datetime = connection.execute(sa.select(moment())).scalar_one()
    return at


def insert(connection: Connection, table: sa.Table) -> Any:
    """An INSERT of the connection's dialect, for its `on_conflict_…` clauses."""
    dialect = connection.dialect.name
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def columns_of(table: sa.Table, row_type: type) -> tuple[sa.Column[Any], ...]:
    """The columns of `table` that a dataclass names, in the order of its fields: `row_type(*row)` is a selected row."""
    return tuple(table.c[field.name] for field in fields(row_type))


def earlier_of(connection: Connection, first: Any, second: Any) -> Any:
    """The earlier of two times; the second one where the first is null."""
    earlier = sa.func.least if on_postgresql(connection) else sa.func.min
    return earlier(sa.func.coalesce(first, second), second)


def on_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"
