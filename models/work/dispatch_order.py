"""What is due, in which order, and which of it has a message in Redis: the dispatcher's questions.

A row in flight is marked as sent or holds a lease. A mark is void after a while, and at once when Redis lost its
memory: it names the generation of Redis that it was sent into.
"""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import OUTAGES_BEFORE_OPEN, accounts_table
from models.accounts.pauses import is_paused
from models.database import moment, on_postgresql
from models.work.heartbeats import live_workers
from models.work.lifecycle import OPEN, Lane, WorkKind, WorkStatus

IN_LANE_ORDER = tuple(Lane)
SECONDS_IN_FLIGHT = 1.2
"""So much of what an account's budget lets through is in flight: less than the live lanes are ready to wait."""
FEWEST_IN_FLIGHT = 2


@dataclass(frozen=True)
class Due:
    """A row of work that is to be sent."""

    work: WorkKind
    key: tuple[str, ...]


@dataclass(frozen=True)
class DispatchLimits:
    """How many rows may be in flight at once."""

    in_all: int
    per_account: int
    background: int | None = None
    """Of one account's, those that nobody waits for: reconciled and backfilled ones. None: all."""
    per_10_seconds: int | None = None
    """Requests that Leadway allows an account that has no number of its own: no more is sent than it soon lets
    through, for what waits for the budget takes a slot from others. None: no matter."""


@dataclass(frozen=True)
class EnqueueMarks:
    """What makes a mark valid: its generation of Redis, and for how many seconds."""

    epoch: str
    seconds: float


@dataclass(frozen=True)
class _Waiting:
    """An account with something due that is not resting."""

    after_outage: bool
    per_10_seconds: int | None
    lanes: list[tuple[Lane, WorkKind]]
    """In which of its lanes something is due, the most urgent first."""


def take_due(
    connection: Connection, kinds: tuple[WorkKind, ...], *, marks: EnqueueMarks, limits: DispatchLimits
) -> list[Due]:
    """Marks as sent, and returns, what may be sent now: fairly among accounts, each account's lanes in order."""
    waiting = _accounts_with_due_work(connection, kinds)
    if not waiting:
        return []
    in_flight, in_background = _in_flight(connection, kinds, marks)
    left = limits.in_all - sum(in_flight.values())
    if left <= 0:
        return []
    candidates = {
        location_id: _candidates(
            connection,
            location_id,
            each.lanes,
            marks=marks,
            limit=min(left, _allowed(limits, each) - in_flight[location_id]),
            background=left if limits.background is None else limits.background - in_background[location_id],
        )
        for location_id, each in waiting.items()
    }
    return _mark(connection, _share_out(candidates, left, in_flight), marks)


def _allowed(limits: DispatchLimits, account: _Waiting) -> int:
    """After an outage one attempt goes ahead to see whether it is over."""
    if account.after_outage:
        return 1
    per_10_seconds = account.per_10_seconds or limits.per_10_seconds
    if per_10_seconds is None:
        return limits.per_account
    return min(limits.per_account, max(FEWEST_IN_FLIGHT, math.ceil(SECONDS_IN_FLIGHT * per_10_seconds / 10)))


def _accounts_with_due_work(connection: Connection, kinds: tuple[WorkKind, ...]) -> dict[str, _Waiting]:
    found: dict[str, _Waiting] = {}
    by_name = {work.name: work for work in kinds}
    rows = connection.execute(_waiting_lanes(kinds)).all()
    for row in sorted(rows, key=lambda each: (each.location_id, each.lane, each.work)):
        after_outage = row.outages_in_a_row >= OUTAGES_BEFORE_OPEN
        account = found.setdefault(row.location_id, _Waiting(after_outage, row.requests_per_10_seconds, []))
        account.lanes.append((Lane(row.lane), by_name[row.work]))
    return found


def _in_flight(
    connection: Connection, kinds: tuple[WorkKind, ...], marks: EnqueueMarks
) -> tuple[Counter[str], Counter[str]]:
    """Per account: rows with a valid mark, and rows held by a worker that is alive; the second: background only."""
    counts: Counter[str] = Counter()
    in_background: Counter[str] = Counter()
    parameters = {**_of_marks(marks), "alive": live_workers(connection)}
    for work in kinds:
        for row in connection.execute(_counting(work.table), parameters):
            counts[row.location_id] += row.number
            in_background[row.location_id] += row.background
    return counts, in_background


def _candidates(
    connection: Connection,
    location_id: str,
    lanes: Sequence[tuple[Lane, WorkKind]],
    *,
    marks: EnqueueMarks,
    limit: int,
    background: int,
) -> list[tuple[Lane, Due]]:
    found: list[tuple[Lane, Due]] = []
    for lane, work in lanes:
        left = limit - len(found)
        if lane > Lane.RETRY:
            left = min(left, background - sum(each > Lane.RETRY for each, _ in found))
        if left <= 0:
            return found
        parameters = {**_of_marks(marks), "this_location": location_id, "this_lane": int(lane), "this_limit": left}
        rows = connection.execute(
            _oldest_due(work.table, work.key_columns, skips_locked=on_postgresql(connection)), parameters
        )
        found.extend((lane, Due(work, tuple(row))) for row in rows)
    return found


# The dispatcher asks the same many times a second. Building a statement costs several times its execution.


@cache
def _waiting_lanes(kinds: tuple[WorkKind, ...]) -> sa.CompoundSelect[Any]:
    """Which accounts that are not resting have something due, and in which of their lanes."""
    rested = sa.or_(accounts_table.c.open_until.is_(None), accounts_table.c.open_until <= moment())
    lanes = sa.union_all(*(sa.select(sa.literal(int(lane)).label("lane")) for lane in IN_LANE_ORDER)).subquery("lanes")

    def of(work: WorkKind) -> sa.Select[Any]:
        table = work.table
        # The smallest is the first entry of ix_…_due for that account and lane: one look, however much is due.
        earliest = (
            sa.select(sa.func.min(table.c.next_attempt_at))
            .where(table.c.location_id == accounts_table.c.location_id, table.c.lane == lanes.c.lane)
            .correlate(accounts_table, lanes)
            .scalar_subquery()
        )
        columns = (
            accounts_table.c.location_id,
            accounts_table.c.outages_in_a_row,
            accounts_table.c.requests_per_10_seconds,
            lanes.c.lane,
        )
        return (
            sa.select(*columns, sa.literal(work.name).label("work"))
            .select_from(accounts_table.join(lanes, sa.true()))
            .where(
                accounts_table.c.removed_at.is_(None),
                rested,
                ~is_paused(accounts_table, work.name),
                earliest <= moment(),
            )
        )

    return sa.union_all(*(of(work) for work in kinds))


@cache
def _counting(table: sa.Table) -> sa.Select[Any]:
    """Rows in flight by account. Parameters: those of the marks, `alive`."""
    alive: sa.BindParameter[Any] = sa.bindparam("alive", expanding=True)
    held = sa.and_(table.c.lease_until > moment(), table.c.running_on.in_(alive), table.c.status == WorkStatus.RUNNING)
    return (
        sa.select(
            table.c.location_id,
            sa.func.count().label("number"),
            sa.func.sum(sa.case((table.c.lane > Lane.RETRY, 1), else_=0)).label("background"),
        )
        .where(sa.or_(table.c.enqueued_at.is_not(None), table.c.lease_until.is_not(None)))
        .where(sa.or_(~_mark_is_void(table), held))
        .group_by(table.c.location_id)
    )


@cache
def _oldest_due(table: sa.Table, key_columns: tuple[str, ...], *, skips_locked: bool) -> sa.Select[Any]:
    """What may be sent of one account and lane. Parameters: those of the marks, location, lane, limit.

    skips_locked: rows that another transaction holds are left to it. SQLite has one writer at a time and needs nothing.
    """
    statement = (
        sa.select(*(table.c[name] for name in key_columns))
        .where(
            table.c.location_id == sa.bindparam("this_location"),
            table.c.lane == sa.bindparam("this_lane"),
            table.c.next_attempt_at <= moment(),
            table.c.status.in_(OPEN),
            _mark_is_void(table),
        )
        .order_by(table.c.next_attempt_at)
        .limit(sa.bindparam("this_limit", type_=sa.Integer))
    )
    return statement.with_for_update(skip_locked=True) if skips_locked else statement


def _share_out(
    candidates: Mapping[str, Sequence[tuple[Lane, Due]]], slots: int, in_flight: Mapping[str, int]
) -> list[Due]:
    """Who has least in flight is next, by chance among equals; what somebody waits for goes before the rest."""
    turns = sorted(
        (
            (lane, in_flight[location_id] + turn, due)
            for location_id, offered in random.sample(sorted(candidates.items()), len(candidates))
            for turn, (lane, due) in enumerate(offered)
        ),
        key=lambda each: (each[0] if each[0] > Lane.RETRY else Lane.LIVE, each[1]),
    )
    return [due for _lane, _turn, due in turns[:slots]]


def _mark(connection: Connection, chosen: Sequence[Due], marks: EnqueueMarks) -> list[Due]:
    _write_marks(connection, chosen, enqueued_at=moment(), enqueued_epoch=marks.epoch)
    return list(chosen)


def _write_marks(connection: Connection, rows: Sequence[Due], **values: Any) -> None:
    """One statement for each account's calls, one for all follow-ups; SQLite would not use its index for pairs."""
    groups: dict[tuple[str, tuple[str, ...]], list[Due]] = {}
    for due in rows:
        groups.setdefault((due.work.name, due.key[:-1]), []).append(due)
    for group in groups.values():
        work, shared = group[0].work, group[0].key[:-1]
        table, names = work.table, work.key_columns
        these = [table.c[name] == value for name, value in zip(names, shared, strict=False)]
        last = table.c[names[-1]].in_([due.key[-1] for due in group])
        connection.execute(sa.update(table).where(*these, last).values(**values))


def _mark_is_void(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.or_(
        table.c.enqueued_at.is_(None),
        table.c.enqueued_epoch != sa.bindparam("this_epoch"),
        table.c.enqueued_at <= moment(-sa.bindparam("mark_seconds", type_=sa.Double)),
    )


def _of_marks(marks: EnqueueMarks) -> dict[str, Any]:
    return {"this_epoch": marks.epoch, "mark_seconds": marks.seconds}


def clear_marks(connection: Connection, rows: Sequence[Due]) -> None:
    """For rows whose message did not get into Redis. One that did after all is harmless: it is claimed once."""
    _write_marks(connection, rows, enqueued_at=None, enqueued_epoch=None)
