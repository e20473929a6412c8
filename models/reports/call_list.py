"""The list of calls for people, newest first, page by page: each call with its actions and its follow-ups' states."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table
from models.calls.calls import CALL, call_actions_table, calls_table
from models.database import UtcDateTime
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
from models.reports.timeline import COMPLETE
from models.work.work_rows import IS_LEASED, STATUS, WorkStatus, work_table


class CallFilter(StrEnum):
    """Which calls to list: by their own status, or by that of a follow-up."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    DEAD = "dead"
    FOLLOW_UP_OPEN = "follow-up-open"
    FOLLOW_UP_UNCLEAR = "follow-up-unclear"
    FOLLOW_UP_DEAD = "follow-up-dead"


@dataclass(frozen=True)
class Cursor:
    """The position of a call in the list. The next page begins after the cursor of a page's last call."""

    first_heard_at: datetime
    location_id: str
    call_id: str


@dataclass(frozen=True)
class OwedState:
    """How a follow-up stands: by its own status; a pending one is running while a worker has it."""

    kind: str
    status: str
    skip_reason: str | None


@dataclass(frozen=True)
class ListedCall:
    """A call with its account's name and time zone, the types of its actions, the states of its follow-ups."""

    location_id: str
    call_id: str
    first_heard_at: datetime
    status: str
    """complete, or the status of its work."""
    dead_cause: str | None
    stored_at: datetime | None
    settled_at: datetime | None
    started_at: datetime | None
    duration_seconds: float | None
    from_number: str | None
    trial_call: bool | None
    name: str | None
    time_zone: str | None
    action_types: Sequence[str]
    follow_ups: Sequence[OwedState]

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.first_heard_at, self.location_id, self.call_id)


def newest(
    connection: Connection,
    *,
    limit: int,
    location_id: str | None = None,
    shown: CallFilter | None = None,
    after: Cursor | None = None,
    only: Sequence["Key"] | None = None,
) -> list[ListedCall]:
    """At most `limit` calls by when they became known, newest first; those after the cursor `after` if it is given.

    `only`: of these calls, which are few.
    """
    rows: list[Any] = []
    for query, key in ((_STORED, _STORED_KEY), (_UNREAD, _UNREAD_KEY)):
        _, location, call_id = key
        found = query
        if only is None:
            found = found.order_by(*(column.desc() for column in key)).limit(limit)
        else:  # looked up by their ids, in whatever order
            found = found.where(location.in_({each for each, _ in only}), call_id.in_({each for _, each in only}))
        if location_id is not None:
            found = found.where(location == location_id)
        if shown is not None:
            found = found.where(_which(shown, location, call_id))
        if after is not None:
            position = (sa.literal(after.first_heard_at, UtcDateTime), after.location_id, after.call_id)
            found = found.where(sa.tuple_(*key) < sa.tuple_(*position))
        rows += connection.execute(found).all()
    if only is not None:
        rows = [row for row in rows if (row.location_id, row.call_id) in set(only)]
    rows = sorted(rows, key=lambda row: (row.first_heard_at, row.location_id, row.call_id), reverse=True)[:limit]
    keys = [(row.location_id, row.call_id) for row in rows]
    actions, states = _action_types(connection, keys), _follow_up_states(connection, keys)
    return [
        ListedCall(**row._asdict(), action_types=actions[key], follow_ups=states[key])
        for row, key in zip(rows, keys, strict=True)
    ]


_c, _w = calls_table.c, work_table.c
_OF_THE_LOG = ("stored_at", "settled_at", "started_at", "duration_seconds", "from_number", "trial_call")
_ACCOUNT = (accounts_table.c.name, accounts_table.c.time_zone)
_STORED_KEY = (_c.first_heard_at, _c.location_id, _c.call_id)
_UNREAD_KEY = (_w.first_heard_at, _w.location_id, _w.subject)
_ITS_WORK = sa.and_(_w.kind == CALL.name, _w.location_id == _c.location_id, _w.subject == _c.call_id)
_STORED = (
    sa.select(
        *_STORED_KEY,
        sa.case((_w.kind.is_(None), COMPLETE), else_=STATUS).label("status"),
        _w.dead_cause,
        *(_c[name] for name in _OF_THE_LOG),
        *_ACCOUNT,
    )
    .select_from(calls_table)
    .outerjoin(work_table, _ITS_WORK)
    .outerjoin(accounts_table, accounts_table.c.location_id == _c.location_id)
)
_UNREAD = (
    sa.select(
        *_UNREAD_KEY[:2],
        _w.subject.label("call_id"),
        STATUS.label("status"),
        _w.dead_cause,
        *(sa.null().label(name) for name in _OF_THE_LOG),
        *_ACCOUNT,
    )
    .select_from(work_table)
    .outerjoin(accounts_table, accounts_table.c.location_id == _w.location_id)
    .where(
        _w.kind == CALL.name, _w.first_heard_at.is_not(None),
        ~sa.exists().where(_c.location_id == _w.location_id, _c.call_id == _w.subject),
    )
)  # fmt: skip
"""Calls whose log is not stored yet. Work keeps its request beside a stored log when it was requested meanwhile."""


def _which(shown: CallFilter, location: sa.Column[str], call_id: sa.Column[str]) -> sa.ColumnElement[bool]:
    match shown:
        case CallFilter.COMPLETE:
            return _w.kind.is_(None)
        case CallFilter.PENDING | CallFilter.RUNNING | CallFilter.DEAD:
            return _w.kind.is_not(None) & (sa.literal(str(shown), sa.Text) == STATUS)
        case CallFilter.FOLLOW_UP_OPEN:
            states = [FollowUpState.PENDING, FollowUpState.UNCLEAR]
        case CallFilter.FOLLOW_UP_UNCLEAR:
            states = [FollowUpState.UNCLEAR]
        case CallFilter.FOLLOW_UP_DEAD:
            states = [FollowUpState.DEAD]
    # Only those with work are looked at: they are few.
    owed = work_table.alias("owed")
    keys = (
        sa.select(follow_ups_table.c.location_id, follow_ups_table.c.call_id)
        .join(owed, owed.c.subject == follow_ups_table.c.follow_up_id)
        .where(owed.c.kind == FOLLOW_UP.name, follow_ups_table.c.status.in_(states))
    )
    return sa.tuple_(location, call_id).in_(keys)


Key = tuple[str, str]


def _action_types(connection: Connection, keys: Sequence[Key]) -> defaultdict[Key, list[str]]:
    found = defaultdict(list)
    for row in connection.execute(_of_calls(call_actions_table, keys).order_by(call_actions_table.c.position)):
        found[row.location_id, row.call_id].append(row.action_type)
    return found


def _follow_up_states(connection: Connection, keys: Sequence[Key]) -> defaultdict[Key, list[OwedState]]:
    found = defaultdict(list)
    running = (follow_ups_table.c.status == FollowUpState.PENDING) & sa.exists().where(
        _w.kind == FOLLOW_UP.name, _w.location_id == follow_ups_table.c.location_id,
        _w.subject == follow_ups_table.c.follow_up_id, IS_LEASED,
    )  # fmt: skip
    query = _of_calls(follow_ups_table, keys).add_columns(running.label("is_running"))
    for row in connection.execute(query.order_by(follow_ups_table.c.planned_at)):
        status = WorkStatus.RUNNING if row.is_running else row.status
        found[row.location_id, row.call_id].append(OwedState(row.kind, status, row.skip_reason))
    return found


def _of_calls(table: sa.Table, keys: Sequence[Key]) -> sa.Select[Any]:
    """Of these calls, and maybe of others with one of their ids: SQLite would read the whole table for a list of
    pairs."""
    location_ids, call_ids = {location_id for location_id, _ in keys}, {call_id for _, call_id in keys}
    return sa.select(table).where(table.c.location_id.in_(location_ids), table.c.call_id.in_(call_ids))
