"""The list of calls for people, newest first, page by page: each call with its actions and its follow-ups.

A page looks through LOOKED_THROUGH calls at most, whatever is asked for and however far back it is: with a filter that
fits few calls it may be short, or empty, and still have a next page (docs/decisions/0103).
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table
from models.calls.calls import CALL, call_actions_table, calls_table
from models.database import UtcDateTime
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
from models.reports.call_filter import COMPLETE, EVERYTHING, CallFilter, CallState, of_place, of_state, of_stored
from models.work.work_rows import IS_LEASED, STATUS, WorkStatus, work_table

LOOKED_THROUGH = 5_000
"""Calls, for one page of a filter that no index answers."""

Key = tuple[str, str]


@dataclass(frozen=True)
class Cursor:
    """The position of a call in the list. The next page begins after the cursor of a page's last call."""

    first_heard_at: datetime
    location_id: str
    call_id: str

    def __str__(self) -> str:
        """As it stands in a page's URL and in a command's --after."""
        return f"{self.first_heard_at.isoformat()}~{self.location_id}~{self.call_id}"

    @classmethod
    def read(cls, text: str) -> Self | None:
        """None for text that is no cursor: nobody writes one by hand."""
        when, _, rest = text.partition("~")
        location_id, _, call_id = rest.partition("~")
        try:
            first_heard_at = datetime.fromisoformat(when)
        except ValueError:
            return None
        return cls(first_heard_at, location_id, call_id) if first_heard_at.tzinfo and call_id else None


@dataclass(frozen=True)
class OwedState:
    """How a follow-up stands: by its own status; a pending one is running while a worker has it."""

    follow_up_id: str
    kind: str
    rule_id: str
    status: str
    skip_reason: str | None
    dead_cause: str | None
    last_error: str | None
    due_at: datetime | None
    """None: nothing happens by itself, because it is done, skipped, dead, or a person has to look."""
    planned_at: datetime
    done_at: datetime | None
    remote_id: str | None

    @property
    def own_status(self) -> FollowUpState:
        """Whether or not a worker has it now."""
        return FollowUpState.PENDING if self.status == WorkStatus.RUNNING else FollowUpState(self.status)


@dataclass(frozen=True)
class ListedCall:
    """A call with its account's name and time zone, the types of its actions, and its follow-ups. The repr contains no
    person's words."""

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
    direction: str | None
    from_number: str | None = field(repr=False)
    contact_id: str | None
    agent_id: str | None
    agent_name: str | None
    trial_call: bool | None
    summary: str | None = field(repr=False)
    name: str | None
    time_zone: str | None
    action_types: Sequence[str]
    follow_ups: Sequence[OwedState]

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.first_heard_at, self.location_id, self.call_id)

    @property
    def key(self) -> Key:
        return self.location_id, self.call_id


@dataclass(frozen=True)
class CallPage:
    """Some calls of the list, newest first. `following`: after which call the next page begins; None: this is the last
    page. It may be a call that the filter left out."""

    calls: Sequence[ListedCall]
    following: Cursor | None


def newest(
    connection: Connection, wanted: CallFilter = EVERYTHING, *, limit: int, after: Cursor | None = None
) -> CallPage:
    """At most `limit` calls by when they became known, newest first; those after the cursor `after` if it is given."""
    floor = _floor(connection, wanted, after) if wanted.looks_at_each_call else None
    rows = _rows(connection, wanted, limit=limit + 1, after=after, floor=floor)
    if len(rows) > limit:
        listed = _listed(connection, rows[:limit])
        return CallPage(listed, listed[-1].cursor)
    return CallPage(_listed(connection, rows), floor)


def read_on(connection: Connection, wanted: CallFilter, *, limit: int, after: Cursor | None = None) -> CallPage:
    """As `newest`, but goes on until there are `limit` calls, however many are looked through: for who can wait."""
    found: list[ListedCall] = []
    while True:
        page = newest(connection, wanted, limit=limit - len(found), after=after)
        found, after = [*found, *page.calls], page.following
        if after is None or len(found) == limit:
            return CallPage(found, after)


def these(connection: Connection, keys: Sequence[Key], wanted: CallFilter = EVERYTHING) -> list[ListedCall]:
    """Of these calls, which are few, those that are wanted, newest first."""
    rows = [row for row in _rows(connection, wanted, only=keys) if (row.location_id, row.call_id) in set(keys)]
    return _listed(connection, rows)


def _floor(connection: Connection, wanted: CallFilter, after: Cursor | None) -> Cursor | None:
    """The last call that the page looks at; None: it may look at all that are left. Read from an index alone."""
    query = sa.select(*_STORED_KEY).where(*of_place(wanted, _STORED_KEY[:2]))
    if after is not None:
        query = query.where(_comes_after(_STORED_KEY, after, wanted))
    query = query.order_by(*(column.desc() for column in _STORED_KEY)).offset(LOOKED_THROUGH - 1).limit(1)
    row = connection.execute(query).first()
    return None if row is None else Cursor(*row)


def _rows(
    connection: Connection,
    wanted: CallFilter,
    *,
    limit: int | None = None,
    after: Cursor | None = None,
    floor: Cursor | None = None,
    only: Sequence[Key] | None = None,
) -> list[Any]:
    """`limit` None: all of them."""
    parts = [(_STORED.where(*of_stored(wanted)), _STORED_KEY)]
    if not wanted.asks_the_log and wanted.state is not CallState.COMPLETE:
        parts.append((_UNREAD.where(*of_state(wanted)), _UNREAD_KEY))
    rows: list[Any] = []
    for query, key in parts:
        _, location, call_id = key
        found = query.where(*of_place(wanted, key[:2]))
        if after is not None:
            found = found.where(_comes_after(key, after, wanted))
        if floor is not None:
            found = found.where(_comes_until(key, floor, wanted))
        if only is not None:  # looked up by their ids, in whatever order
            found = found.where(location.in_({each for each, _ in only}), call_id.in_({each for _, each in only}))
        elif wanted.is_by_work:
            # Read as a whole before it is sorted: to find a few of many, the database must not walk the newest first.
            few = found.cte("few").prefix_with("MATERIALIZED")
            found = sa.select(few).order_by(*(few.c[name].desc() for name in Cursor.__dataclass_fields__)).limit(limit)
        else:
            found = found.order_by(*(column.desc() for column in key)).limit(limit)
        rows += connection.execute(found).all()
    return sorted(rows, key=lambda row: (row.first_heard_at, row.location_id, row.call_id), reverse=True)[:limit]


def _comes_after(key: tuple[Any, Any, Any], cursor: Cursor, wanted: CallFilter) -> sa.ColumnElement[bool]:
    """Whether a call comes after the cursor in the list. Of one account in the order of the account's own index.

    Says of the time alone too what follows from the rest: PostgreSQL does not see that two comparisons of rows are a
    small range, and would read the whole table.
    """
    heard, position = key[0], sa.literal(cursor.first_heard_at, UtcDateTime)
    return sa.and_(heard <= position, _in_order(key, wanted) < _position(cursor, wanted))


def _comes_until(key: tuple[Any, Any, Any], cursor: Cursor, wanted: CallFilter) -> sa.ColumnElement[bool]:
    """Whether a call is the cursor's, or comes before it in the list."""
    heard, position = key[0], sa.literal(cursor.first_heard_at, UtcDateTime)
    return sa.and_(heard >= position, _in_order(key, wanted) >= _position(cursor, wanted))


def _in_order(key: tuple[Any, Any, Any], wanted: CallFilter) -> Any:
    return sa.tuple_(*key) if wanted.location_id is None else sa.tuple_(key[0], key[2])


def _position(cursor: Cursor, wanted: CallFilter) -> Any:
    heard = sa.literal(cursor.first_heard_at, UtcDateTime)
    if wanted.location_id is None:
        return sa.tuple_(heard, cursor.location_id, cursor.call_id)
    return sa.tuple_(heard, cursor.call_id)


def _listed(connection: Connection, rows: Sequence[Any]) -> list[ListedCall]:
    keys = [(row.location_id, row.call_id) for row in rows]
    actions, states = _action_types(connection, keys), _follow_up_states(connection, keys)
    return [
        ListedCall(**row._asdict(), action_types=actions[key], follow_ups=states[key])
        for row, key in zip(rows, keys, strict=True)
    ]


_c, _w = calls_table.c, work_table.c
_OF_THE_LOG = (
    "stored_at", "settled_at", "started_at", "duration_seconds", "direction", "from_number", "contact_id", "agent_id",
    "agent_name", "trial_call", "summary",
)  # fmt: skip
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


def _action_types(connection: Connection, keys: Sequence[Key]) -> defaultdict[Key, list[str]]:
    found = defaultdict(list)
    for row in connection.execute(_of_calls(call_actions_table, keys).order_by(call_actions_table.c.position)):
        found[row.location_id, row.call_id].append(row.action_type)
    return found


def _follow_up_states(connection: Connection, keys: Sequence[Key]) -> defaultdict[Key, list[OwedState]]:
    found = defaultdict(list)
    f = follow_ups_table.c
    its_work = sa.and_(_w.kind == FOLLOW_UP.name, _w.location_id == f.location_id, _w.subject == f.follow_up_id)
    query = _of_calls(follow_ups_table, keys).outerjoin(work_table, its_work)
    query = query.add_columns(IS_LEASED.label("is_leased"), _w.dead_cause, _w.last_error, _w.due_at)
    for row in connection.execute(query.order_by(f.planned_at, f.follow_up_id)):
        is_running = row.is_leased and row.status == FollowUpState.PENDING
        told = {name: getattr(row, name) for name in OwedState.__dataclass_fields__}
        status = WorkStatus.RUNNING if is_running else row.status
        found[row.location_id, row.call_id].append(OwedState(**{**told, "status": status}))
    return found


def _of_calls(table: sa.Table, keys: Sequence[Key]) -> sa.Select[Any]:
    """Of these calls, and maybe of others with one of their ids: SQLite would read the whole table for a list of
    pairs."""
    location_ids, call_ids = {location_id for location_id, _ in keys}, {call_id for _, call_id in keys}
    return sa.select(table).where(table.c.location_id.in_(location_ids), table.c.call_id.in_(call_ids))
