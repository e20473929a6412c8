"""The windows of reconciling: each span of Leadway's list that is or was read, with what it listed and what we have.

A window is work: its slot is the subject of its row of work, so at most one window of a slot is open. It is read page
by page, first its LIVE list, then its TRIAL list. The ids that the current list has shown are in
`models.reconciling.seen_ids`.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.calls import Origin
from models.database import UtcDateTime, insert, metadata, moment
from models.work import lifecycle
from models.work.lifecycle import Claim
from models.work.work_rows import Lane, WorkKey, WorkKind


class WindowKind(StrEnum):
    """Why a window is read."""

    REGULAR = "regular"
    """From the account's watermark to now, every few minutes."""
    DAILY = "daily"
    """The last days, once a day, for logs that appeared late."""
    SINCE = "since"
    """From a time that a person named."""
    BURST = "burst"
    """Over the time of a backlog of calls, because one page brings fifty logs."""
    BACKFILL = "backfill"
    """History from before the account was added; only its command reads it."""


LANES = {
    WindowKind.REGULAR: Lane.RECONCILED,
    WindowKind.DAILY: Lane.BACKFILLED,
    WindowKind.SINCE: Lane.RECONCILED,
    WindowKind.BURST: Lane.LIVE,  # one of its requests saves fifty live ones
    WindowKind.BACKFILL: Lane.BACKFILLED,
}
AUTOMATIC = (WindowKind.REGULAR, WindowKind.DAILY, WindowKind.BURST)
"""Windows that nobody asked for. They count calls from the time the account was added."""
WINDOW = WorkKind("window", task="reconciliations.read_page", queue="housekeeping", paused_as="call", may_die=False)
BACKFILL = WorkKind("backfill", task=None, queue="housekeeping", paused_as="call", may_die=False)
"""Only its command reads a backfill (docs/decisions/0034)."""
PAGE_SIZE = 50
"""Calls on a page: the most that Leadway grants."""
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
    sa.Column("kind", sa.Text, nullable=False, comment="regular, daily, since, burst, backfill"),
    sa.Column("slot", sa.Text, nullable=False, comment="of one slot at most one window is open"),
    sa.Column("wants_follow_ups", sa.Boolean, nullable=False, default=True),
    sa.Column("run_from", UtcDateTime, nullable=False, comment="the whole run; it is read window by window"),
    sa.Column("run_until", UtcDateTime, nullable=False),
    sa.Column("window_from", UtcDateTime, nullable=False, comment="by the calls' start"),
    sa.Column("window_until", UtcDateTime, nullable=False),
    sa.Column("listed", sa.Integer, nullable=False, default=0, comment="distinct calls that Leadway listed"),
    sa.Column("held", sa.Integer, nullable=False, default=0, comment="of those, calls that have a row"),
    sa.Column("unannounced", sa.Integer, nullable=False, default=0, comment="calls that only the list told of"),
    sa.Column("changed", sa.Integer, nullable=False, default=0, comment="stored logs that were brought up to date"),
    sa.Column(
        "unreadable",
        sa.Integer,
        nullable=False,
        default=0,
        comment="rows of the list being read that could not be taken in",
    ),
    sa.Column("requests", sa.Integer, nullable=False, default=0),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime, nullable=True, comment="null: open"),
    sa.Column("error", sa.Text, nullable=True, comment="what holds it up now, or why it ended without a result"),
    # Where the reader is
    sa.Column("call_type", sa.Text, nullable=False, default="LIVE", comment="LIVE or TRIAL, the list being read"),
    sa.Column("pass_number", sa.Integer, nullable=False, default=1, comment="how often that list was begun"),
    sa.Column("next_page", sa.Integer, nullable=False, default=1),
    sa.Column(
        "page_size",
        sa.Integer,
        nullable=False,
        default=PAGE_SIZE,
        server_default=str(PAGE_SIZE),
        comment="calls that a page is asked for",
    ),
    sa.Column("told", sa.Integer, nullable=True, comment="the total that Leadway told last"),
    sa.Column("restless", sa.Boolean, nullable=False, default=False, comment="that total fell during this pass"),
    sa.Index("ix_reconciliations_location_id", "location_id", "started_at"),
)
WINDOW_IS_OPEN = reconciliations_table.c.finished_at.is_(None)
sa.Index(
    "uq_reconciliations_open", reconciliations_table.c.location_id, reconciliations_table.c.slot, unique=True,
    postgresql_where=WINDOW_IS_OPEN, sqlite_where=WINDOW_IS_OPEN,
)  # fmt: skip


@dataclass(frozen=True)
class Window:
    """A row of `reconciliations`."""

    reconciliation_id: int
    location_id: str
    kind: WindowKind
    slot: str
    wants_follow_ups: bool
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
    page_size: int
    told: int | None
    restless: bool

    @property
    def key(self) -> WorkKey:
        """The work of reading it."""
        return work_key(self.location_id, self.slot)

    @property
    def lane(self) -> Lane:
        return LANES[self.kind]

    @property
    def origin(self) -> Origin:
        return Origin.BACKFILL if self.kind is WindowKind.BACKFILL else Origin.RECONCILE


_COLUMNS = tuple(reconciliations_table.c[name] for name in Window.__dataclass_fields__)


def _window(row: Any) -> Window:
    return Window(**{**row._mapping, "kind": WindowKind(row.kind)})


def work_key(location_id: str, slot: str) -> WorkKey:
    """The work of reading the window that is open in this slot."""
    return WorkKey(BACKFILL if slot.startswith(WindowKind.BACKFILL) else WINDOW, location_id, slot)


def open_run(
    connection: Connection,
    location_id: str,
    *,
    kind: WindowKind,
    since: datetime,
    until: datetime,
    slot: str | None = None,
    wants_follow_ups: bool = True,
) -> bool:
    """Opens the first window of a run. Returns False when the slot, by default the kind's own, has an open window."""
    bounds = {"run_from": since, "run_until": until, "window_from": since, "window_until": until}
    values = {
        "location_id": location_id, "kind": kind, "slot": slot or kind, "wants_follow_ups": wants_follow_ups,
        "started_at": moment(), **bounds, **_NOTHING_READ,
    }  # fmt: skip
    statement = insert(connection, reconciliations_table).values(values).on_conflict_do_nothing()
    if connection.execute(statement.returning(reconciliations_table.c.reconciliation_id)).first() is None:
        return False
    lifecycle.request(connection, work_key(location_id, slot or kind), lane=LANES[kind])
    return True


_NOTHING_READ: dict[str, Any] = {
    "listed": 0, "held": 0, "unannounced": 0, "changed": 0, "unreadable": 0, "requests": 0, "call_type": "LIVE",
    "pass_number": 1, "next_page": 1, "page_size": PAGE_SIZE, "restless": False,
}  # fmt: skip


def get_open(connection: Connection, location_id: str, slot: str) -> Window | None:
    this = sa.and_(
        reconciliations_table.c.location_id == location_id, reconciliations_table.c.slot == slot, WINDOW_IS_OPEN
    )
    row = connection.execute(sa.select(*_COLUMNS).where(this)).first()
    return None if row is None else _window(row)


def get_claimed(connection: Connection, claim: Claim) -> Window:
    """The open window of a claim. Raises LookupError: it was closed without its work, which no process does."""
    window = get_open(connection, claim.key.location_id, claim.key.subject)
    if window is None:
        raise LookupError("work without its window")
    return window


def go_on(connection: Connection, claim: Claim, window: Window, *, seconds: float = 0.0) -> None:
    """Ends one step of reading, after which the window is `window`; the next one is due in `seconds`.

    Raises LeaseLost.
    """
    lifecycle.go_on(connection, claim, seconds=seconds)
    _write(connection, window)


def hold_up(connection: Connection, window: Window, *, error: str | None, requests: int) -> None:
    """Records what holds the window up, after its work was rescheduled in the same transaction."""
    _write(connection, replace(window, error=error or window.error, requests=requests))


def close(connection: Connection, claim: Claim, window: Window) -> None:
    """Ends the window. The rest of its run, if there is any, is opened as the slot's next window. Raises LeaseLost."""
    _write(connection, window, finished_at=moment())
    if window.window_until >= window.run_until:
        lifecycle.complete(connection, claim, tried=False)
        return
    lifecycle.go_on(connection, claim)
    rest = {
        "location_id": window.location_id, "kind": window.kind, "slot": window.slot,
        "wants_follow_ups": window.wants_follow_ups, "run_from": window.run_from, "run_until": window.run_until,
        "window_from": window.window_until, "window_until": window.run_until, "started_at": moment(),
    }  # fmt: skip
    connection.execute(sa.insert(reconciliations_table).values({**rest, **_NOTHING_READ}))


def _write(connection: Connection, window: Window, **values: Any) -> None:
    """Writes what reading changes of a window."""
    this = reconciliations_table.c.reconciliation_id == window.reconciliation_id
    progress = {name: getattr(window, name) for name in (*_NOTHING_READ, "window_until", "told", "error")}
    connection.execute(sa.update(reconciliations_table).where(this).values({**progress, **values}))


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
