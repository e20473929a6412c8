"""The notifications: our record of each HTTP body that Leadway sent, one row however often it came."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from models.database import Json, UtcDateTime, columns_of, metadata

SIGNATURES = ("ed25519", "rsa")
"""`authenticated_by` of what Leadway signed; all else came with an account's intake secret."""


class NotificationStatus(StrEnum):
    """What became of a notification."""

    ACCEPTED = "accepted"
    UNRESOLVED = "unresolved"
    """It names no usable call id: the call is looked for in Leadway's list."""
    IGNORED = "ignored"
    """It is for no account that we serve, of an event type that we do not want, or unreadable."""


@dataclass(frozen=True)
class Arrival:
    """One arrival of a notification: who sent it, and what its body says. The repr contains nothing that identifies a
    person."""

    arrival_id: str
    """Minted by the receiver: one arrival is kept once, whichever way it takes."""
    dedupe_key: str
    """Shared with the repeats of the same notification."""
    dialect: str
    authenticated_by: str
    status: NotificationStatus
    """By the body alone; `workers.take_in` decides by the database."""
    reason: str | None = None
    location_id: str | None = None
    call_id: str | None = None
    contact_id: str | None = None
    from_number: str | None = field(default=None, repr=False)
    started_at: datetime | None = None
    webhook_id: str | None = None
    event_type: str | None = None
    document: Any = field(default=None, repr=False)
    received_at: datetime | None = None
    """None: it is written down only now."""

    @property
    def is_signed(self) -> bool:
        return self.authenticated_by in SIGNATURES

    @property
    def call_key(self) -> tuple[str, str] | None:
        """Of the call that it announces; None: it announces none."""
        if self.status is not NotificationStatus.ACCEPTED or self.location_id is None or self.call_id is None:
            return None
        return self.location_id, self.call_id


def told_columns() -> list[sa.Column[Any]]:
    """The columns that hold an `Arrival` without its ids and its time."""
    return [
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
        sa.Column("document", Json, nullable=True, comment="the body, secrets replaced"),
    ]


notifications_table = sa.Table(
    "notifications",
    metadata,
    sa.Column(
        "notification_id", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True, autoincrement=True
    ),
    sa.Column("dedupe_key", sa.Text, nullable=False, unique=True, comment="what tells a repeat from a new one"),
    *told_columns(),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sa.Column("last_received_at", UtcDateTime, nullable=False),
    sa.Column("repeats", sa.Integer, nullable=False, default=0),
    sa.Index("ix_notifications_call", "location_id", "call_id"),
    sa.Index("ix_notifications_received_at", "location_id", "received_at"),
)
_HAS_WORDS = notifications_table.c.document.is_not(None) | notifications_table.c.from_number.is_not(None)
sa.Index(
    "ix_notifications_last_received_at", notifications_table.c.last_received_at, postgresql_where=_HAS_WORDS,
    sqlite_where=_HAS_WORDS,
)  # fmt: skip
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


def signed_documents(
    connection: Connection, call_keys: Collection[tuple[str, str]]
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Location id, call id and body of each notification of these calls that Leadway signed, the earliest first."""
    location_ids, call_ids = (sorted(set(ids)) for ids in zip(*call_keys, strict=True))
    for row in connection.execute(_SIGNED_DOCUMENTS, {"location_ids": location_ids, "call_ids": call_ids}):
        if (row.location_id, row.call_id) in call_keys and isinstance(row.document, dict):
            yield row.location_id, row.call_id, row.document


def merge(connection: Connection, arrivals: Sequence[Arrival]) -> None:
    """Writes a notification for each dedupe key, or counts its arrivals as repeats. `arrivals`: the earliest first.

    The first arrival counts, with two exceptions. It was ignored and a later one is accepted, as when its account was
    added since. It named no call and was given one since: a later one may be about another call of the same contact.
    """
    by_key: dict[str, list[Arrival]] = {}
    for arrival in arrivals:
        by_key.setdefault(arrival.dedupe_key, []).append(arrival)
    rows = [_row(of_key) for _, of_key in sorted(by_key.items())]  # sorted, so that two at once do not deadlock
    connection.execute(_MERGE[connection.dialect.name], rows)


def _row(arrivals: Sequence[Arrival]) -> dict[str, Any]:
    told = next((each for each in arrivals if each.status == NotificationStatus.ACCEPTED), arrivals[0])
    return {
        **{name: getattr(told, name) for name in _TOLD},
        "dedupe_key": told.dedupe_key,
        "received_at": arrivals[0].received_at,
        "last_received_at": arrivals[-1].received_at,
        "repeats": len(arrivals) - 1,
    }


_TOLD = tuple(column.name for column in told_columns())


def _merging(insert: Callable[[sa.Table], Any]) -> Any:
    statement = insert(notifications_table)
    old, new = notifications_table.c, statement.excluded
    is_of_use_now = sa.and_(old.status == NotificationStatus.IGNORED, new.status == NotificationStatus.ACCEPTED)
    tells_again = sa.and_(old.status == NotificationStatus.ACCEPTED, new.status == NotificationStatus.UNRESOLVED)
    is_replaced = sa.or_(is_of_use_now, tells_again)
    return statement.on_conflict_do_update(
        index_elements=["dedupe_key"],
        set_={
            **{name: sa.case((is_replaced, new[name]), else_=old[name]) for name in _TOLD},
            "repeats": old.repeats + new.repeats + 1,
            "last_received_at": sa.case(
                (new.last_received_at > old.last_received_at, new.last_received_at), else_=old.last_received_at
            ),
        },
    )


_SIGNED_DOCUMENTS = (
    sa.select(*(notifications_table.c[name] for name in ("location_id", "call_id", "document")))
    .where(
        # Two lists, for SQLite would read the whole table for a list of pairs.
        notifications_table.c.location_id.in_(sa.bindparam("location_ids", expanding=True)),
        notifications_table.c.call_id.in_(sa.bindparam("call_ids", expanding=True)),
        notifications_table.c.authenticated_by.in_(SIGNATURES),
        notifications_table.c.document.is_not(None),
    )
    .order_by(notifications_table.c.notification_id)
)
_MERGE = {"postgresql": _merging(postgresql.insert), "sqlite": _merging(sqlite.insert)}
"""Built once, by dialect."""


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
