"""What is due, in which order, and which of it has a message in Redis: the dispatcher's questions.

A row in flight is marked as sent or holds a lease. A mark is void after a while, and at once when Redis lost its
memory: it names the generation of Redis that it was sent into.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.orm import Session

from models.accounts import OUTAGES_BEFORE_REST, accounts
from models.attempts import OPEN, Lane, Status, Work
from models.calls import CALL
from models.database import moment, skip_locked
from models.follow_ups import FOLLOW_UP
from models.heartbeats import live_workers
from models.pauses import is_paused

IN_LANE_ORDER = tuple(Lane)


@dataclass(frozen=True)
class Due:
    """A row of work that is to be sent."""

    work: Work
    key: tuple[str, ...]


@dataclass(frozen=True)
class Room:
    """How many rows may be in flight at once."""

    in_all: int
    per_account: int


@dataclass(frozen=True)
class Marks:
    """What makes a mark valid: its generation of Redis, and for how many seconds."""

    generation: str
    seconds: float


def take_due(session: Session, *, marks: Marks, room: Room) -> list[Due]:
    """Marks as sent, and returns, what may be sent now: fairly among accounts, each account's lanes in order."""
    waiting = _accounts_with_due_work(session)
    if not waiting:
        return []
    in_flight = _in_flight(session, marks)
    left = room.in_all - sum(in_flight.values())
    candidates = {
        location_id: _candidates(session, location_id, marks=marks, limit=min(left, allowed - in_flight[location_id]))
        for location_id, allowed in ((each, _allowed(room, rests)) for each, rests in waiting.items())
        if left > 0 and allowed > in_flight[location_id]
    }
    return _mark(session, _share_out(candidates, left), marks)


def _allowed(room: Room, after_outage: bool) -> int:
    """After an outage one attempt goes ahead to see whether it is over."""
    return 1 if after_outage else room.per_account


def _accounts_with_due_work(session: Session) -> dict[str, bool]:
    """Every account with something due that is not resting; the value tells whether it just had an outage."""
    something = sa.or_(
        *(
            sa.exists().where(
                work.table.c.location_id == accounts.c.location_id,
                work.table.c.lane.in_(IN_LANE_ORDER),
                work.table.c.next_attempt_at <= moment(),
                ~is_paused(work.table, work.name),
            )
            for work in (CALL, FOLLOW_UP)
        )
    )
    rested = sa.or_(accounts.c.held_until.is_(None), accounts.c.held_until <= moment())
    rows = session.execute(
        sa.select(accounts.c.location_id, accounts.c.outages).where(accounts.c.removed_at.is_(None), rested, something)
    )
    return {row.location_id: row.outages >= OUTAGES_BEFORE_REST for row in rows}


def _in_flight(session: Session, marks: Marks) -> Counter[str]:
    """Per account: rows with a valid mark, and rows held by a worker that is alive."""
    counts: Counter[str] = Counter()
    alive = live_workers(session)
    for work in (CALL, FOLLOW_UP):
        table = work.table
        held = sa.and_(table.c.lease_until > moment(), table.c.running_on.in_(alive), table.c.status == Status.RUNNING)
        rows = session.execute(
            sa.select(table.c.location_id, sa.func.count())
            .where(sa.or_(table.c.sent_at.is_not(None), table.c.lease_until.is_not(None)))
            .where(sa.or_(~_mark_is_void(table, marks), held))
            .group_by(table.c.location_id)
        )
        for location_id, number in rows:
            counts[location_id] += number
    return counts


def _candidates(session: Session, location_id: str, *, marks: Marks, limit: int) -> list[tuple[Lane, Due]]:
    found: list[tuple[Lane, Due]] = []
    for lane in IN_LANE_ORDER:
        for work in (CALL, FOLLOW_UP):
            if len(found) >= limit:
                return found
            table = work.table
            rows = session.execute(
                skip_locked(
                    session,
                    sa.select(*(table.c[name] for name in work.key_columns))
                    .where(
                        table.c.location_id == location_id,
                        table.c.lane == lane,
                        table.c.next_attempt_at <= moment(),
                        table.c.status.in_(OPEN),
                        _mark_is_void(table, marks),
                        ~is_paused(table, work.name),
                    )
                    .order_by(table.c.next_attempt_at)
                    .limit(limit - len(found)),
                )
            )
            found.extend((lane, Due(work, tuple(row))) for row in rows)
    return found


def _share_out(candidates: Mapping[str, Sequence[tuple[Lane, Due]]], room: int) -> list[Due]:
    """One of each account in turn, the most urgent lane first, until the room is filled."""
    turns = sorted(
        ((lane, turn, due) for offered in candidates.values() for turn, (lane, due) in enumerate(offered)),
        key=lambda each: (each[0] if each[0] > Lane.RETRY else Lane.LIVE, each[1]),
    )
    return [due for _lane, _turn, due in turns[: max(room, 0)]]


def _mark(session: Session, chosen: Sequence[Due], marks: Marks) -> list[Due]:
    for due in chosen:
        session.execute(
            sa.update(due.work.table)
            .where(due.work.matches(due.key))
            .values(sent_at=moment(), sent_generation=marks.generation)
        )
    return list(chosen)


def _mark_is_void(table: sa.Table, marks: Marks) -> sa.ColumnElement[bool]:
    return sa.or_(
        table.c.sent_at.is_(None),
        table.c.sent_generation != marks.generation,
        table.c.sent_at <= moment(-marks.seconds),
    )


def unmark(session: Session, rows: Sequence[Due]) -> None:
    """For rows whose message did not get into Redis. One that did after all is harmless: it is claimed once."""
    for due in rows:
        session.execute(
            sa.update(due.work.table).where(due.work.matches(due.key)).values(sent_at=None, sent_generation=None)
        )
