"""The windows of reconciling: each span of Leadway's list that is or was read, with what it listed and what we have.

A window carries its own schedule, lease and fence, as calls do. It is read page by page, first its LIVE list, then its
TRIAL list. The ids that the current list has shown are in `models.reconciling.seen_ids`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import circuit_breaker
from models.accounts.accounts import accounts_table
from models.accounts.pauses import is_paused
from models.calls.calls import Origin
from models.database import UtcDateTime, insert, metadata, moment
from models.work.lifecycle import LeaseLost
from models.work.work_rows import Lane


class WindowKind(StrEnum):
    """Why a window is read."""

    REGULAR = "regular"
    """From the account's watermark to now, every few minutes."""
    DAILY = "daily"
    """The last days, once a day, for logs that appeared late."""
    SINCE = "since"
    """From a time that a person named."""
    NARROW = "narrow"
    """Around a notification that names no call."""
    BURST = "burst"
    """Over the time of a backlog of calls, because one page brings fifty logs."""
    BACKFILL = "backfill"
    """History from before the account was added; only its command reads it."""


LANES = {
    WindowKind.REGULAR: Lane.RECONCILED,
    WindowKind.DAILY: Lane.BACKFILLED,
    WindowKind.SINCE: Lane.RECONCILED,
    WindowKind.NARROW: Lane.RECONCILED,
    WindowKind.BURST: Lane.LIVE,  # one of its requests saves fifty live ones
    WindowKind.BACKFILL: Lane.BACKFILLED,
}
AUTOMATIC = (WindowKind.REGULAR, WindowKind.DAILY, WindowKind.NARROW, WindowKind.BURST)
"""Windows that nobody asked for. They count calls from the time the account was added."""
_READ_BY_WORKERS = tuple(kind for kind in WindowKind if kind is not WindowKind.BACKFILL)
KEPT_SECONDS = 90 * 86_400.0
"""How long windows without findings stay on record."""

reconciliations_table = sa.Table(
    "reconciliations",
    metadata,
    sa.Column(
        "reconciliation_id",
        sa.Integer().with_variant(sa.BigInteger, "postgresql"),
        primary_key=True,
        autoincrement=True,
    ),
    sa.Column("location_id", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, comment="regular, daily, since, narrow, burst, backfill"),
    sa.Column("slot", sa.Text, nullable=False, comment="of one slot at most one window is open"),
    sa.Column("contact_id", sa.Text, nullable=True, comment="of a narrow one: only this contact's calls are listed"),
    sa.Column("notification_id", sa.BigInteger, nullable=True, comment="of a narrow one: what it is read for"),
    sa.Column("plans_follow_ups", sa.Boolean, nullable=False, default=True),
    sa.Column("run_from", UtcDateTime, nullable=False, comment="the whole run; it is read window by window"),
    sa.Column("run_until", UtcDateTime, nullable=False),
    sa.Column("window_from", UtcDateTime, nullable=False, comment="by the calls' start"),
    sa.Column("window_until", UtcDateTime, nullable=False),
    sa.Column("listed", sa.Integer, nullable=False, default=0, comment="distinct calls that Leadway listed"),
    sa.Column("held", sa.Integer, nullable=False, default=0, comment="of those, calls that have a row"),
    sa.Column("unannounced", sa.Integer, nullable=False, default=0, comment="calls that only the list told of"),
    sa.Column("changed", sa.Integer, nullable=False, default=0, comment="stored logs that were brought up to date"),
    sa.Column("unreadable", sa.Integer, nullable=False, default=0, comment="listed rows without a usable id"),
    sa.Column("requests", sa.Integer, nullable=False, default=0),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime, nullable=True, comment="null: open"),
    sa.Column("error", sa.Text, nullable=True, comment="what holds it up now, or why it ended without a result"),
    # Where the reader is
    sa.Column("call_type", sa.Text, nullable=False, default="LIVE", comment="LIVE or TRIAL, the list being read"),
    sa.Column("pass_number", sa.Integer, nullable=False, default=1, comment="how often that list was begun"),
    sa.Column("next_page", sa.Integer, nullable=False, default=1),
    sa.Column("told", sa.Integer, nullable=True, comment="the total that Leadway told last"),
    sa.Column("restless", sa.Boolean, nullable=False, default=False, comment="that total fell during this pass"),
    sa.Column("looks", sa.Integer, nullable=False, default=0, comment="of a narrow one: how often it was read"),
    # Schedule, lease and fence
    sa.Column("next_attempt_at", UtcDateTime, nullable=True),
    sa.Column("failures", sa.Integer, nullable=False, default=0, comment="in a row"),
    sa.Column("fence", sa.Integer, nullable=False, default=0),
    sa.Column("lease_until", UtcDateTime, nullable=True),
    sa.Column("claimed_at", UtcDateTime, nullable=True),
    sa.Index("ix_reconciliations_location_id", "location_id", "started_at"),
)
WINDOW_IS_OPEN = reconciliations_table.c.finished_at.is_(None)
sa.Index(
    "uq_reconciliations_open", reconciliations_table.c.location_id, reconciliations_table.c.slot, unique=True,
    postgresql_where=WINDOW_IS_OPEN, sqlite_where=WINDOW_IS_OPEN,
)  # fmt: skip
sa.Index(
    "ix_reconciliations_notification_id", reconciliations_table.c.notification_id,
    postgresql_where=reconciliations_table.c.notification_id.is_not(None),
    sqlite_where=reconciliations_table.c.notification_id.is_not(None),
)  # fmt: skip


@dataclass(frozen=True)
class Window:
    """A row of `reconciliations`. `claimed_at`, the database's time before the request, dates the reading."""

    reconciliation_id: int
    location_id: str
    kind: WindowKind
    slot: str
    contact_id: str | None
    notification_id: int | None
    plans_follow_ups: bool
    run_from: datetime
    run_until: datetime
    window_from: datetime
    window_until: datetime
    listed: int
    held: int
    unannounced: int
    changed: int
    unreadable: int
    requests: int
    started_at: datetime
    finished_at: datetime | None
    error: str | None
    call_type: str
    pass_number: int
    next_page: int
    told: int | None
    restless: bool
    looks: int
    next_attempt_at: datetime | None
    failures: int
    fence: int
    claimed_at: datetime | None

    @property
    def lane(self) -> Lane:
        return LANES[self.kind]

    @property
    def origin(self) -> Origin:
        return Origin.BACKFILL if self.kind is WindowKind.BACKFILL else Origin.RECONCILE


_COLUMNS = tuple(reconciliations_table.c[name] for name in Window.__dataclass_fields__)


def _window(row: Any) -> Window:
    return Window(**{**row._mapping, "kind": WindowKind(row.kind)})


def open_run(
    connection: Connection,
    location_id: str,
    *,
    kind: WindowKind,
    since: datetime,
    until: datetime,
    slot: str | None = None,
    contact_id: str | None = None,
    notification_id: int | None = None,
    plans_follow_ups: bool = True,
    delay_seconds: float = 0.0,
) -> bool:
    """Opens the first window of a run. Returns False when the slot has an open window already.

    `slot` is the kind by default: at most one window of each slot of an account is open.
    """
    statement = (
        insert(connection, reconciliations_table)
        .values(
            location_id=location_id, kind=kind, slot=slot or kind, contact_id=contact_id,
            notification_id=notification_id, plans_follow_ups=plans_follow_ups, run_from=since, run_until=until,
            window_from=since, window_until=until, started_at=moment(), next_attempt_at=moment(delay_seconds),
            **_NOTHING_READ,
        )
        .on_conflict_do_nothing()
        .returning(reconciliations_table.c.reconciliation_id)
    )  # fmt: skip
    return connection.execute(statement).first() is not None


_NOTHING_READ: dict[str, Any] = {
    "listed": 0, "held": 0, "unannounced": 0, "changed": 0, "unreadable": 0, "requests": 0, "call_type": "LIVE",
    "pass_number": 1, "next_page": 1, "restless": False, "looks": 0, "failures": 0, "fence": 0,
}  # fmt: skip


def get_open(connection: Connection, location_id: str, slot: str) -> Window | None:
    this = sa.and_(
        reconciliations_table.c.location_id == location_id, reconciliations_table.c.slot == slot, WINDOW_IS_OPEN
    )
    row = connection.execute(sa.select(*_COLUMNS).where(this)).first()
    return None if row is None else _window(row)


def due(connection: Connection, *, limit: int) -> list[int]:
    """Ids of open windows whose next page may be requested now, the most urgent lane first.

    Backfills are left out: only their command reads them (docs/decisions/0034).
    """
    rows = connection.execute(
        sa.select(reconciliations_table.c.reconciliation_id)
        .where(WINDOW_IS_OPEN, reconciliations_table.c.kind.in_(_READ_BY_WORKERS), _may_be_read())
        .order_by(
            sa.case({str(kind): lane.value for kind, lane in LANES.items()}, value=reconciliations_table.c.kind),
            reconciliations_table.c.next_attempt_at,
        )
        .limit(limit)
    )
    return list(rows.scalars())


def next_of(connection: Connection, reconciliation_id: int) -> int | None:
    """The id of the open window in this one's slot, itself or the next of its run. None if its next page may not be
    requested now."""
    this = reconciliations_table.alias()
    same_slot = sa.select(this.c.location_id, this.c.slot).where(this.c.reconciliation_id == reconciliation_id)
    columns = sa.tuple_(reconciliations_table.c.location_id, reconciliations_table.c.slot)
    statement = sa.select(reconciliations_table.c.reconciliation_id).where(
        WINDOW_IS_OPEN, _may_be_read(), columns.in_(same_slot)
    )
    return connection.execute(statement).scalar_one_or_none()


def claim(connection: Connection, reconciliation_id: int, *, lease_seconds: float) -> Window | None:
    """Claims the window to read its next page.

    Returns None when it is closed, leased or not due, or when its account is removed, paused, or stopped by its circuit
    breaker.
    """
    row = connection.execute(
        sa.update(reconciliations_table)
        .where(reconciliations_table.c.reconciliation_id == reconciliation_id, WINDOW_IS_OPEN, _may_be_read())
        .values(
            fence=reconciliations_table.c.fence + 1,
            lease_until=moment(lease_seconds),
            next_attempt_at=moment(lease_seconds),
            claimed_at=moment(),
            requests=reconciliations_table.c.requests + 1,
        )
        .returning(*_COLUMNS)
    ).first()
    return None if row is None else _window(row)


def release(connection: Connection, window: Window, **values: Any) -> None:
    """Ends the claim and writes column values. Raises LeaseLost when another claim has been made since."""
    statement = (
        sa.update(reconciliations_table)
        .where(
            reconciliations_table.c.reconciliation_id == window.reconciliation_id,
            reconciliations_table.c.fence == window.fence,
            reconciliations_table.c.lease_until.is_not(None),
            WINDOW_IS_OPEN,
        )
        .values(**{"lease_until": None, "claimed_at": None, **values})
    )
    if connection.execute(statement).rowcount != 1:
        raise LeaseLost


def close(connection: Connection, window: Window, **values: Any) -> None:
    """Ends the claim and the window, and writes column values. Raises LeaseLost."""
    release(connection, window, **{"failures": 0, **values}, finished_at=moment(), next_attempt_at=None)


def open_next(connection: Connection, window: Window) -> bool:
    """Opens a window for the rest of the run, from the end of this one. Returns False when the run is at its end."""
    if window.window_until >= window.run_until:
        return False
    connection.execute(
        sa.insert(reconciliations_table).values(
            location_id=window.location_id, kind=window.kind, slot=window.slot, contact_id=window.contact_id,
            notification_id=window.notification_id, plans_follow_ups=window.plans_follow_ups,
            run_from=window.run_from, run_until=window.run_until, window_from=window.window_until,
            window_until=window.run_until, started_at=moment(), next_attempt_at=moment(), **_NOTHING_READ,
        )
    )  # fmt: skip
    return True


def _may_be_read() -> sa.ColumnElement[bool]:
    served = sa.exists().where(
        accounts_table.c.location_id == reconciliations_table.c.location_id,
        accounts_table.c.removed_at.is_(None),
        circuit_breaker.lets_requests_through(),
    )
    return sa.and_(
        reconciliations_table.c.next_attempt_at <= moment(), served, ~is_paused(reconciliations_table, "call")
    )


def forget_uneventful(connection: Connection, location_id: str) -> None:
    """Deletes windows that found nothing, KEPT_SECONDS after they were opened. Windows with findings stay."""
    c = reconciliations_table.c
    connection.execute(
        sa.delete(reconciliations_table).where(
            c.location_id == location_id,
            c.started_at < moment(-KEPT_SECONDS),
            c.finished_at.is_not(None),
            c.error.is_(None),
            c.unannounced == 0,
            c.changed == 0,
        )
    )
