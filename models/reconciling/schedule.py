"""The schedule of reconciling: opens each account's regular and daily windows, and those that something calls for."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import accounts
from models.accounts.accounts import accounts_table
from models.calls.calls import CALL
from models.database import earlier_of, moment, now
from models.intake.notifications import notifications_table
from models.reconciling import local_days, quarantined_rows
from models.reconciling.unresolved import IS_UNRESOLVED, LOOKED_FOR
from models.reconciling.windows import WindowKind, forget_uneventful, open_run, reconciliations_table
from models.work import life
from models.work.work_rows import IS_DUE, work_table

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
"""A daily window begins this long before the end of the last one."""
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

LOOK_DELAYS_SECONDS = (2.0, 10.0, 30.0, 120.0, 600.0)
"""The delays before each listing that looks for the call of a notification without a call id: the first from the
notification on, each next from the one before. The call's log may take minutes to appear."""
_LOOKS_AT = tuple(timedelta(seconds=sum(LOOK_DELAYS_SECONDS[: n + 1])) for n in range(len(LOOK_DELAYS_SECONDS)))
LOOKED_FOR_AT_ONCE = _LOOKS_AT[-1] + timedelta(minutes=2)
"""So long after an unresolved notification regular windows leave no margin before now."""


def anything_due(connection: Connection) -> bool:
    """Whether `open_due` has a window to open. Reads only, so a caller can ask often."""
    statements = (
        sa.select(accounts_table.c.location_id).where(
            accounts_table.c.removed_at.is_(None), _is_due(accounts_table.c.next_reconcile_at)
        ),
        sa.select(accounts_table.c.location_id).where(
            accounts_table.c.removed_at.is_(None), _is_due(accounts_table.c.next_relist_at)
        ),
        sa.select(sa.literal(1)).where(sa.exists(_accounts_with_backlog())),
    )
    return any(connection.execute(statement.limit(1)).first() is not None for statement in statements)


def open_due(connection: Connection, *, list_fetch: bool) -> None:
    """Opens every window whose time has come. `list_fetch`: also burst windows, which store calls from the list."""
    at = now(connection)
    for account in connection.execute(sa.select(accounts_table).where(accounts_table.c.removed_at.is_(None))):
        if account.next_reconcile_at is None or account.next_reconcile_at <= at:
            looked_for = _last_unresolved(connection, account.location_id)
            is_looked_for = looked_for is not None and at - looked_for < LOOKED_FOR_AT_ONCE
            is_looked_for = is_looked_for or life.is_young(life.current(connection), at=at)
            local_days.write(connection, accounts.get(connection, account.location_id), until=at)
            open_regular(connection, account.location_id, until=at if is_looked_for else at - MARGIN)
        if account.next_relist_at is None or account.next_relist_at <= at:
            _open_daily(connection, account, at=at)
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


def look_for_unresolved(connection: Connection, location_id: str) -> None:
    """Brings the account's next regular window forward, because a notification came that names no call."""
    updated = sa.update(accounts_table).where(accounts_table.c.location_id == location_id)
    soon = earlier_of(connection, accounts_table.c.next_reconcile_at, moment(LOOK_DELAYS_SECONDS[0]))
    connection.execute(updated.values(next_reconcile_at=soon))


def next_regular(connection: Connection, location_id: str, *, read_until: datetime) -> None:
    """Sets when the regular run after one until `read_until` is due: soon while calls come unannounced or notifications
    name no call, later while the webhook works."""
    at = now(connection)
    unannounced = sa.select(sa.func.coalesce(sa.func.sum(reconciliations_table.c.unannounced), 0)).where(
        reconciliations_table.c.location_id == location_id, reconciliations_table.c.started_at > at - STILL_FINDING
    )
    last_notification = sa.select(sa.func.max(notifications_table.c.last_received_at)).where(
        notifications_table.c.location_id == location_id, notifications_table.c.received_at > at - LOOKED_FOR
    )
    last_unresolved = _last_unresolved(connection, location_id)
    last = connection.execute(last_notification).scalar_one()
    if connection.execute(unannounced).scalar_one() or (
        last_unresolved is not None and last_unresolved > at - SILENT_AFTER
    ):
        seconds = PERIOD_WHILE_FINDING_SECONDS
    else:
        seconds = PERIOD_WHILE_SILENT_SECONDS if last is None or last < at - SILENT_AFTER else PERIOD_SECONDS
    present = life.current(connection)
    if life.is_young(present, at=at) and present.began_at > read_until:
        seconds = LOOK_DELAYS_SECONDS[0]  # the run was opened before the database forgot
    elif last_unresolved is not None and last_unresolved > read_until:
        seconds = LOOK_DELAYS_SECONDS[0]  # it came while the run was under way
    elif last_unresolved is not None:
        next_looks = [(last_unresolved + delay - at).total_seconds() for delay in _LOOKS_AT]
        seconds = min([seconds, *(each for each in next_looks if each > 0)])
    connection.execute(
        sa.update(accounts_table)
        .where(accounts_table.c.location_id == location_id)
        .values(next_reconcile_at=moment(seconds))
    )


def _last_unresolved(connection: Connection, location_id: str) -> datetime | None:
    """When the last of the account's unresolved notifications came."""
    c = notifications_table.c
    unresolved = sa.select(sa.func.max(c.last_received_at)).where(c.location_id == location_id, IS_UNRESOLVED)
    found: datetime | None = connection.execute(unresolved).scalar_one()
    return found


def waiting_calls(connection: Connection, location_id: str) -> int:
    """How many calls of the account are due and were never stored."""
    waiting = sa.select(sa.func.count()).where(work_table.c.location_id == location_id, _IS_WAITING)
    return int(connection.execute(waiting).scalar_one())


def _open_daily(connection: Connection, account: Any, *, at: datetime) -> None:
    """The first daily window opens a day after the account's first check here. None opens while the watermark lags
    behind, because the regular window lists the same days then."""
    lags = account.complete_until is None or account.complete_until < at - 2 * OVERLAP
    if account.next_relist_at is not None and lags:
        return
    if account.next_relist_at is not None:
        since = max((_last_daily(connection, account.location_id) or at) - RELISTED, account.added_at - OVERLAP)
        open_run(connection, account.location_id, kind=WindowKind.DAILY, since=since, until=at - MARGIN)
        forget_uneventful(connection, account.location_id)
        quarantined_rows.forget_old(connection, account.location_id)
    connection.execute(
        sa.update(accounts_table)
        .where(accounts_table.c.location_id == account.location_id)
        .values(next_relist_at=moment(RELIST_PERIOD_SECONDS))
    )


def _last_daily(connection: Connection, location_id: str) -> datetime | None:
    """Until when the last daily run listed: what has appeared late since then was looked for by none."""
    c = reconciliations_table.c
    daily = sa.select(sa.func.max(c.window_until)).where(
        c.location_id == location_id, c.kind == WindowKind.DAILY, c.finished_at.is_not(None)
    )
    found: datetime | None = connection.execute(daily).scalar_one()
    return found


def _accounts_with_backlog() -> sa.Select[Any]:
    """Accounts with BURST_CALLS due calls that were never stored, each with the time of the oldest."""
    c = work_table.c
    return (
        sa.select(c.location_id, sa.func.min(c.first_heard_at).label("oldest_at"))
        .where(_IS_WAITING, c.first_heard_at > moment(-BURST_AGE.total_seconds()))
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


_IS_WAITING = sa.and_(
    work_table.c.kind == CALL.name, work_table.c.first_heard_at.is_not(None), work_table.c.lease_until.is_(None), IS_DUE
)


def _is_due(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    return sa.or_(column.is_(None), column <= moment())
