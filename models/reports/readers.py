"""The roles of PostgreSQL that read `leadway_v1` and nothing else, and which accounts each of them may see."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import UtcDateTime, metadata, moment

readers_table = sa.Table(
    "readers",
    metadata,
    sa.Column("name", sa.Text, primary_key=True, comment="of the role"),
    sa.Column("with_words", sa.Boolean, nullable=False, comment="whether it sees what people said, numbers, notes"),
    sa.Column("restricted", sa.Boolean, nullable=False, comment="whether it sees its reader_locations only"),
    sa.Column("added_at", UtcDateTime, nullable=False),
    comment="the roles that leadway-calls readers has made",
)

reader_locations_table = sa.Table(
    "reader_locations",
    metadata,
    sa.Column("reader", sa.Text, sa.ForeignKey("readers.name", ondelete="CASCADE"), primary_key=True),
    sa.Column("location_id", sa.Text, primary_key=True),
    comment="the accounts that a restricted reader sees",
)


@dataclass(frozen=True)
class Reader:
    """A row of `readers`, with its accounts; None: it sees all of them."""

    name: str
    with_words: bool
    added_at: datetime
    locations: tuple[str, ...] | None


def add(connection: Connection, name: str, *, with_words: bool, locations: Collection[str]) -> None:
    """Writes the reader. Without `locations` it sees every account."""
    values = {"name": name, "with_words": with_words, "restricted": bool(locations), "added_at": moment()}
    connection.execute(sa.insert(readers_table).values(values))
    for location_id in sorted(set(locations)):
        connection.execute(sa.insert(reader_locations_table).values(reader=name, location_id=location_id))


def every(connection: Connection) -> list[Reader]:
    """Each reader, by name."""
    located: dict[str, list[str]] = {}
    for row in connection.execute(sa.select(reader_locations_table).order_by(*reader_locations_table.c)):
        located.setdefault(row.reader, []).append(row.location_id)
    return [
        Reader(row.name, row.with_words, row.added_at, tuple(located.get(row.name, ())) if row.restricted else None)
        for row in connection.execute(sa.select(readers_table).order_by(readers_table.c.name))
    ]


def remove(connection: Connection, name: str) -> bool:
    """Deletes the reader's rows. False: there is none."""
    return bool(connection.execute(sa.delete(readers_table).where(readers_table.c.name == name)).rowcount)
