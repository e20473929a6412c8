"""The overview of every account: what waits and runs, what is dead or unclear, pauses, completeness, today's counts."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.accounts.accounts import Account
from models.calls.calls import CALL, Origin, calls_table
from models.database import now
from models.follow_ups.follow_ups import FOLLOW_UP, follow_ups_table
from models.intake.notifications import notifications_table
from models.reconciling import webhook_coverage
from models.reconciling.webhook_coverage import Completeness
from models.work.work_rows import NOT_DONE, WorkKind, WorkStatus

IDS_SHOWN = 3


@dataclass(frozen=True)
class Dead:
    """The dead rows of one cause. `work` is call or follow_up."""

    work: str
    cause: str
    number: int
    oldest_ids: tuple[str, ...]
    """Ids of calls or follow-ups, at most IDS_SHOWN."""


@dataclass(frozen=True)
class Paused:
    """A pause of the account."""

    cause: str
    work: str
    """call, follow_up, or all"""
    paused_at: datetime
    detail: str
    """What a person should do."""


@dataclass(frozen=True)
class Unclear:
    """Follow-ups whose request the CRM may or may not have executed."""

    number: int
    oldest_seconds: float | None
    for_a_person: int
    """How many of these wait until a person settles them."""
    oldest_ids: tuple[str, ...]
    """Of those for a person, at most IDS_SHOWN."""


@dataclass(frozen=True)
class OldestCall:
    """The pending call that became known first and was never stored."""

    call_id: str
    waits_since: datetime
    seconds: float


@dataclass(frozen=True)
class Today:
    """Counts since midnight UTC: of notifications that came, of calls first heard of, of these calls' follow-ups.

    Not of calls that began today: the notification of a call that ends at midnight comes a day later, and one
    notification beside no call would look like a call that was lost. Calls that only a backfill brought are left out:
    thousands of calls of past years beside three notifications would look like a webhook that is broken.
    """

    notifications: int
    calls_stored: int
    follow_ups_done: int


@dataclass(frozen=True)
class AccountOverview:
    """Everything that a person sees of one account at a glance."""

    account: Account
    waiting_calls: int
    """Pending ones that were never stored."""
    oldest_waiting_call: OldestCall | None
    unsettled_calls: int
    """Stored ones that are read again because Leadway has not finished writing the log."""
    waiting_follow_ups: int
    running: int
    dead: tuple[Dead, ...]
    unclear: Unclear
    paused: tuple[Paused, ...]
    last_notification_at: datetime | None
    today: Today
    completeness: Completeness


def of_accounts(connection: Connection, at: datetime | None = None) -> list[AccountOverview]:
    """One for each account that is served, as of `at` (default: now), at the cost of a few indexed queries each."""
    at = at or now(connection)
    return [_of(connection, account, at) for account in accounts.served(connection)]


def _of(connection: Connection, account: Account, at: datetime) -> AccountOverview:
    location_id = account.location_id
    call_groups, follow_up_groups = _call_groups(connection, location_id), _follow_up_groups(connection, location_id)
    pending = [group for group in call_groups if group.status == WorkStatus.PENDING]
    unclear = [group for group in follow_up_groups if group.status == WorkStatus.UNCLEAR]
    return AccountOverview(
        account=account,
        waiting_calls=sum(group.number for group in pending if group.never_stored),
        oldest_waiting_call=_oldest_waiting_call(connection, location_id, at),
        unsettled_calls=sum(group.number for group in pending if not group.never_stored),
        waiting_follow_ups=sum(group.number for group in follow_up_groups if group.status == WorkStatus.PENDING),
        running=sum(group.number for group in call_groups + follow_up_groups if group.status == WorkStatus.RUNNING),
        dead=_dead(connection, location_id, CALL, call_groups)
        + _dead(connection, location_id, FOLLOW_UP, follow_up_groups),
        unclear=Unclear(
            number=sum(group.number for group in unclear),
            oldest_seconds=max(((at - group.since).total_seconds() for group in unclear), default=None),
            for_a_person=sum(group.number for group in unclear if group.waits_for_person),
            oldest_ids=_oldest_ids(connection, location_id, FOLLOW_UP, _FOR_A_PERSON),
        ),
        paused=tuple(
            Paused(row.cause, row.work, row.paused_at, row.detail) for row in pauses.of_account(connection, location_id)
        ),
        last_notification_at=connection.execute(
            sa.select(sa.func.max(notifications_table.c.received_at)).where(
                notifications_table.c.location_id == location_id
            )
        ).scalar_one(),
        today=_today(connection, location_id, at.replace(hour=0, minute=0, second=0, microsecond=0)),
        completeness=webhook_coverage.of_account(connection, location_id),
    )


def _call_groups(connection: Connection, location_id: str) -> list[Any]:
    never_stored = calls_table.c.stored_at.is_(None).label("never_stored")
    return list(
        connection.execute(
            sa.select(calls_table.c.status, calls_table.c.dead_cause, never_stored, sa.func.count().label("number"))
            .where(calls_table.c.location_id == location_id, NOT_DONE)
            .group_by(calls_table.c.status, calls_table.c.dead_cause, never_stored)
        )
    )


def _follow_up_groups(connection: Connection, location_id: str) -> list[Any]:
    waits_for_person = follow_ups_table.c.next_attempt_at.is_(None).label("waits_for_person")
    since = sa.func.min(sa.func.coalesce(follow_ups_table.c.unclear_since, follow_ups_table.c.planned_at)).label(
        "since"
    )
    return list(
        connection.execute(
            sa.select(
                follow_ups_table.c.status,
                follow_ups_table.c.dead_cause,
                waits_for_person,
                sa.func.count().label("number"),
                since,
            )
            .where(follow_ups_table.c.location_id == location_id, NOT_DONE)
            .group_by(follow_ups_table.c.status, follow_ups_table.c.dead_cause, waits_for_person)
        )
    )


def _dead(connection: Connection, location_id: str, work: WorkKind, groups: list[Any]) -> tuple[Dead, ...]:
    numbers: dict[str | None, int] = {}
    for group in groups:
        if group.status == WorkStatus.DEAD:
            numbers[group.dead_cause] = numbers.get(group.dead_cause, 0) + group.number
    cause = work.table.c.dead_cause
    return tuple(
        Dead(
            work.name,
            each or "unknown",
            number,
            _oldest_ids(
                connection,
                location_id,
                work,
                (work.table.c.status == WorkStatus.DEAD) & cause.is_not_distinct_from(each),
            ),
        )
        for each, number in sorted(numbers.items(), key=lambda item: item[0] or "")
    )


_FOR_A_PERSON = (follow_ups_table.c.status == WorkStatus.UNCLEAR) & follow_ups_table.c.next_attempt_at.is_(None)


def _oldest_ids(
    connection: Connection, location_id: str, work: WorkKind, which: sa.ColumnElement[bool]
) -> tuple[str, ...]:
    since = calls_table.c.created_at if work is CALL else follow_ups_table.c.planned_at
    ids = (
        sa.select(work.table.c[work.key_columns[-1]])
        .where(work.table.c.location_id == location_id, which, NOT_DONE)
        .order_by(since)
        .limit(IDS_SHOWN)
    )
    return tuple(connection.execute(ids).scalars())


def _oldest_waiting_call(connection: Connection, location_id: str, at: datetime) -> OldestCall | None:
    oldest = connection.execute(
        sa.select(calls_table.c.call_id, calls_table.c.created_at)
        .where(
            calls_table.c.location_id == location_id,
            calls_table.c.status == WorkStatus.PENDING,
            NOT_DONE,
            calls_table.c.stored_at.is_(None),
        )
        .order_by(calls_table.c.created_at)
        .limit(1)
    ).first()
    if oldest is None:
        return None
    return OldestCall(oldest.call_id, oldest.created_at, max(0.0, (at - oldest.created_at).total_seconds()))


def _today(connection: Connection, location_id: str, midnight: datetime) -> Today:
    only_backfilled = sa.and_(calls_table.c.origin == Origin.BACKFILL, calls_table.c.announced_at.is_(None))
    heard_of_today = sa.and_(
        calls_table.c.location_id == location_id, calls_table.c.created_at >= midnight, ~only_backfilled
    )
    of_today = sa.join(
        calls_table,
        follow_ups_table,
        sa.and_(
            follow_ups_table.c.location_id == calls_table.c.location_id,
            follow_ups_table.c.call_id == calls_table.c.call_id,
        ),
    )
    number = sa.func.count()
    notified = sa.select(number).where(
        notifications_table.c.location_id == location_id, notifications_table.c.received_at >= midnight
    )
    stored = sa.select(number).where(heard_of_today, calls_table.c.stored_at.is_not(None))
    done = sa.select(number).select_from(of_today).where(heard_of_today, follow_ups_table.c.status == WorkStatus.DONE)
    return Today(*(int(connection.execute(query).scalar_one()) for query in (notified, stored, done)))
