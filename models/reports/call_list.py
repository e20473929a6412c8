"""The list of calls for people, newest first, page by page: each call with its actions and its follow-ups' states."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table
from models.calls.calls import call_actions_table, calls_table
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
    call: sa.RowMapping
    """The short columns of `calls`, and the account's `name` and `time_zone`."""
    action_types: Sequence[str]
    follow_ups: Sequence[FollowUpState]

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.call["created_at"], self.call["location_id"], self.call["call_id"])


def newest(
    connection: Connection,
    *,
    limit: int,
    location_id: str | None = None,
    shown: CallFilter | None = None,
    after: Cursor | None = None,
) -> list[ListedCall]:
    """At most `limit` calls by when they became known, newest first; those after the cursor `after` if it is given."""
    query = (
        sa.select(*(calls_table.c[name] for name in _SHORT), accounts_table.c.name, accounts_table.c.time_zone)
        .outerjoin(accounts_table, accounts_table.c.location_id == calls_table.c.location_id)
        .order_by(calls_table.c.created_at.desc(), calls_table.c.location_id.desc(), calls_table.c.call_id.desc())
        .limit(limit)
    )
    if location_id is not None:
        query = query.where(calls_table.c.location_id == location_id)
    if shown is not None:
        query = query.where(_which(shown))
    if after is not None:
        query = query.where(sa.or_(calls_table.c.created_at < after.created_at, _comes_after_at_same_time(after)))
    rows = [row._mapping for row in connection.execute(query)]
    actions, states = _action_types(connection, rows), _follow_up_states(connection, rows)
    return [ListedCall(row, actions.get(_key(row), ()), states.get(_key(row), ())) for row in rows]


_SHORT = (
    "location_id", "call_id", "status", "created_at", "stored_at", "settled_at", "started_at", "duration_seconds",
    "from_number", "trial_call", "dead_cause", "next_attempt_at", "origin",
)  # fmt: skip


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


def _comes_after_at_same_time(after: Cursor) -> sa.ColumnElement[bool]:
    same_account = sa.and_(calls_table.c.location_id == after.location_id, calls_table.c.call_id < after.call_id)
    return sa.and_(
        calls_table.c.created_at == after.created_at,
        sa.or_(calls_table.c.location_id < after.location_id, same_account),
    )


Key = tuple[str, str]


def _action_types(connection: Connection, rows: Sequence[sa.RowMapping]) -> Mapping[Key, Sequence[str]]:
    found: dict[Key, list[str]] = {}
    query = (
        sa.select(call_actions_table).where(_of_calls(call_actions_table, rows)).order_by(call_actions_table.c.position)
    )
    for action in connection.execute(query):
        found.setdefault(_key(action._mapping), []).append(action.action_type)
    return found


def _follow_up_states(connection: Connection, rows: Sequence[sa.RowMapping]) -> Mapping[Key, Sequence[FollowUpState]]:
    found: dict[Key, list[FollowUpState]] = {}
    query = sa.select(follow_ups_table).where(_of_calls(follow_ups_table, rows)).order_by(follow_ups_table.c.planned_at)
    for row in connection.execute(query):
        found.setdefault(_key(row._mapping), []).append(FollowUpState(row.kind, row.status, row.skip_reason))
    return found


def _of_calls(table: sa.Table, rows: Sequence[sa.RowMapping]) -> sa.ColumnElement[bool]:
    return sa.tuple_(table.c.location_id, table.c.call_id).in_([_key(row) for row in rows])


def _key(row: sa.RowMapping) -> Key:
    return row["location_id"], row["call_id"]
