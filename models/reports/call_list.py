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
from models.calls.calls import call_actions_table, calls_table
from models.database import UtcDateTime
from models.follow_ups.follow_ups import follow_ups_table
from models.work.work_rows import NOT_DONE, OPEN, WorkStatus


class CallFilter(StrEnum):
    """Which calls to list: by their own status, or by that of a follow-up."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    DEAD = "dead"
    FOLLOW_UP_OPEN = "follow-up-open"
    FOLLOW_UP_UNCLEAR = "follow-up-unclear"
    FOLLOW_UP_DEAD = "follow-up-dead"


@dataclass(frozen=True)
class Cursor:
    """The position of a call in the list. The next page begins after the cursor of a page's last call."""

    created_at: datetime
    location_id: str
    call_id: str


@dataclass(frozen=True)
class FollowUpState:
    kind: str
    status: str
    skip_reason: str | None


@dataclass(frozen=True)
class ListedCall:
    """Columns of `calls` and `accounts`, the types of the call's actions, the states of its follow-ups."""

    location_id: str
    call_id: str
    status: str
    created_at: datetime
    stored_at: datetime | None
    started_at: datetime | None
    duration_seconds: float | None
    from_number: str | None
    trial_call: bool | None
    dead_cause: str | None
    name: str | None
    """The account's, as is the time zone."""
    time_zone: str | None
    action_types: Sequence[str]
    follow_ups: Sequence[FollowUpState]

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.created_at, self.location_id, self.call_id)


def newest(
    connection: Connection,
    *,
    limit: int,
    location_id: str | None = None,
    shown: CallFilter | None = None,
    after: Cursor | None = None,
) -> list[ListedCall]:
    """At most `limit` calls by when they became known, newest first; those after the cursor `after` if it is given."""
    query = _NEWEST.limit(limit)
    if location_id is not None:
        query = query.where(calls_table.c.location_id == location_id)
    if shown is not None:
        query = query.where(_which(shown))
    if after is not None:
        position = (sa.literal(after.created_at, UtcDateTime), after.location_id, after.call_id)
        query = query.where(sa.tuple_(*_POSITION) < sa.tuple_(*position))
    rows = connection.execute(query).all()
    keys = [(row.location_id, row.call_id) for row in rows]
    actions, states = _action_types(connection, keys), _follow_up_states(connection, keys)
    return [
        ListedCall(**row._asdict(), action_types=actions[key], follow_ups=states[key])
        for row, key in zip(rows, keys, strict=True)
    ]


_SHORT = (
    "location_id", "call_id", "status", "created_at", "stored_at", "started_at", "duration_seconds", "from_number",
    "trial_call", "dead_cause",
)  # fmt: skip
_POSITION = (calls_table.c.created_at, calls_table.c.location_id, calls_table.c.call_id)
_NEWEST = (
    sa.select(*(calls_table.c[name] for name in _SHORT), accounts_table.c.name, accounts_table.c.time_zone)
    .outerjoin(accounts_table, accounts_table.c.location_id == calls_table.c.location_id)
    .order_by(*(column.desc() for column in _POSITION))
)


def _which(shown: CallFilter) -> sa.ColumnElement[bool]:
    match shown:
        case CallFilter.DONE:
            return calls_table.c.status == WorkStatus.DONE
        case CallFilter.PENDING | CallFilter.RUNNING | CallFilter.DEAD:
            return sa.and_(calls_table.c.status == str(shown), NOT_DONE)
        case CallFilter.FOLLOW_UP_OPEN:
            return _has_follow_up(OPEN)
        case CallFilter.FOLLOW_UP_UNCLEAR:
            return _has_follow_up((WorkStatus.UNCLEAR,))
        case CallFilter.FOLLOW_UP_DEAD:
            return _has_follow_up((WorkStatus.DEAD,))


def _has_follow_up(statuses: Sequence[WorkStatus]) -> sa.ColumnElement[bool]:
    """Looks only among follow-ups that are not done: they are few and have an index of their own."""
    keys = sa.select(follow_ups_table.c.location_id, follow_ups_table.c.call_id).where(
        follow_ups_table.c.status.in_(statuses), NOT_DONE
    )
    return sa.tuple_(calls_table.c.location_id, calls_table.c.call_id).in_(keys)


Key = tuple[str, str]


def _action_types(connection: Connection, keys: Sequence[Key]) -> defaultdict[Key, list[str]]:
    found = defaultdict(list)
    for row in connection.execute(_of_calls(call_actions_table, keys).order_by(call_actions_table.c.position)):
        found[row.location_id, row.call_id].append(row.action_type)
    return found


def _follow_up_states(connection: Connection, keys: Sequence[Key]) -> defaultdict[Key, list[FollowUpState]]:
    found = defaultdict(list)
    for row in connection.execute(_of_calls(follow_ups_table, keys).order_by(follow_ups_table.c.planned_at)):
        found[row.location_id, row.call_id].append(FollowUpState(row.kind, row.status, row.skip_reason))
    return found


def _of_calls(table: sa.Table, keys: Sequence[Key]) -> sa.Select[Any]:
    return sa.select(table).where(sa.tuple_(table.c.location_id, table.c.call_id).in_(keys))
