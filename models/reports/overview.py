"""The overview of every account: what waits and runs, what is dead or unclear, pauses, completeness, today's counts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.accounts.accounts import Account, accounts_table
from models.accounts.pauses import Pause
from models.calls.calls import CALL, Origin, calls_table
from models.database import UtcDateTime, now
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
from models.intake.notifications import notifications_table
from models.reconciling import quarantined_rows, webhook_coverage
from models.reconciling.webhook_coverage import Completeness
from models.reports import backlog
from models.reports.backlog import UNSETTLED, Group, OldestCall
from models.work.work_rows import WorkStatus


@dataclass(frozen=True)
class Dead:
    """The dead rows of one cause. `work` is call or follow_up."""

    work: str
    cause: str
    number: int
    oldest_ids: tuple[str, ...]
    """Ids of calls or follow-ups, at most `backlog.IDS_SHOWN`."""


@dataclass(frozen=True)
class Unclear:
    """Follow-ups whose request the CRM may or may not have executed."""

    number: int
    oldest_seconds: float | None
    for_a_person: int
    """How many of these wait until a person settles them."""
    oldest_ids: tuple[str, ...]
    """Of those for a person, at most `backlog.IDS_SHOWN`."""


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
    """One for each account that is served, as of `at` (default: now), at the cost of a few statements for all."""
    at = at or now(connection)
    served = accounts.served(connection)
    groups, ids = backlog.groups(connection), backlog.ids_for_a_person(connection)
    oldest, completeness = backlog.oldest_waiting_calls(connection, at), webhook_coverage.of_accounts(connection)
    refused = quarantined_rows.lately(connection)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    counted = {row.location_id: row for row in connection.execute(_COUNTED, {"midnight": midnight})}
    paused: defaultdict[str, list[Pause]] = defaultdict(list)
    for pause in pauses.all_of(connection):
        paused[pause.location_id].append(pause)
    return [
        _of(
            account,
            groups[account.location_id],
            ids,
            at=at,
            oldest_waiting_call=oldest.get(account.location_id),
            paused=paused[account.location_id],
            last_notification_at=counted[account.location_id].last_notification_at,
            today=Today(*counted[account.location_id][2:]),
            completeness=completeness[account.location_id],
            quarantined_rows=refused[account.location_id],
        )
        for account in served
        if account.location_id in counted and account.location_id in completeness
    ]


def _of(
    account: Account,
    groups: Sequence[Group],
    ids: Mapping[tuple[str, str, str, str | None], tuple[str, ...]],
    *,
    at: datetime,
    **facts: Any,
) -> AccountOverview:
    def number(work: str, status: str) -> int:
        return sum(group.number for group in groups if (group.work, group.status) == (work, status))

    unclear = [group for group in groups if group.status == FollowUpState.UNCLEAR]
    for_a_person = [group for group in unclear if group.for_a_person]
    return AccountOverview(
        account=account,
        waiting_calls=number(CALL.name, WorkStatus.PENDING),
        unsettled_calls=number(CALL.name, UNSETTLED),
        waiting_follow_ups=number(FOLLOW_UP.name, WorkStatus.PENDING),
        running=sum(group.number for group in groups if group.status == WorkStatus.RUNNING),
        dead=dead_by_cause(groups, ids),
        unclear=Unclear(
            number=sum(group.number for group in unclear),
            oldest_seconds=max(((at - group.since).total_seconds() for group in unclear), default=None),
            for_a_person=sum(group.number for group in for_a_person),
            oldest_ids=tuple(
                subject
                for cause in sorted({group.cause for group in for_a_person}, key=str)
                for subject in ids[account.location_id, FOLLOW_UP.name, FollowUpState.UNCLEAR, cause]
            )[: backlog.IDS_SHOWN],
        ),
        **facts,
    )


def dead_by_cause(
    groups: Sequence[Group], ids: Mapping[tuple[str, str, str, str | None], tuple[str, ...]]
) -> tuple[Dead, ...]:
    """Of the groups of one account."""
    numbers: defaultdict[tuple[str, str, str], int] = defaultdict(int)
    for group in groups:
        if group.status == WorkStatus.DEAD:
            numbers[group.location_id, group.work, group.cause or "unknown"] += group.number
    return tuple(
        Dead(work, cause, number, ids[location_id, work, WorkStatus.DEAD, cause])
        for (location_id, work, cause), number in sorted(numbers.items())
    )


def _counted_of_the_account(name: str, query: sa.Select[Any]) -> sa.Label[Any]:
    return query.correlate(accounts_table).scalar_subquery().label(name)


_a, _call, _notification = accounts_table.c, calls_table.c, notifications_table.c
_MIDNIGHT = sa.bindparam("midnight", type_=UtcDateTime)
_ONLY_BACKFILLED = (_call.origin == Origin.BACKFILL) & _call.announced_at.is_(None)
_HEARD_OF_TODAY = sa.and_(_call.location_id == _a.location_id, _call.first_heard_at >= _MIDNIGHT, ~_ONLY_BACKFILLED)
_ITS_DONE = sa.and_(
    follow_ups_table.c.location_id == _call.location_id, follow_ups_table.c.call_id == _call.call_id,
    follow_ups_table.c.status == FollowUpState.DONE,
)  # fmt: skip
_COUNTED = sa.select(
    _a.location_id,
    _counted_of_the_account(
        "last_notification_at",
        sa.select(sa.func.max(_notification.received_at)).where(_notification.location_id == _a.location_id),
    ),
    _counted_of_the_account(
        "notifications",
        sa.select(sa.func.count(_notification.notification_id)).where(
            _notification.location_id == _a.location_id, _notification.received_at >= _MIDNIGHT
        ),
    ),
    _counted_of_the_account("calls", sa.select(sa.func.count(_call.call_id)).where(_HEARD_OF_TODAY)),
    _counted_of_the_account(
        "follow_ups",
        sa.select(sa.func.count(follow_ups_table.c.follow_up_id))
        .select_from(calls_table)
        .join(follow_ups_table, _ITS_DONE)
        .where(_HEARD_OF_TODAY),
    ),
).where(_a.removed_at.is_(None))
"""By correlated subqueries, so that each account's rows are found by their index."""
