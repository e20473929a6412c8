"""The list of notifications for people, newest first, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import UtcDateTime, columns_of
from models.intake.notifications import NotificationStatus, StoredNotification, notifications_table
from models.reconciling.unresolved import IS_UNRESOLVED


@dataclass(frozen=True)
class NotificationFilter:
    """Which notifications are meant: those for which everything holds that is given. Indexes answer for the account,
    and for what is unresolved in it; of all accounts the newest are walked through."""

    location_id: str | None = None
    call_id: str | None = None
    status: NotificationStatus | None = None
    since: datetime | None = None
    """First received at this time or later."""
    until: datetime | None = None


@dataclass(frozen=True)
class NotificationCursor:
    """The position of a notification in the list."""

    received_at: datetime
    notification_id: int

    def __str__(self) -> str:
        return f"{self.received_at.isoformat()}~{self.notification_id}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """None for text that is no cursor."""
        when, _, number = text.partition("~")
        try:
            received_at, notification_id = datetime.fromisoformat(when), int(number)
        except ValueError:
            return None
        return cls(received_at, notification_id) if received_at.tzinfo else None


@dataclass(frozen=True)
class NotificationPage:
    """`following`: after which notification the next page begins; None: this is the last page."""

    notifications: Sequence[StoredNotification]
    following: NotificationCursor | None


def newest(
    connection: Connection, wanted: NotificationFilter, *, limit: int, after: NotificationCursor | None = None
) -> NotificationPage:
    """At most `limit` notifications, the newest first: of one account by when they first came, of all accounts in the
    order in which they were taken in."""
    c = notifications_table.c
    of_one = wanted.location_id is not None
    order = (c.received_at, c.notification_id) if of_one else (c.notification_id,)
    query = sa.select(*columns_of(notifications_table, StoredNotification))
    for column, value in ((c.location_id, wanted.location_id), (c.call_id, wanted.call_id)):
        if value is not None:
            query = query.where(column == value)
    if wanted.status is not None:
        is_unresolved = wanted.status is NotificationStatus.UNRESOLVED
        query = query.where(IS_UNRESOLVED if is_unresolved else c.status == wanted.status)
    if wanted.since is not None:
        query = query.where(c.received_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(c.received_at < wanted.until)
    if after is not None and of_one:
        at = sa.literal(after.received_at, UtcDateTime)
        query = query.where(c.received_at <= at, sa.tuple_(*order) < sa.tuple_(at, after.notification_id))
    elif after is not None:
        query = query.where(c.notification_id < after.notification_id)
    rows = connection.execute(query.order_by(*(each.desc() for each in order)).limit(limit + 1)).all()
    found = [StoredNotification(*row) for row in rows[:limit]]
    following = None
    if len(rows) > limit:
        following = NotificationCursor(found[-1].received_at, found[-1].notification_id)
    return NotificationPage(found, following)
