"""Unresolved notifications, which name no call: finds the call that each is about, by contact, number and time.

The call is looked for among our own rows, so that whatever brings a call may resolve a notification
(docs/decisions/0033). Windows of Leadway's list bring the calls.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls import calls
from models.calls.calls import calls_table
from models.database import moment, now
from models.intake.notifications import NotificationStatus, StoredNotification, notifications_table

LOOKED_FOR = timedelta(days=3)
"""A notification's call is looked for until this long after the notification came last."""
BY_PERSON = timedelta(hours=24)
"""With a contact or number the call may have begun this long before: a repeat of a notification comes hours later."""
BY_TIME = timedelta(minutes=25)
"""Without contact and number the call began at most this long before, and is the only unannounced one."""
CLOCK_DIFFERENCE = timedelta(minutes=1)
"""By Leadway's clock a call may begin this long after its notification came."""
ON_ITS_WAY = timedelta(minutes=15)
"""So long after a notification the log of its call may be on its way. Until then only a call counts that nothing has
announced yet and that ended lately: an earlier call of the same contact is another one."""
LATELY = timedelta(minutes=30)
SAME_DIGITS = 9
"""The last digits of a number that are compared: numbers come with and without country code and blanks."""
AT_ONCE = 100

IS_UNRESOLVED = sa.text("notifications.status = 'unresolved'")
"""As SQL text, because a partial index serves only a condition that is written like the index's own."""


class FoundBy(StrEnum):
    """How the call of a notification became known."""

    ID = "id"
    """The body names it."""
    CONTACT = "contact"
    LIST = "list"
    """In Leadway's list, by number or time."""


def found_by(notification: StoredNotification) -> FoundBy | None:
    """None: its call is not found, or it is about none."""
    if notification.call_id is None or notification.status != NotificationStatus.ACCEPTED:
        return None
    if notification.call_id in notification.dedupe_key.split(":"):  # made of the id that the body named
        return FoundBy.ID
    return FoundBy.CONTACT if notification.contact_id else FoundBy.LIST


def resolve(connection: Connection, location_id: str) -> list[int]:
    """Gives each unresolved notification the call that it is about, if one of our rows fits, and announces that call.

    Looks at the AT_ONCE newest ones. Returns the ids of the resolved notifications.
    """
    newest = connection.execute(
        sa.select(notifications_table)
        .where(
            _is_unresolved(location_id), notifications_table.c.last_received_at > moment(-LOOKED_FOR.total_seconds())
        )
        .order_by(notifications_table.c.received_at.desc())
        .limit(AT_ONCE)
    ).all()
    resolved = []
    for notification in newest:
        call_id = _call_of(connection, notification)
        if call_id is not None:
            connection.execute(
                sa.update(notifications_table)
                .where(notifications_table.c.notification_id == notification.notification_id)
                .values(call_id=call_id, status=NotificationStatus.ACCEPTED, reason=None)
            )
            calls.announce(connection, location_id, call_id)
            resolved.append(notification.notification_id)
    return resolved


def _is_unresolved(location_id: str) -> sa.ColumnElement[bool]:
    return sa.and_(notifications_table.c.location_id == location_id, IS_UNRESOLVED)


def _call_of(connection: Connection, notification: Any) -> str | None:
    """The contact decides, else the number; of several such calls the one whose time is nearest. None: no call fits."""
    around = notification.started_at or notification.last_received_at
    personal = bool(notification.contact_id or notification.from_number)
    candidates = _calls_around(connection, notification.location_id, around, back=BY_PERSON if personal else BY_TIME)
    if notification.contact_id:
        candidates = [row for row in candidates if row.contact_id == notification.contact_id]
    elif notification.from_number:
        wanted = _digits(notification.from_number)
        candidates = [row for row in candidates if row.from_number and _digits(row.from_number) == wanted]
    else:
        candidates = [row for row in candidates if row.announced_at is None]
        return str(candidates[0].call_id) if len(candidates) == 1 else None
    if notification.started_at is None and now(connection) - notification.last_received_at < ON_ITS_WAY:
        candidates = [row for row in candidates if row.announced_at is None and around - _ended_at(row) < LATELY]
    if not candidates:
        return None

    def distance(row: Any) -> timedelta:
        gap: timedelta = (row.started_at if notification.started_at else _ended_at(row)) - around
        return abs(gap)

    return str(min(candidates, key=distance).call_id)


def _ended_at(row: Any) -> datetime:
    began_at: datetime = row.started_at
    return began_at + timedelta(seconds=row.duration_seconds or 0)


def _calls_around(connection: Connection, location_id: str, around: datetime, *, back: timedelta) -> Sequence[Any]:
    c = calls_table.c
    columns = (c.call_id, c.contact_id, c.from_number, c.started_at, c.duration_seconds, c.announced_at)
    in_time = c.started_at.between(around - back, around + CLOCK_DIFFERENCE)
    return connection.execute(sa.select(*columns).where(c.location_id == location_id, in_time)).all()


def _digits(number: str) -> str:
    return re.sub(r"[^0-9]", "", number)[-SAME_DIGITS:]
