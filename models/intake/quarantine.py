"""The quarantine: arrivals that the database refused to take in, each by itself, with the error that it gave.

A row is moved here as it is, so that one that cannot even be read stops no batch. A person looks at it; the call itself
is found in Leadway's list.
"""

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import UtcDateTime, insert, metadata, moment, on_postgresql
from models.intake.inbox import inbox_table
from models.intake.notifications import NotificationStatus, told_columns

quarantine_table = sa.Table(
    "quarantine",
    metadata,
    sa.Column("arrival_id", sa.Text, primary_key=True),
    sa.Column("dedupe_key", sa.Text, nullable=False),
    *told_columns(),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("quarantined_at", UtcDateTime, nullable=False),
    sa.Column("error", sa.Text, nullable=False, comment="kind of the error; its words could quote a person's"),
    sa.Column("raw", sa.LargeBinary, nullable=True, comment="what could not be kept in the other columns"),
    sa.Index("ix_quarantine_quarantined_at", "quarantined_at"),
)
_COPIED = [column.name for column in quarantine_table.c if column.name in inbox_table.c]


def set_aside(connection: Connection, number: int, *, error: str) -> bool:
    """Moves a row of the inbox into the quarantine. Returns False when it is gone, or is being taken in now.

    On SQLite it stays in the inbox until `inbox.forget` is called after the commit.
    """
    this = sa.select(inbox_table.c.number).where(inbox_table.c.number == number).with_for_update(skip_locked=True)
    if connection.execute(this).first() is None:
        return False
    copied = sa.select(
        *(inbox_table.c[name] for name in _COPIED), moment().label("quarantined_at"), sa.literal(error).label("error")
    ).where(inbox_table.c.number == number)
    columns = [*_COPIED, "quarantined_at", "error"]
    connection.execute(insert(connection, quarantine_table).from_select(columns, copied).on_conflict_do_nothing())
    if on_postgresql(connection):
        connection.execute(sa.delete(inbox_table).where(inbox_table.c.number == number))
    return True


def keep(connection: Connection, arrival_id: str, raw: bytes, *, error: str) -> None:
    """Keeps an arrival whose values the database refuses, as bytes."""
    values = {
        "arrival_id": arrival_id, "dedupe_key": arrival_id, "dialect": "unknown", "authenticated_by": "unknown",
        "status": NotificationStatus.IGNORED, "received_at": moment(), "quarantined_at": moment(), "error": error,
        "raw": raw,
    }  # fmt: skip
    connection.execute(insert(connection, quarantine_table).values(values).on_conflict_do_nothing())


def in_the_last_day(connection: Connection) -> int:
    """How many arrivals were set aside in the last 24 hours."""
    lately = sa.select(sa.func.count()).where(quarantine_table.c.quarantined_at > moment(-86_400))
    return int(connection.execute(lately).scalar_one())
