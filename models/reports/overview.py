"""The overview of every account: what waits and runs, what is dead or unclear, pauses, completeness, today's counts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.accounts.accounts import Account
from models.accounts.pauses import Pause
from models.calls.calls import CALL, Origin, calls_table
from models.database import now
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
from models.intake.notifications import notifications_table
from models.reconciling import quarantined_rows, webhook_coverage
from models.reconciling.webhook_coverage import Completeness
from models.reports.backlog import SINCE, STANDING, WORK
from models.work.work_rows import STATUS, WorkStatus, work_table

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
    paused: Sequence[Pause]
    last_notification_at: datetime | None
    today: Today
    completeness: Completeness
    quarantined_rows: dict[str, int]
    """Listed rows of the last week that could not be taken in, by reason."""


def of_accounts(connection: Connection, at: datetime | None = None) -> list[AccountOverview]:
    """One for each account that is served, as of `at` (default: now), at the cost of a few indexed queries each."""
    at = at or now(connection)
    return [_of(connection, account, at) for account in accounts.served(connection)]


def _of(connection: Connection, account: Account, at: datetime) -> AccountOverview:
    location_id = account.location_id
    groups = _groups(connection, location_id)
    calls, follow_ups = ([each for each in groups if each.work == kind.name] for kind in (CALL, FOLLOW_UP))
    pending = [group for group in calls if group.status == WorkStatus.PENDING]
    unclear = [group for group in follow_ups if group.status == FollowUpState.UNCLEAR]
    return AccountOverview(
        account=account,
        waiting_calls=sum(group.number for group in pending if group.marked),
        oldest_waiting_call=_oldest_waiting_call(connection, location_id, at),
        unsettled_calls=sum(group.number for group in pending if not group.marked),
        waiting_follow_ups=sum(group.number for group in follow_ups if group.status == WorkStatus.PENDING),
        running=sum(group.number for group in calls + follow_ups if group.status == WorkStatus.RUNNING),
        dead=_dead(connection, location_id, groups),
        unclear=Unclear(
            number=sum(group.number for group in unclear),
            oldest_seconds=max(((at - group.since).total_seconds() for group in unclear), default=None),
            for_a_person=sum(group.number for group in unclear if group.marked),
            oldest_ids=_oldest_ids(connection, location_id, _FOR_A_PERSON),
        ),
        paused=pauses.of_account(connection, location_id),
        last_notification_at=connection.execute(
            sa.select(sa.func.max(notifications_table.c.received_at)).where(
                notifications_table.c.location_id == location_id
            )
        ).scalar_one(),
        today=_today(connection, location_id, at.replace(hour=0, minute=0, second=0, microsecond=0)),
        completeness=webhook_coverage.of_account(connection, location_id),
        quarantined_rows=quarantined_rows.lately(connection, location_id),
    )


@dataclass(frozen=True)
class _Group:
    """Rows of work that agree in kind, status, cause and mark."""

    work: str
    status: str
    dead_cause: str | None
    marked: bool
    """A call: never stored. A follow-up: without a due time, for it waits for a person."""
    number: int
    since: datetime


def _groups(connection: Connection, location_id: str) -> list[_Group]:
    return [_Group(*row) for row in connection.execute(_GROUPS, {"this_location": location_id})]


_w = work_table.c
_BY: tuple[Any, ...] = (
    _w.kind,
    STANDING.label("status"),
    _w.dead_cause,
    sa.case((_w.kind == CALL.name, _w.first_heard_at.is_not(None)), else_=_w.due_at.is_(None)).label("marked"),
)
_GROUPS: sa.Select[Any] = (
    sa.select(*_BY, sa.func.count(), sa.func.min(SINCE))
    .select_from(WORK)
    .where(_w.location_id == sa.bindparam("this_location"), _w.kind.in_((CALL.name, FOLLOW_UP.name)))
    .group_by(*_BY)
)


def _dead(connection: Connection, location_id: str, groups: Sequence[_Group]) -> tuple[Dead, ...]:
    numbers: Counter[tuple[str, str]] = Counter()
    for group in groups:
        if group.status == WorkStatus.DEAD:
            numbers[group.work, group.dead_cause or "unknown"] += group.number
    return tuple(
        Dead(
            work, cause, number,
            _oldest_ids(
                connection, location_id,
                (_w.kind == work) & (_w.dead_cause == cause) & (sa.literal(WorkStatus.DEAD) == STANDING),
            ),
        )
        for (work, cause), number in sorted(numbers.items())
    )  # fmt: skip


_FOR_A_PERSON = (follow_ups_table.c.status == FollowUpState.UNCLEAR) & _w.due_at.is_(None)


def _oldest_ids(connection: Connection, location_id: str, which: sa.ColumnElement[bool]) -> tuple[str, ...]:
    rows = sa.select(_w.subject).select_from(WORK).where(_w.location_id == location_id, which)
    return tuple(connection.execute(rows.order_by(_w.created_at).limit(IDS_SHOWN)).scalars())


def _oldest_waiting_call(connection: Connection, location_id: str, at: datetime) -> OldestCall | None:
    unread = sa.select(_w.subject, _w.first_heard_at).where(
        _w.kind == CALL.name, _w.location_id == location_id, _w.first_heard_at.is_not(None),
        STATUS == WorkStatus.PENDING,
    )  # fmt: skip
    oldest = connection.execute(unread.order_by(_w.first_heard_at).limit(1)).first()
    return oldest and OldestCall(*oldest, max(0.0, (at - oldest.first_heard_at).total_seconds()))


def _today(connection: Connection, location_id: str, midnight: datetime) -> Today:
    call, follow_up, notification = calls_table.c, follow_ups_table.c, notifications_table.c
    only_backfilled = (call.origin == Origin.BACKFILL) & call.announced_at.is_(None)
    heard_of_today = sa.and_(call.location_id == location_id, call.first_heard_at >= midnight, ~only_backfilled)
    its_call = (follow_up.location_id == call.location_id) & (follow_up.call_id == call.call_id)
    number = sa.select(sa.func.count())
    queries = (
        number.where(notification.location_id == location_id, notification.received_at >= midnight),
        number.where(heard_of_today),
        number.where(heard_of_today, its_call, follow_up.status == FollowUpState.DONE),
    )
    return Today(*(int(connection.execute(query).scalar_one()) for query in queries))
