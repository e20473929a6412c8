"""The order of dispatch: which due rows are enqueued now, fairly among accounts, each account's lanes in order.

A row is in flight while it has a valid enqueue mark or a lease. A mark is void after a while, and at once when Redis
lost its memory: the mark names the epoch of Redis in which the message was sent.
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

from models.accounts import circuit_breaker
from models.accounts.accounts import accounts_table, requests_per_10_seconds
from models.accounts.pauses import is_paused
from models.database import moment, on_postgresql
from models.work.heartbeats import live_workers
from models.work.work_rows import Lane, WorkKind, WorkStatus, is_due, is_in_background

SECONDS_IN_FLIGHT = 1.2
"""An account has as many rows in flight as its budget lets through in this time: less than a row of the live lanes
waits for the budget before it is rescheduled (docs/decisions/0021)."""
FEWEST_IN_FLIGHT = 2


@dataclass(frozen=True)
class Due:
    """A row of work that is to be enqueued."""

    work: WorkKind
    key: tuple[str, ...]


@dataclass(frozen=True)
class DispatchLimits:
    """How many rows may be in flight at once."""

    in_all: int
    per_account: int
    room: int | None = None
    """How many may be added now. None: any number."""
    background: int | None = None
    """Of an account's rows, how many may be reconciled or backfilled ones. None: all."""
    per_10_seconds: int | None = None
    """Requests that Leadway allows an account without a number of its own. No more rows are in flight than the budget
    soon lets through, because a row that waits for the budget holds a slot. None: no such limit."""


@dataclass(frozen=True)
class EnqueueMarks:
    """What makes an enqueue mark valid: its epoch of Redis, and its age of at most `seconds`."""

    epoch: str
    seconds: float


@dataclass(frozen=True)
class _DueAccount:
    """An account that has due rows and whose circuit breaker lets requests through."""

    half_open: bool
    per_10_seconds: int | None
    lanes: list[tuple[Lane, WorkKind]]
    """Those with due rows, the most urgent first."""


def take_due(
    connection: Connection, kinds: tuple[WorkKind, ...], *, marks: EnqueueMarks, limits: DispatchLimits
) -> list[Due]:
    """Chooses the rows that may be enqueued now, sets their enqueue marks, and returns them in the order to send."""
    accounts = _accounts_with_due_rows(connection, kinds)
    if not accounts:
        return []
    in_flight, in_background = _in_flight(connection, kinds, marks)
    left = limits.in_all - sum(in_flight.values())
    if limits.room is not None:
        left = min(left, limits.room)
    if left <= 0:
        return []
    candidates = {
        location_id: _candidates(
            connection,
            location_id,
            account.lanes,
            marks=marks,
            limit=min(left, _allowed(limits, account) - in_flight[location_id]),
            background=left if limits.background is None else limits.background - in_background[location_id],
        )
        for location_id, account in accounts.items()
    }
    chosen = _share_out(candidates, left, in_flight)
    _write_marks(connection, chosen, enqueued_at=moment(), enqueued_epoch=marks.epoch)
    return chosen


def clear_marks(connection: Connection, rows: Sequence[Due]) -> None:
    """For rows whose message could not be sent. If it was sent after all, the row is still claimed only once."""
    _write_marks(connection, rows, enqueued_at=None, enqueued_epoch=None)


def _allowed(limits: DispatchLimits, account: _DueAccount) -> int:
    """How many rows of the account may be in flight: one if its circuit breaker is half-open."""
    if account.half_open:
        return 1
    per_10_seconds = requests_per_10_seconds(account.per_10_seconds, for_all=limits.per_10_seconds)
    if per_10_seconds is None:
        return limits.per_account
    return min(limits.per_account, max(FEWEST_IN_FLIGHT, math.ceil(SECONDS_IN_FLIGHT * per_10_seconds / 10)))


def _accounts_with_due_rows(connection: Connection, kinds: tuple[WorkKind, ...]) -> dict[str, _DueAccount]:
    found: dict[str, _DueAccount] = {}
    by_name = {work.name: work for work in kinds}
    rows = connection.execute(_lanes_with_due_rows(kinds)).all()
    for row in sorted(rows, key=lambda each: (each.location_id, each.lane, each.work)):
        new = _DueAccount(bool(row.half_open), row.requests_per_10_seconds, [])
        found.setdefault(row.location_id, new).lanes.append((Lane(row.lane), by_name[row.work]))
    return found


def _in_flight(
    connection: Connection, kinds: tuple[WorkKind, ...], marks: EnqueueMarks
) -> tuple[Counter[str], Counter[str]]:
    """Rows by account that have a valid mark or are leased to a live worker: all, and those of background lanes."""
    counts: Counter[str] = Counter()
    in_background: Counter[str] = Counter()
    parameters = {**_mark_parameters(marks), "live_workers": live_workers(connection)}
    for work in kinds:
        for row in connection.execute(_count_in_flight(work.table), parameters):
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
    """At most `limit` due rows of an account without a valid mark, of them at most `background` of background lanes."""
    found: list[tuple[Lane, Due]] = []
    for lane, work in lanes:
        left = limit - len(found)
        if lane.is_background:
            left = min(left, background - sum(each.is_background for each, _ in found))
        if left <= 0:
            return found
        parameters = {
            **_mark_parameters(marks), "this_location": location_id, "this_lane": int(lane), "this_limit": left,
        }  # fmt: skip
        rows = connection.execute(
            _oldest_due(work.table, work.key_columns, skips_locked=on_postgresql(connection)), parameters
        )
        found.extend((lane, Due(work, tuple(row))) for row in rows)
    return found


def _share_out(
    candidates: Mapping[str, Sequence[tuple[Lane, Due]]], slots: int, in_flight: Mapping[str, int]
) -> list[Due]:
    """The next row is of the account with the fewest rows in flight, by chance among equals; rows of background lanes
    come after all others."""
    turns = sorted(
        (
            (lane, in_flight[location_id] + turn, due)
            for location_id, offered in random.sample(sorted(candidates.items()), len(candidates))
            for turn, (lane, due) in enumerate(offered)
        ),
        key=lambda each: (each[0] if each[0].is_background else Lane.LIVE, each[1]),
    )
    return [due for _lane, _turn, due in turns[:slots]]


def _write_marks(connection: Connection, rows: Sequence[Due], **values: Any) -> None:
    """One statement for each account's calls, one for all follow-ups. SQLite uses no index for a list of pairs."""
    groups: dict[tuple[str, tuple[str, ...]], list[Due]] = {}
    for due in rows:
        groups.setdefault((due.work.name, due.key[:-1]), []).append(due)
    for group in groups.values():
        work, shared = group[0].work, group[0].key[:-1]
        table, names = work.table, work.key_columns
        these = [table.c[name] == value for name, value in zip(names, shared, strict=False)]
        last = table.c[names[-1]].in_([due.key[-1] for due in group])
        connection.execute(sa.update(table).where(*these, last).values(**values))


# Statements that run many times a second are built once: building one costs several times its execution.


@cache
def _lanes_with_due_rows(kinds: tuple[WorkKind, ...]) -> sa.CompoundSelect[Any]:
    """The lanes with due rows of each account that is served, not paused, and not stopped by its circuit breaker."""
    lanes = sa.union_all(*(sa.select(sa.literal(int(lane)).label("lane")) for lane in Lane)).subquery("lanes")

    def of(work: WorkKind) -> sa.Select[Any]:
        table = work.table
        # The smallest is the first entry of ix_…_due for that account and lane: one look-up, however much is due.
        earliest = (
            sa.select(sa.func.min(table.c.next_attempt_at))
            .where(table.c.location_id == accounts_table.c.location_id, table.c.lane == lanes.c.lane)
            .correlate(accounts_table, lanes)
            .scalar_subquery()
        )
        return (
            sa.select(
                accounts_table.c.location_id,
                accounts_table.c.requests_per_10_seconds,
                circuit_breaker.is_half_open().label("half_open"),
                lanes.c.lane,
                sa.literal(work.name).label("work"),
            )
            .select_from(accounts_table.join(lanes, sa.true()))
            .where(
                accounts_table.c.removed_at.is_(None),
                circuit_breaker.lets_requests_through(),
                ~is_paused(accounts_table, work.name),
                earliest <= moment(),
            )
        )

    return sa.union_all(*(of(work) for work in kinds))


@cache
def _count_in_flight(table: sa.Table) -> sa.Select[Any]:
    """Rows in flight by account. Parameters: `_mark_parameters`, `live_workers`."""
    alive: sa.BindParameter[Any] = sa.bindparam("live_workers", expanding=True)
    leased = sa.and_(
        table.c.lease_until > moment(), table.c.running_on.in_(alive), table.c.status == WorkStatus.RUNNING
    )
    return (
        sa.select(
            table.c.location_id,
            sa.func.count().label("number"),
            sa.func.sum(sa.case((is_in_background(table), 1), else_=0)).label("background"),
        )
        .where(sa.or_(table.c.enqueued_at.is_not(None), table.c.lease_until.is_not(None)))
        .where(sa.or_(~_mark_is_void(table), leased))
        .group_by(table.c.location_id)
    )


@cache
def _oldest_due(table: sa.Table, key_columns: tuple[str, ...], *, skips_locked: bool) -> sa.Select[Any]:
    """Due rows of one account and lane without a valid mark. Parameters: `_mark_parameters`, `this_location`,
    `this_lane`, `this_limit`.

    skips_locked: leaves out rows that another transaction has locked. SQLite has one writer at a time and needs no such
    clause.
    """
    statement = (
        sa.select(*(table.c[name] for name in key_columns))
        .where(
            table.c.location_id == sa.bindparam("this_location"),
            table.c.lane == sa.bindparam("this_lane"),
            is_due(table),
            _mark_is_void(table),
        )
        .order_by(table.c.next_attempt_at)
        .limit(sa.bindparam("this_limit", type_=sa.Integer))
    )
    return statement.with_for_update(skip_locked=True) if skips_locked else statement


def _mark_is_void(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.or_(
        table.c.enqueued_at.is_(None),
        table.c.enqueued_epoch != sa.bindparam("this_epoch"),
        table.c.enqueued_at <= moment(-sa.bindparam("mark_seconds", type_=sa.Double)),
    )


def _mark_parameters(marks: EnqueueMarks) -> dict[str, Any]:
    return {"this_epoch": marks.epoch, "mark_seconds": marks.seconds}
