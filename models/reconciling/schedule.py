"""The schedule of reconciling: opens each account's regular and daily windows, and those that something calls for."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table
from models.calls.calls import calls_table
from models.database import moment, now
from models.intake.notifications import notifications_table
from models.reconciling.unresolved import IS_UNRESOLVED, LOOKED_FOR
from models.reconciling.windows import WindowKind, forget_uneventful, open_run, reconciliations_table
from models.work.work_rows import NOT_DONE, WorkStatus

LONGEST_CALL = timedelta(minutes=15)
"""An agent's longest maxCallDuration (reference: voice-ai.json, 180 to 900 s)."""
TIME_TO_APPEAR = timedelta(minutes=10)
"""After a call's end, until the list shows its log."""
OVERLAP = LONGEST_CALL + TIME_TO_APPEAR
"""A regular window starts this long before the watermark: calls are listed by their start, and one that began then may
appear only now."""
MARGIN = timedelta(seconds=60)
"""A regular window ends this long before now: newer calls are left to the webhook, which is faster."""
RELISTED = timedelta(days=3)
"""The length of a daily window."""
RELIST_PERIOD_SECONDS = 86_400.0

PERIOD_SECONDS = 900.0
PERIOD_WHILE_SILENT_SECONDS = 300.0
PERIOD_WHILE_FINDING_SECONDS = 120.0
SILENT_AFTER = timedelta(hours=1)
STILL_FINDING = timedelta(minutes=30)

BURST_CALLS = 100
"""A backlog of this many calls of one account is read from the list."""
BURST_PAUSE = timedelta(minutes=2)
"""Between two burst windows of an account."""
BURST_AGE = timedelta(days=7)
"""Calls that became known earlier start no burst window."""

NARROW_AT_ONCE = 5
"""Narrow windows of an account that are open at once. More notifications without a call id are left to the regular
windows, which bring all calls."""
LOOK_BACK_BY_CONTACT = timedelta(hours=24)
"""A narrow window of one contact starts this long before the notification, which may be a repeat of hours later. The
list of one contact is short."""
LOOK_DELAYS_SECONDS = (2.0, 10.0, 30.0, 120.0, 600.0)
"""The delays before each reading of a narrow window: the call's log may take minutes to appear."""


def anything_due(connection: Connection) -> bool:
    """Whether `open_due` has a window to open. Reads only, so a caller can ask often."""
    statements = (
        sa.select(accounts_table.c.location_id).where(
            accounts_table.c.removed_at.is_(None), _is_due(accounts_table.c.next_reconcile_at)
        ),
        sa.select(accounts_table.c.location_id).where(
            accounts_table.c.removed_at.is_(None), _is_due(accounts_table.c.next_relist_at)
        ),
        _unresolved_without_window(),
        sa.select(sa.literal(1)).where(sa.exists(_accounts_with_backlog())),
    )
    return any(connection.execute(statement.limit(1)).first() is not None for statement in statements)


def open_due(connection: Connection, *, list_fetch: bool) -> None:
    """Opens every window whose time has come. `list_fetch`: also burst windows, which store calls from the list."""
    at = now(connection)
    for account in connection.execute(sa.select(accounts_table).where(accounts_table.c.removed_at.is_(None))):
        if account.next_reconcile_at is None or account.next_reconcile_at <= at:
            open_regular(connection, account.location_id, until=at - MARGIN)
        if account.next_relist_at is None or account.next_relist_at <= at:
            _open_daily(connection, account, at=at)
    for notification in connection.execute(_unresolved_without_window().limit(100)).all():
        _open_narrow(connection, notification, at=at)
    if list_fetch:
        for backlog in connection.execute(_accounts_with_backlog()).all():
            _open_burst(connection, backlog.location_id, oldest=backlog.oldest_at, at=at)


def open_regular(connection: Connection, location_id: str, *, until: datetime) -> bool:
    """Opens the window from OVERLAP before the account's watermark to `until`. Returns False when a regular window is
    open already, or when there is no time between.

    For a new account the time of adding stands for the watermark: a call that ended after it may have begun before.
    """
    account = connection.execute(sa.select(accounts_table).where(accounts_table.c.location_id == location_id)).one()
    next_at = sa.update(accounts_table).where(accounts_table.c.location_id == location_id)
    connection.execute(next_at.values(next_reconcile_at=moment(PERIOD_WHILE_FINDING_SECONDS)))
    since = max(account.complete_until or account.added_at, account.added_at) - OVERLAP
    return since < until and open_run(connection, location_id, kind=WindowKind.REGULAR, since=since, until=until)


def next_regular(connection: Connection, location_id: str) -> None:
    """Sets when the next regular run is due: soon while calls come unannounced, later while the webhook works."""
    at = now(connection)
    unannounced = sa.select(sa.func.coalesce(sa.func.sum(reconciliations_table.c.unannounced), 0)).where(
        reconciliations_table.c.location_id == location_id, reconciliations_table.c.started_at > at - STILL_FINDING
    )
    last_notification = sa.select(sa.func.max(notifications_table.c.last_received_at)).where(
        notifications_table.c.location_id == location_id, notifications_table.c.received_at > at - LOOKED_FOR
    )
    unresolved = sa.select(sa.literal(1)).where(
        notifications_table.c.location_id == location_id,
        IS_UNRESOLVED,
        notifications_table.c.last_received_at > at - SILENT_AFTER,
    )
    last = connection.execute(last_notification).scalar_one()
    if connection.execute(unannounced).scalar_one() or connection.execute(unresolved).first():
        seconds = PERIOD_WHILE_FINDING_SECONDS
    else:
        seconds = PERIOD_WHILE_SILENT_SECONDS if last is None or last < at - SILENT_AFTER else PERIOD_SECONDS
    connection.execute(
        sa.update(accounts_table)
        .where(accounts_table.c.location_id == location_id)
        .values(next_reconcile_at=moment(seconds))
    )


def waiting_calls(connection: Connection, location_id: str) -> int:
    """How many calls of the account are due and were never stored."""
    c = calls_table.c
    waiting = sa.select(sa.func.count()).where(c.location_id == location_id, _IS_WAITING, c.next_attempt_at <= moment())
    return int(connection.execute(waiting).scalar_one())


def _open_daily(connection: Connection, account: Any, *, at: datetime) -> None:
    """The first daily window opens a day after the account's first check here. None opens while the watermark lags
    behind, because the regular window lists the same days then."""
    lags = account.complete_until is None or account.complete_until < at - 2 * OVERLAP
    if account.next_relist_at is not None and lags:
        return
    if account.next_relist_at is not None:
        since = max(at - RELISTED, account.added_at - OVERLAP)
        open_run(connection, account.location_id, kind=WindowKind.DAILY, since=since, until=at - MARGIN)
        forget_uneventful(connection, account.location_id)
    connection.execute(
        sa.update(accounts_table)
        .where(accounts_table.c.location_id == account.location_id)
        .values(next_relist_at=moment(RELIST_PERIOD_SECONDS))
    )


def _unresolved_without_window() -> sa.Select[Any]:
    """Unresolved notifications that came again, or for the first time, since their last narrow window was opened."""
    c = notifications_table.c
    has_window = sa.exists().where(
        reconciliations_table.c.notification_id == c.notification_id,
        sa.or_(reconciliations_table.c.finished_at.is_(None), reconciliations_table.c.started_at >= c.last_received_at),
    )
    served = sa.exists().where(accounts_table.c.location_id == c.location_id, accounts_table.c.removed_at.is_(None))
    return (
        sa.select(notifications_table)
        .where(
            IS_UNRESOLVED,
            c.location_id.is_not(None),
            c.last_received_at > moment(-LOOKED_FOR.total_seconds()),
            served,
            ~has_window,
        )
        .order_by(c.last_received_at.desc())
    )


def _open_narrow(connection: Connection, notification: Any, *, at: datetime) -> None:
    open_windows = sa.select(sa.func.count()).where(
        reconciliations_table.c.location_id == notification.location_id,
        reconciliations_table.c.kind == WindowKind.NARROW,
        reconciliations_table.c.finished_at.is_(None),
    )
    if connection.execute(open_windows).scalar_one() >= NARROW_AT_ONCE:
        return
    around = notification.started_at or notification.received_at
    back = LOOK_BACK_BY_CONTACT if notification.contact_id else OVERLAP
    open_run(
        connection,
        notification.location_id,
        kind=WindowKind.NARROW,
        slot=f"{WindowKind.NARROW}:{notification.notification_id}",
        since=around - back,
        until=min(around, at) + OVERLAP,
        contact_id=notification.contact_id,
        notification_id=notification.notification_id,
        delay_seconds=LOOK_DELAYS_SECONDS[0],
    )


def _accounts_with_backlog() -> sa.Select[Any]:
    """Accounts with BURST_CALLS due calls that were never stored, each with the time of the oldest."""
    c = calls_table.c
    return (
        sa.select(c.location_id, sa.func.min(c.created_at).label("oldest_at"))
        .where(
            _IS_WAITING,
            NOT_DONE,
            c.next_attempt_at <= moment(),
            c.created_at > moment(-BURST_AGE.total_seconds()),
        )
        .group_by(c.location_id)
        .having(sa.func.count() >= BURST_CALLS)
    )


def _open_burst(connection: Connection, location_id: str, *, oldest: datetime, at: datetime) -> None:
    recently = sa.select(sa.literal(1)).where(
        reconciliations_table.c.location_id == location_id,
        reconciliations_table.c.kind == WindowKind.BURST,
        reconciliations_table.c.started_at > at - BURST_PAUSE,
    )
    if connection.execute(recently).first() is None:
        open_run(connection, location_id, kind=WindowKind.BURST, since=oldest - OVERLAP, until=at)


_IS_WAITING = sa.and_(calls_table.c.status == WorkStatus.PENDING, calls_table.c.stored_at.is_(None))


def _is_due(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    return sa.or_(column.is_(None), column <= moment())
