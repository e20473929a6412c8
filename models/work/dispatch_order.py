"""The order of dispatch: which due rows are enqueued now, fairly among accounts, each account's lanes in order.

A row is in flight while it has a valid enqueue mark or a lease. A mark is void after a while, and at once when Redis
lost its memory: the mark names the epoch of Redis in which the message was sent.
"""

import math
import random
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import circuit_breaker
from models.accounts.accounts import accounts_table, requests_per_10_seconds
from models.accounts.pauses import ALL_WORK, pauses_table
from models.database import UtcDateTime, moment, now
from models.work.heartbeats import live_workers
from models.work.work_rows import IS_DUE, IS_IN_BACKGROUND, IS_THIS_ROW, Lane, WorkKey, WorkKind, work_table

SECONDS_IN_FLIGHT = 1.2
"""An account has as many rows in flight as its budget lets through in this time: less than a row of the live lanes
waits for the budget before it is rescheduled (docs/decisions/0021)."""
FEWEST_IN_FLIGHT = 2
LATE_COMMIT = timedelta(seconds=60)
"""A row may be committed this long after the due time that it names."""
BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
FROM_THE_BEGINNING_SECONDS = 60.0
"""How often a scan begins at the oldest row instead of at its lower bound."""


@dataclass(frozen=True)
class Due:
    """A row of work that is to be enqueued."""

    key: WorkKey


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


@dataclass
class ScanMemory:
    """What one process remembers of its scans, so that a scan looks neither at completed rows nor at accounts without
    due work.

    PostgreSQL cannot remove the index entries of completed rows while a reader holds an old snapshot. A scan that began
    at the oldest entry would read all of them each time.
    """

    scanned_at: datetime = BEGINNING
    """The database's time of the last scan: what became due since then is looked for from here, less LATE_COMMIT."""
    from_beginning_at: datetime = BEGINNING
    """When the last scan was that began at the beginning."""
    oldest_at: datetime = BEGINNING
    """The due time of the oldest row that the last scan saw."""
    accounts: frozenset[str] = frozenset()
    """The accounts that had due rows, also those that are paused."""
    left_behind: bool = False
    """Whether the last dispatch may have left due rows because it was allowed no more."""


@dataclass(frozen=True)
class DueAccount:
    """An account that has due rows, is served, and whose circuit breaker lets requests through."""

    half_open: bool
    per_10_seconds: int | None
    lanes: list[tuple[Lane, datetime]]
    """Those with due rows, the most urgent first, each with the due time of its oldest row."""
    paused_work: frozenset[str]


def take_due(
    connection: Connection,
    kinds: Sequence[WorkKind],
    accounts: Mapping[str, DueAccount],
    *,
    memory: ScanMemory,
    marks: EnqueueMarks,
    limits: DispatchLimits,
) -> list[Due]:
    """Chooses the rows of `due_accounts` that may be enqueued now, sets their enqueue marks, and returns them in the
    order to send. Brings `left_behind` of the memory up to date."""
    in_flight, in_background = _in_flight(connection, marks)
    left = limits.in_all - sum(in_flight.values())
    if limits.room is not None:
        left = min(left, limits.room)
    memory.left_behind = True
    if left <= 0:
        return []
    allowed = {
        location_id: min(left, _allowed(limits, account) - in_flight[location_id])
        for location_id, account in accounts.items()
    }
    candidates = {
        location_id: _candidates(
            connection,
            [kind for kind in kinds if kind.paused_as not in account.paused_work],
            location_id,
            account.lanes,
            marks=marks,
            limit=allowed[location_id],
            background=left if limits.background is None else limits.background - in_background[location_id],
        )
        for location_id, account in accounts.items()
    }
    chosen = _share_out(candidates, left, in_flight)
    memory.left_behind = len(chosen) >= left or any(
        len(candidates[location_id]) >= allowed[location_id] or any(lane.is_background for lane, _ in account.lanes)
        for location_id, account in accounts.items()
    )
    _write_marks(connection, chosen, enqueued_at=moment(), enqueued_epoch=marks.epoch)
    return chosen


def clear_marks(connection: Connection, rows: Sequence[Due]) -> None:
    """For rows whose message could not be sent. If it was sent after all, the row is still claimed only once."""
    _write_marks(connection, rows, enqueued_at=None, enqueued_epoch=None)


def due_accounts(connection: Connection, memory: ScanMemory) -> dict[str, DueAccount]:
    """The accounts with due rows that may go on. Brings the memory up to date. Reads only."""
    at = now(connection)
    if (at - memory.from_beginning_at).total_seconds() >= FROM_THE_BEGINNING_SECONDS:
        became_due_since, lower_bound, memory.from_beginning_at = BEGINNING, BEGINNING, at
    else:
        became_due_since = memory.scanned_at - LATE_COMMIT
        lower_bound = min(memory.oldest_at, memory.scanned_at) - LATE_COMMIT
    became_due = connection.execute(_BECAME_DUE, {"since": became_due_since}).scalars()
    known = memory.accounts.union(became_due)
    lanes = connection.execute(_LANES_WITH_DUE_ROWS, {"these": sorted(known), "since": lower_bound}) if known else ()
    rows = [row for row in lanes if row.earliest_at is not None]
    memory.accounts = frozenset(row.location_id for row in rows)
    memory.oldest_at = min((row.earliest_at for row in rows), default=at)
    memory.scanned_at = at
    may_go_on = [row for row in rows if row.may_go_on]
    paused = _paused_work(connection, {row.location_id for row in may_go_on}) if may_go_on else {}
    found: dict[str, DueAccount] = {}
    for row in sorted(may_go_on, key=lambda each: (each.location_id, each.lane)):
        paused_work = paused.get(row.location_id, frozenset())
        if ALL_WORK not in paused_work:
            new = DueAccount(bool(row.half_open), row.requests_per_10_seconds, [], paused_work)
            found.setdefault(row.location_id, new).lanes.append((Lane(row.lane), row.earliest_at))
    return found


def _paused_work(connection: Connection, location_ids: Collection[str]) -> dict[str, frozenset[str]]:
    paused: dict[str, set[str]] = {}
    for row in connection.execute(_PAUSED, {"these": sorted(location_ids)}):
        paused.setdefault(row.location_id, set()).add(row.work)
    return {location_id: frozenset(work) for location_id, work in paused.items()}


def _allowed(limits: DispatchLimits, account: DueAccount) -> int:
    """How many rows of the account may be in flight: one if its circuit breaker is half-open."""
    if account.half_open:
        return 1
    per_10_seconds = requests_per_10_seconds(account.per_10_seconds, for_all=limits.per_10_seconds)
    if per_10_seconds is None:
        return limits.per_account
    return min(limits.per_account, max(FEWEST_IN_FLIGHT, math.ceil(SECONDS_IN_FLIGHT * per_10_seconds / 10)))


def _in_flight(connection: Connection, marks: EnqueueMarks) -> tuple[Counter[str], Counter[str]]:
    """Rows by account that have a valid mark or are leased to a live worker: all, and those of background lanes."""
    counts: Counter[str] = Counter()
    in_background: Counter[str] = Counter()
    parameters = {**_mark_parameters(marks), "live_workers": live_workers(connection)}
    for row in connection.execute(_COUNT_IN_FLIGHT, parameters):
        counts[row.location_id] = row.number
        in_background[row.location_id] = row.background
    return counts, in_background


def _candidates(
    connection: Connection,
    kinds: Sequence[WorkKind],
    location_id: str,
    lanes: Sequence[tuple[Lane, datetime]],
    *,
    marks: EnqueueMarks,
    limit: int,
    background: int,
) -> list[tuple[Lane, Due]]:
    """At most `limit` due rows of an account without a valid mark, of them at most `background` of background lanes."""
    by_name = {kind.name: kind for kind in kinds}
    found: list[tuple[Lane, Due]] = []
    for lane, earliest_at in lanes:
        left = limit - len(found)
        if lane.is_background:
            left = min(left, background - sum(each.is_background for each, _ in found))
        if left <= 0:
            return found
        parameters = {
            **_mark_parameters(marks), "kinds": list(by_name), "this_location": location_id, "this_lane": int(lane),
            "since": earliest_at - LATE_COMMIT, "this_limit": left,
        }  # fmt: skip
        found.extend(
            (lane, Due(WorkKey(by_name[row.kind], location_id, row.subject)))
            for row in connection.execute(_OLDEST_DUE, parameters)
        )
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
    """Row by row in the order of the keys, so that two who write the same rows wait for each other and never in a
    circle: one statement for all would lock them as they lie on the disk."""
    keys = sorted((due.key for due in rows), key=lambda key: (key.kind.name, key.location_id, key.subject))
    if keys:
        statement = sa.update(work_table).where(IS_THIS_ROW).values(values)
        connection.execute(statement, [key.parameters for key in keys])


# Statements that run many times a second are built once: building one costs several times its execution.

_since: sa.BindParameter[datetime] = sa.bindparam("since", type_=UtcDateTime)
_these: sa.BindParameter[Any] = sa.bindparam("these", expanding=True)
_BECAME_DUE = sa.select(work_table.c.location_id).where(work_table.c.due_at > _since, IS_DUE).distinct()
_PAUSED = sa.select(pauses_table.c.location_id, pauses_table.c.work).where(pauses_table.c.location_id.in_(_these))


def _lanes_with_due_rows() -> sa.Select[Any]:
    """The lanes of these accounts, each with its earliest due time after `since`, null where nothing is due.
    Parameters: `these`, `since`."""
    lanes = sa.union_all(*(sa.select(sa.literal(int(lane)).label("lane")) for lane in Lane)).subquery("lanes")
    # The smallest is the first entry of ix_work_lane for that account and lane: one look-up, however much is due.
    earliest = (
        sa.select(sa.func.min(work_table.c.due_at))
        .where(
            work_table.c.location_id == accounts_table.c.location_id,
            work_table.c.lane == lanes.c.lane,
            work_table.c.due_at > _since,
            IS_DUE,
        )
        .correlate(accounts_table, lanes)
        .scalar_subquery()
    )
    return (
        sa.select(
            accounts_table.c.location_id,
            accounts_table.c.requests_per_10_seconds,
            circuit_breaker.is_half_open().label("half_open"),
            sa.and_(accounts_table.c.removed_at.is_(None), circuit_breaker.lets_requests_through()).label("may_go_on"),
            lanes.c.lane,
            earliest.label("earliest_at"),
        )
        .select_from(accounts_table.join(lanes, sa.true()))
        .where(accounts_table.c.location_id.in_(_these))
    )


_LANES_WITH_DUE_ROWS = _lanes_with_due_rows()


def _oldest_due() -> sa.Select[Any]:
    """Due rows of one account and lane without a valid mark, of kinds that are not paused, but rows that another
    transaction has locked. Parameters: `_mark_parameters`, `kinds`, `this_location`, `this_lane`, `since`,
    `this_limit`."""
    c = work_table.c
    return (
        sa.select(c.kind, c.subject)
        .where(
            c.location_id == sa.bindparam("this_location"),
            c.lane == sa.bindparam("this_lane"),
            c.due_at > _since,
            IS_DUE,
            c.kind.in_(sa.bindparam("kinds", expanding=True)),
            _mark_is_void(),
        )
        .order_by(c.due_at)
        .limit(sa.bindparam("this_limit", type_=sa.Integer))
        .with_for_update(skip_locked=True)  # SQLite has one writer, and no such clause
    )


def _mark_is_void() -> sa.ColumnElement[bool]:
    c = work_table.c
    return sa.or_(
        c.enqueued_at.is_(None),
        c.enqueued_epoch != sa.bindparam("this_epoch"),
        c.enqueued_at <= moment(-sa.bindparam("mark_seconds", type_=sa.Double)),
    )


_OLDEST_DUE = _oldest_due()


def _count_in_flight() -> sa.Select[Any]:
    """Rows in flight by account. Parameters: `_mark_parameters`, `live_workers`."""
    c = work_table.c
    alive: sa.BindParameter[Any] = sa.bindparam("live_workers", expanding=True)
    leased = sa.and_(c.lease_until > moment(), c.running_on.in_(alive))
    return (
        sa.select(
            c.location_id,
            sa.func.count().label("number"),
            sa.func.sum(sa.case((IS_IN_BACKGROUND, 1), else_=0)).label("background"),
        )
        .where(sa.or_(c.enqueued_at.is_not(None), c.lease_until.is_not(None)))
        .where(sa.or_(~_mark_is_void(), leased))
        .group_by(c.location_id)
    )


_COUNT_IN_FLIGHT = _count_in_flight()


def _mark_parameters(marks: EnqueueMarks) -> dict[str, Any]:
    return {"this_epoch": marks.epoch, "mark_seconds": marks.seconds}
