"""Arrivals that were taken out of a file which may still hold them, so that each is taken once.

A file and the database do not commit together. What is taken is committed in the database first, with its id here, and
leaves the file then; a crash between the two, or another process at the same time, finds the id.
"""

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from models.database import UtcDateTime, metadata, moment

taken_arrivals_table = sa.Table(
    "taken_arrivals",
    metadata,
    sa.Column("arrival_id", sa.Text, primary_key=True),
    sa.Column("taken_at", UtcDateTime, nullable=False),
    comment="arrivals that were taken out of a file which may still hold them",
)


def remember(connection: Connection, arrival_ids: Collection[str]) -> set[str]:
    """Those of these arrivals that were not taken before. Waits for another process that is taking one of them."""
    rows = [{"arrival_id": each} for each in sorted(arrival_ids)]  # sorted, so that two at once do not deadlock
    return set(connection.execute(_REMEMBER[connection.dialect.name], rows).scalars()) if rows else set()


def forget(connection: Connection, arrival_ids: Collection[str]) -> None:
    """Their file holds them no longer."""
    connection.execute(_FORGET, {"these": sorted(arrival_ids)})


_INSERTS: dict[str, Any] = {
    "postgresql": postgresql.insert(taken_arrivals_table),
    "sqlite": sqlite.insert(taken_arrivals_table),
}
_REMEMBER = {
    name: each.values(taken_at=moment()).on_conflict_do_nothing().returning(taken_arrivals_table.c.arrival_id)
    for name, each in _INSERTS.items()
}
_FORGET = sa.delete(taken_arrivals_table).where(
    taken_arrivals_table.c.arrival_id.in_(sa.bindparam("these", expanding=True))
)
