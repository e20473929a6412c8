"""The questions of the verdict to the database: each is one statement for all accounts, served by an index, or reads
only what is open, today's counts or the accounts themselves. None reads the history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import accounts, circuit_breaker, pauses
from models.accounts.accounts import Account, accounts_table
from models.accounts.circuit_breaker import BreakerState
from models.accounts.pauses import ALL_WORK, Pause
from models.calls.calls import CALL, calls_table
from models.database import now
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
from models.intake import inbox, quarantine, rejection_counts
from models.intake.inbox import Waiting
from models.intake.rejection_counts import RejectionCount
from models.reconciling import quarantined_rows, schedule, webhook_coverage
from models.reconciling.webhook_coverage import Completeness
from models.reconciling.windows import WINDOW_IS_OPEN, WindowKind, reconciliations_table
from models.reports import backlog
from models.reports.backlog import Group, OldestCall
from models.work import heartbeats
from models.work.heartbeats import Heartbeat
from models.work.history import Outcome, attempts_table
from models.work.work_rows import Lane, work_table

RECENT_ATTEMPTS = 500
DRAINED_WITHIN = timedelta(minutes=5)
MOST_DRAINED = 20_000
"""Attempts that are looked through to see how fast a backlog drains."""
NOTED_WITHIN = timedelta(minutes=15)
MOST_NOTED = 100
"""Of the newest calls: how long their notes took."""
LONG_BACKLOG = 100
"""Calls that wait: with fewer nobody asks whether they become more."""
BEHIND = 2 * timedelta(seconds=schedule.PERIOD_SECONDS) + schedule.MARGIN
"""A watermark that is older is two periods behind."""


@dataclass(frozen=True)
class OpenWindow:
    location_id: str
    kind: str
    started_at: datetime
    error: str | None


@dataclass(frozen=True)
class Flow:
    """How a backlog of calls moved in the last DRAINED_WITHIN."""

    added: int
    """Became known meanwhile and wait still."""
    drained: int
    """Waited before, and were stored meanwhile."""


@dataclass(frozen=True)
class Evidence:
    """What the rules judge."""

    at: datetime
    accounts: Mapping[str, Account]
    """Of those that are served, the ones with anything that a rule might tell of, by location id: many are idle."""
    is_any_served: bool
    pauses: Sequence[Pause]
    groups: Mapping[str, Sequence[Group]]
    ids: Mapping[tuple[str, str, str, str | None], tuple[str, ...]]
    oldest_calls: Mapping[str, OldestCall]
    windows: Sequence[OpenWindow]
    coverage: Mapping[str, Completeness]
    """Of the accounts whose webhook alarms."""
    refused_rows: Mapping[str, Mapping[str, int]]
    processes: Sequence[Heartbeat]
    inbox: Waiting
    quarantined: int
    rejections: Sequence[RejectionCount]
    """Of today."""
    last_attempt_at: datetime | None
    """When the last attempt at a call or a follow-up ended."""
    flow: Flow | None
    """None: the backlog is short."""
    note_seconds: Sequence[float]
    """From notification to note, of the newest calls, sorted."""

    @property
    def stopped(self) -> set[str]:
        """The accounts whose calls are not fetched because of a pause: that is told, and lateness is no news."""
        return {each.location_id for each in self.pauses if each.work in (ALL_WORK, CALL.paused_as)}

    @property
    def served_groups(self) -> list[Group]:
        return [group for location_id in self.accounts for group in self.groups.get(location_id, ())]

    def is_paused(self, group: Group) -> bool:
        return any(
            each.location_id == group.location_id and each.work in (ALL_WORK, group.work) for each in self.pauses
        )

    def goes_on(self, group: Group) -> bool:
        """Whether neither a pause nor the circuit breaker keeps the account's work from being dispatched."""
        state = circuit_breaker.state_of(self.accounts[group.location_id], self.at)
        return state is BreakerState.CLOSED and not self.is_paused(group)


def gather(connection: Connection) -> Evidence:
    at = now(connection)
    groups = backlog.groups(connection)
    flat = [group for of_one in groups.values() for group in of_one]
    waiting = sum(group.number for group in flat if (group.work, group.status) == (CALL.name, "pending"))
    paused, refused_rows = pauses.all_of(connection), quarantined_rows.lately(connection)
    windows = [OpenWindow(*row) for row in connection.execute(_OPEN_WINDOWS)]
    alarmed = list(connection.execute(_ALARMED).scalars())
    spoken_of = {
        *groups,
        *refused_rows,
        *(each.location_id for each in paused),
        *(each.location_id for each in windows),
    }
    is_worth_a_look = sa.or_(_a.location_id.in_(spoken_of), *_SIGNS, _a.complete_until < at - BEHIND)
    return Evidence(
        at=at,
        accounts={each.location_id: each for each in accounts.served(connection, is_worth_a_look)},
        is_any_served=accounts.is_any_served(connection),
        pauses=paused,
        groups=groups,
        ids=backlog.ids_for_a_person(connection),
        oldest_calls=backlog.oldest_waiting_calls(connection, at) if waiting else {},
        windows=windows,
        coverage=webhook_coverage.of_accounts(connection, *alarmed) if alarmed else {},
        refused_rows=refused_rows,
        processes=heartbeats.all_of(connection),
        inbox=inbox.waiting(connection),
        quarantined=quarantine.in_the_last_day(connection),
        rejections=rejection_counts.since(connection, at.replace(hour=0, minute=0, second=0, microsecond=0)),
        last_attempt_at=connection.execute(_LAST_ATTEMPT).scalar(),
        flow=_flow(connection, at - DRAINED_WITHIN) if waiting >= LONG_BACKLOG else None,
        note_seconds=_note_seconds(connection, at - NOTED_WITHIN),
    )


def _flow(connection: Connection, since: datetime) -> Flow:
    added = sa.select(sa.func.count()).where(
        work_table.c.kind == CALL.name, work_table.c.first_heard_at >= since, work_table.c.dead_cause.is_(None),
        work_table.c.lane < int(Lane.BACKFILLED),
    )  # fmt: skip
    a, c = attempts_table.c, calls_table.c
    newest = (
        sa.select(a.location_id, a.subject, a.kind, a.outcome, a.ended_at)
        .order_by(a.attempt_id.desc())
        .limit(MOST_DRAINED)
        .subquery()
    )
    drained = (
        sa.select(sa.func.count())
        .select_from(newest)
        .join(calls_table, sa.and_(c.location_id == newest.c.location_id, c.call_id == newest.c.subject))
        .where(
            newest.c.kind == CALL.name, newest.c.outcome.in_((Outcome.DONE, Outcome.UNSETTLED)),
            newest.c.ended_at >= since, c.first_heard_at < since, c.stored_at >= since,
        )
    )  # fmt: skip
    return Flow(int(connection.execute(added).scalar_one()), int(connection.execute(drained).scalar_one()))


def _note_seconds(connection: Connection, since: datetime) -> list[float]:
    c, f = calls_table.c, follow_ups_table.c
    newest = (
        sa.select(c.location_id, c.call_id, c.announced_at)
        .where(c.first_heard_at >= since)
        .order_by(c.first_heard_at.desc(), c.location_id.desc(), c.call_id.desc())
        .limit(MOST_NOTED)
        .subquery()
    )
    rows = connection.execute(
        sa.select(newest.c.announced_at, f.done_at)
        .join(follow_ups_table, sa.and_(f.location_id == newest.c.location_id, f.call_id == newest.c.call_id))
        .where(newest.c.announced_at >= since, f.status == FollowUpState.DONE, f.done_at.is_not(None))
    )
    return sorted((done_at - announced_at).total_seconds() for announced_at, done_at in rows)


_a = accounts_table.c
_SIGNS = (
    _a.outages_in_a_row >= circuit_breaker.OUTAGES_BEFORE_OPEN, _a.webhook_alarm.is_not(None),
    _a.references_lost_at.is_not(None), sa.and_(_a.api_token_encrypted.is_(None), _a.token_expires_at.is_(None)),
)  # fmt: skip
"""Columns of an account by which rules may find something."""
_ALARMED = sa.select(accounts_table.c.location_id).where(
    accounts_table.c.webhook_alarm.is_not(None), accounts_table.c.removed_at.is_(None)
)
_r = reconciliations_table.c
_OPEN_WINDOWS = sa.select(_r.location_id, _r.kind, _r.started_at, _r.error).where(
    WINDOW_IS_OPEN, _r.kind != WindowKind.BACKFILL
)
_newest = (
    sa.select(attempts_table.c.kind, attempts_table.c.ended_at)
    .order_by(attempts_table.c.attempt_id.desc())
    .limit(RECENT_ATTEMPTS)
    .subquery()
)
_LAST_ATTEMPT = sa.select(sa.func.max(_newest.c.ended_at)).where(_newest.c.kind.in_((CALL.name, FOLLOW_UP.name)))
