"""The notifications: our record of each HTTP body that Leadway sent, one row however often it came."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import Json, UtcDateTime, columns_of, insert, metadata, moment


class NotificationStatus(StrEnum):
    """What became of a notification."""

    ACCEPTED = "accepted"
    UNRESOLVED = "unresolved"
    """It names no usable call id: the call is looked for in Leadway's list."""
    IGNORED = "ignored"
    """It is for no account that we serve, of an event type that we do not want, or unreadable."""


notifications_table = sa.Table(
    "notifications",
    metadata,
    sa.Column(
        "notification_id", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True, autoincrement=True
    ),
    sa.Column("dedupe_key", sa.Text, nullable=False, unique=True, comment="what tells a repeat from a new one"),
    sa.Column("location_id", sa.Text, nullable=True),
    sa.Column("call_id", sa.Text, nullable=True),
    sa.Column("contact_id", sa.Text, nullable=True),
    sa.Column("from_number", sa.Text, nullable=True),
    sa.Column("started_at", UtcDateTime, nullable=True, comment="of the call, where the body tells"),
    sa.Column("webhook_id", sa.Text, nullable=True),
    sa.Column("event_type", sa.Text, nullable=True),
    sa.Column("dialect", sa.Text, nullable=False),
    sa.Column("authenticated_by", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=True, comment="why it is ignored or unresolved"),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("last_received_at", UtcDateTime, nullable=False),
    sa.Column("repeats", sa.Integer, nullable=False, default=0),
    sa.Column("document", Json, nullable=True, comment="the body, secrets replaced"),
    sa.Index("ix_notifications_call", "location_id", "call_id"),
    sa.Index("ix_notifications_received_at", "location_id", "received_at"),
)
_IS_UNRESOLVED = notifications_table.c.status == "unresolved"
sa.Index(
    "ix_notifications_unresolved", notifications_table.c.location_id, notifications_table.c.received_at,
    postgresql_where=_IS_UNRESOLVED, sqlite_where=_IS_UNRESOLVED,
)  # fmt: skip


@dataclass(frozen=True)
class StoredNotification:
    """A row of `notifications`."""

    notification_id: int
    dedupe_key: str
    location_id: str | None
    call_id: str | None
    contact_id: str | None
    from_number: str | None
    started_at: datetime | None
    webhook_id: str | None
    event_type: str | None
    dialect: str
    authenticated_by: str
    status: str
    reason: str | None
    received_at: datetime
    last_received_at: datetime
    repeats: int
    document: Mapping[str, Any] | None


def record(connection: Connection, dedupe_key: str, **values: Any) -> bool:
    """Writes the notification, or counts it as a repeat of the one with its dedupe key. Returns True when it is new.

    Values are the columns of `notifications` without times and counts.
    """
    statement = (
        insert(connection, notifications_table)
        .values(dedupe_key=dedupe_key, received_at=moment(), last_received_at=moment(), repeats=0, **values)
        .on_conflict_do_nothing(index_elements=["dedupe_key"])
        .returning(notifications_table.c.notification_id)
    )
    if connection.execute(statement).first() is not None:
        return True
    this = notifications_table.c.dedupe_key == dedupe_key
    repeated = {"repeats": notifications_table.c.repeats + 1, "last_received_at": moment()}
    connection.execute(sa.update(notifications_table).where(this).values(repeated))
    if values["status"] == NotificationStatus.ACCEPTED:  # it was ignored if its account was added only since
        ignored = notifications_table.c.status == NotificationStatus.IGNORED
        connection.execute(sa.update(notifications_table).where(this, ignored).values(**values))
    return False


def become_unresolved(connection: Connection, location_id: str, call_id: str, *, reason: str) -> None:
    """Makes the notifications of a call id unresolved: the id turned out to name no call."""
    connection.execute(
        sa.update(notifications_table)
        .where(notifications_table.c.location_id == location_id, notifications_table.c.call_id == call_id)
        .values(status=NotificationStatus.UNRESOLVED, reason=reason, call_id=None)
    )


def of_call(connection: Connection, location_id: str, call_id: str) -> list[StoredNotification]:
    """The notifications of a call, oldest first."""
    of_the_call = _SELECT.where(
        notifications_table.c.location_id == location_id, notifications_table.c.call_id == call_id
    )
    rows = connection.execute(of_the_call.order_by(notifications_table.c.received_at))
    return [StoredNotification(*row) for row in rows]


def newest(connection: Connection, *, limit: int, location_id: str | None = None) -> list[StoredNotification]:
    """The newest notifications by their first arrival, of one account or of all."""
    query = _SELECT.order_by(notifications_table.c.notification_id.desc())
    if location_id is not None:
        of_account = _SELECT.where(notifications_table.c.location_id == location_id)
        query = of_account.order_by(notifications_table.c.received_at.desc())
    return [StoredNotification(*row) for row in connection.execute(query.limit(limit))]


_SELECT = sa.select(*columns_of(notifications_table, StoredNotification))
