"""The backlog: calls and follow-ups that are open or dead, by account and status, with their number and age.

Other kinds are left out, for their age tells nothing: a window is as old as its run, a grant's work never ends. Each
question is one statement, whatever the number of accounts, and reads open work only.
"""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.calls import CALL
from models.database import now
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
from models.intake.inbox import inbox_table
from models.intake.quarantine import quarantine_table
from models.reconciling.quarantined_rows import IS_NO_CALL, quarantined_rows_table
from models.work.work_rows import STATUS, Lane, WorkStatus, work_table

UNSETTLED = "unsettled"
"""The status of a call that is stored and read again, until Leadway has finished its log or because it was asked for:
it waits for nothing of ours."""
IDS_SHOWN = 3

_w = work_table.c
STANDING = sa.case(
    (follow_ups_table.c.status == FollowUpState.UNCLEAR, FollowUpState.UNCLEAR),
    ((_w.kind == CALL.name) & _w.first_heard_at.is_(None) & (sa.literal(WorkStatus.PENDING) == STATUS), UNSETTLED),
    else_=STATUS,
)
"""The status of a row of `WORK`; of a follow-up also unclear, of a call also unsettled."""
SINCE = sa.func.coalesce(follow_ups_table.c.unclear_since, _w.created_at)
"""From when on a row of `WORK` has its age: from its creation, an unclear follow-up from when it became unclear."""
WORK = work_table.outerjoin(
    follow_ups_table,
    sa.and_(_w.kind == FOLLOW_UP.name, follow_ups_table.c.follow_up_id == _w.subject),
)
"""Open and dead work, each follow-up's with its facts."""
_IS_OF_A_CALL = _w.kind.in_((CALL.name, FOLLOW_UP.name))


@dataclass(frozen=True)
class Group:
    """Rows of work that agree in all this."""

    location_id: str
    work: str
    """call or follow_up"""
    status: str
    cause: str | None
    """Of dead ones why they were given up; of those for a person the last error."""
    for_a_person: bool
    """Unclear, and only a person can settle it."""
    backfilled: bool
    """In the lane for which nobody waits."""
    number: int
    since: datetime
    """Of the oldest one."""
    due_since: datetime | None
    """The earliest due time."""


@dataclass(frozen=True)
class Backlog:
    """The rows of one account, kind of work and status, dead ones included. Notifications count from their arrival.

    `location_id` is empty for notifications that name none.
    """

    location_id: str
    work: str
    """call, follow_up, or notification: one that is not taken in."""
    status: str
    number: int
    oldest_seconds: float


@dataclass(frozen=True)
class OldestCall:
    """The pending call of an account that became known first and was never stored."""

    call_id: str
    waits_since: datetime
    seconds: float


def groups(connection: Connection) -> defaultdict[str, list[Group]]:
    """By account; one without open work has none."""
    found: defaultdict[str, list[Group]] = defaultdict(list)
    for row in connection.execute(_GROUPS):
        found[row.location_id].append(Group(*row))
    return found


def ids_for_a_person(connection: Connection) -> dict[tuple[str, str, str, str | None], tuple[str, ...]]:
    """Of dead work, and of unclear follow-ups that only a person can settle: the ids of the oldest, at most IDS_SHOWN,
    by account, kind, status and cause."""
    found: defaultdict[tuple[str, str, str, str | None], tuple[str, ...]] = defaultdict(tuple)
    for location_id, work, status, cause, subject in connection.execute(_IDS_FOR_A_PERSON):
        found[location_id, work, status, cause] += (subject,)
    return found


def oldest_waiting_calls(connection: Connection, at: datetime) -> dict[str, OldestCall]:
    """By account, as of `at`."""
    return {
        location_id: OldestCall(call_id, waits_since, max(0.0, (at - waits_since).total_seconds()))
        for location_id, call_id, waits_since in connection.execute(_OLDEST_WAITING_CALLS)
    }


def all_work(connection: Connection) -> list[Backlog]:
    at = now(connection)
    return [
        Backlog(row.location_id, row.kind, row.status, row.number, (at - row.oldest_at).total_seconds())
        for query in _QUERIES
        for row in connection.execute(query)
    ]


_FOR_A_PERSON = sa.and_(
    follow_ups_table.c.status == FollowUpState.UNCLEAR, _w.due_at.is_(None), _w.dead_cause.is_(None)
)
_CAUSE = sa.case((_w.dead_cause.is_not(None), _w.dead_cause), (_FOR_A_PERSON, _w.last_error))
_BY: tuple[Any, ...] = (
    _w.location_id, _w.kind, STANDING.label("status"), _CAUSE.label("cause"),
    sa.case((_FOR_A_PERSON, sa.true()), else_=sa.false()).label("for_a_person"),
    (_w.lane == int(Lane.BACKFILLED)).label("backfilled"),
)  # fmt: skip
_GROUPS: sa.Select[Any] = (
    sa.select(*_BY, sa.func.count().label("number"), sa.func.min(SINCE), sa.func.min(_w.due_at))
    .select_from(WORK)
    .where(_IS_OF_A_CALL)
    .group_by(*_BY)
)
_RANK = sa.func.row_number().over(partition_by=(*_BY[:4],), order_by=(SINCE, _w.subject)).label("rank")
_RANKED = (
    sa.select(*_BY[:4], _w.subject, _RANK)
    .select_from(WORK)
    .where(_IS_OF_A_CALL, sa.or_(_w.dead_cause.is_not(None), _FOR_A_PERSON))
    .subquery()
)
_IDS_FOR_A_PERSON: sa.Select[Any] = (
    sa.select(*(_RANKED.c[name] for name in ("location_id", "kind", "status", "cause", "subject")))
    .where(_RANKED.c.rank <= IDS_SHOWN)
    .order_by(_RANKED.c.location_id, _RANKED.c.kind, _RANKED.c.rank)
)
_IS_WAITING = sa.and_(_w.kind == CALL.name, _w.first_heard_at.is_not(None), sa.literal(WorkStatus.PENDING) == STATUS)
_FIRST = (
    sa.select(_w.location_id, sa.func.min(_w.first_heard_at).label("heard_at"))
    .where(_IS_WAITING)
    .group_by(_w.location_id)
    .subquery()
)
_OLDEST_WAITING_CALLS: sa.Select[Any] = (
    sa.select(_w.location_id, sa.func.min(_w.subject), _w.first_heard_at)
    .join(_FIRST, sa.and_(_FIRST.c.location_id == _w.location_id, _FIRST.c.heard_at == _w.first_heard_at))
    .where(_IS_WAITING)
    .group_by(_w.location_id, _w.first_heard_at)
)


def _counted(*groups: Any, since: Any) -> sa.Select[Any]:
    return sa.select(*groups, sa.func.count().label("number"), sa.func.min(since).label("oldest_at")).group_by(*groups)


def _waiting(table: sa.Table, status: str) -> sa.Select[Any]:
    location_id = sa.func.coalesce(table.c.location_id, "").label("location_id")
    notification: tuple[Any, ...] = (sa.literal("notification").label("kind"), sa.literal(status).label("status"))
    return _counted(location_id, since=table.c.received_at).add_columns(*notification)


_QUERIES = (
    _counted(_w.location_id, _w.kind, STANDING.label("status"), since=SINCE).select_from(WORK).where(_IS_OF_A_CALL),
    _waiting(inbox_table, "pending"),
    _waiting(quarantine_table, "quarantined"),
    _counted(quarantined_rows_table.c.location_id, since=quarantined_rows_table.c.first_seen_at)
    .add_columns(sa.literal("listed_row").label("kind"), sa.literal("quarantined").label("status"))
    .where(IS_NO_CALL),
)
