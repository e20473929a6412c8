"""The coverage of the webhook: the share of calls that it announced, and the alarm with its likely cause.

Reconciling stores unannounced calls too, so without this alarm nobody would notice a broken webhook.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table
from models.calls.calls import Origin, calls_table
from models.database import moment
from models.intake import rejection_counts
from models.intake.notifications import notifications_table
from models.intake.rejection_counts import rejection_counts_table
from models.reconciling.unresolved import IS_UNRESOLVED
from models.reconciling.windows import WINDOW_IS_OPEN, WindowKind, reconciliations_table

PATIENCE = timedelta(minutes=10)
"""An unannounced call that began later does not count: it may still go on, or its notification may be on its way."""
LEAST_UNANNOUNCED = 3
"""Fewer unannounced calls in a day raise no alarm."""
SHARE_THAT_IS_WELL = 0.9
"""An announced share of at least this raises no alarm."""
NEWEST = 5
"""An alarm ends when this many newest calls were all announced."""


class AlarmCause(StrEnum):
    """Why calls come unannounced, most likely."""

    NEVER_ARRIVED = "never_arrived"
    REFUSED = "refused"
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - a cause, not a secret
    WITHOUT_CALL_ID = "without_call_id"
    NOT_WRITTEN_DOWN = "not_written_down"

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    AlarmCause.NEVER_ARRIVED: "no notification of them came: look whether the workflow or app sends them, and where to",
    AlarmCause.REFUSED: "notifications came and were rejected: no signature or secret that is known here",
    AlarmCause.WRONG_SECRET: "notifications came with an intake secret that belongs to no account: compare the URL",
    AlarmCause.WITHOUT_CALL_ID: "notifications came without a usable call id: the workflow does not fill it in",
    AlarmCause.NOT_WRITTEN_DOWN: "notifications came and could not be written down: the database was away",
}


@dataclass(frozen=True)
class Completeness:
    """How far an account is complete, and how its webhook works."""

    complete_from: datetime | None
    complete_until: datetime | None
    """The watermark."""
    held_up_by: str | None
    """The error of the open regular window, which keeps the watermark from moving. None: there is none."""
    calls_in_the_last_day: int
    unannounced_in_the_last_day: int
    alarm: AlarmCause | None
    alarm_since: datetime | None
    unresolved_notifications: int


def of_accounts(connection: Connection, *location_ids: str) -> dict[str, Completeness]:
    """Of these accounts, removed or not, or of all, in one statement. Calls of the last day are those that began in the
    last 24 hours."""
    query = _COMPLETENESS if not location_ids else _COMPLETENESS.where(accounts_table.c.location_id.in_(location_ids))
    return {row.location_id: _completeness(row) for row in connection.execute(query)}


def of_account(connection: Connection, location_id: str) -> Completeness:
    return of_accounts(connection, location_id)[location_id]


def _completeness(row: Any) -> Completeness:
    return Completeness(
        complete_from=row.complete_from,
        complete_until=row.complete_until,
        held_up_by=row.held_up_by,
        calls_in_the_last_day=row.calls,
        unannounced_in_the_last_day=row.calls - row.announced,
        alarm=None if row.webhook_alarm is None else AlarmCause(row.webhook_alarm),
        alarm_since=row.webhook_alarm_at,
        unresolved_notifications=row.unresolved,
    )


def judge(connection: Connection, location_id: str) -> AlarmCause | None:
    """Whether so many calls of the last day were unannounced that a person should know: the likely cause, or None."""
    number, announced = _announced(connection, location_id)
    unannounced = number - announced
    if unannounced < LEAST_UNANNOUNCED or announced >= SHARE_THAT_IS_WELL * number:
        return None
    newest = (
        sa.select(calls_table.c.announced_at)
        .where(_is_judged(location_id), _began_since(moment(-86_400)))
        .order_by(_began_at.desc())
        .limit(NEWEST)
    )
    were_announced = [row.announced_at is not None for row in connection.execute(newest)]
    works_again = len(were_announced) == NEWEST and all(were_announced)
    return None if works_again else _likely_cause(connection, location_id)


def set_alarm(connection: Connection, location_id: str, cause: AlarmCause | None) -> bool:
    """Writes the alarm, or with None its end. Returns True when that is a change."""
    c = accounts_table.c
    statement = sa.update(accounts_table).where(c.location_id == location_id, c.webhook_alarm.is_distinct_from(cause))
    began = None if cause is None else sa.func.coalesce(c.webhook_alarm_at, moment())
    return bool(connection.execute(statement.values(webhook_alarm=cause, webhook_alarm_at=began)).rowcount)


_began_at = sa.func.coalesce(calls_table.c.started_at, calls_table.c.first_heard_at)


def _began_since(time: Any) -> sa.ColumnElement[bool]:
    """Whether the call began since `time`, or became known since then if its start is not known yet.

    An OR of two comparisons, not one with coalesce, so that the indexes serve it.
    """
    unread = calls_table.c.started_at.is_(None) & (calls_table.c.first_heard_at >= time)
    return sa.or_(calls_table.c.started_at >= time, unread)


def _is_judged(location_id: str | sa.Column[str]) -> sa.ColumnElement[bool]:
    return sa.and_(
        calls_table.c.location_id == location_id,
        calls_table.c.origin != Origin.BACKFILL,
        sa.or_(calls_table.c.announced_at.is_not(None), _began_at < moment(-PATIENCE.total_seconds())),
    )


def _announced(connection: Connection, location_id: str) -> tuple[int, int]:
    """The number of calls that began in the last day, and the number of those that the webhook announced."""
    row = connection.execute(
        sa.select(sa.func.count(), sa.func.count(calls_table.c.announced_at)).where(
            _is_judged(location_id), _began_since(moment(-86_400))
        )
    ).one()
    return int(row[0]), int(row[1])


def _likely_cause(connection: Connection, location_id: str) -> AlarmCause:
    """The best guess: a rejected notification names no account. The most specific trace of the last day decides."""
    a_day_ago = moment(-86_400)
    rejected: Any = (
        sa.select(rejection_counts_table.c.reason).where(rejection_counts_table.c.last_at > a_day_ago).distinct()
    )
    reasons = set(connection.execute(rejected).scalars()) - rejection_counts.IGNORED
    unresolved = sa.select(sa.literal(1)).where(
        notifications_table.c.location_id == location_id,
        IS_UNRESOLVED,
        notifications_table.c.last_received_at > a_day_ago,
    )
    if connection.execute(unresolved).first() is not None:
        return AlarmCause.WITHOUT_CALL_ID
    if "intake_secret_unknown" in reasons:
        return AlarmCause.WRONG_SECRET
    if "cannot_write_down" in reasons:
        return AlarmCause.NOT_WRITTEN_DOWN
    return AlarmCause.REFUSED if reasons else AlarmCause.NEVER_ARRIVED


_account = accounts_table.c


def _of_the_account(query: sa.Select[Any], name: str) -> sa.Label[Any]:
    return query.correlate(accounts_table).scalar_subquery().label(name)


_ITS_CALLS = sa.and_(_is_judged(_account.location_id), _began_since(moment(-86_400)))
_COMPLETENESS = sa.select(
    _account.location_id, _account.complete_from, _account.complete_until, _account.webhook_alarm,
    _account.webhook_alarm_at,
    _of_the_account(sa.select(sa.func.count(calls_table.c.call_id)).where(_ITS_CALLS), "calls"),
    _of_the_account(sa.select(sa.func.count(calls_table.c.announced_at)).where(_ITS_CALLS), "announced"),
    _of_the_account(
        sa.select(sa.func.count(notifications_table.c.notification_id)).where(
            notifications_table.c.location_id == _account.location_id, IS_UNRESOLVED
        ),
        "unresolved",
    ),
    _of_the_account(
        sa.select(reconciliations_table.c.error)
        .where(
            reconciliations_table.c.location_id == _account.location_id,
            reconciliations_table.c.kind == WindowKind.REGULAR,
            WINDOW_IS_OPEN,
        )
        .limit(1),
        "held_up_by",
    ),
)  # fmt: skip
"""By correlated subqueries, so that each account's rows are found by their index."""
