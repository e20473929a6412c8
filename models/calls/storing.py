"""Storing readings of call logs, fetched or listed: the one way into `calls` and `call_actions`.

Readings are ordered by the fence of the claim that made them, not by a clock. The row lock of a call is the one under
which its actions are matched and its follow-ups planned.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import zone_named
from models.calls.action_matching import StoredAction, match_actions
from models.calls.call_log import YOUNG, Action, CallLog, Source
from models.calls.calls import OPTIONAL_PARTS, Call, actions_of, as_call, call_actions_table, calls_table, this_call
from models.database import moment, on_postgresql
from models.driver_rows import NOW, as_json, columns_of, rows_of_json, tuple_maker, value_of_json
from models.work.work_rows import Request


@dataclass(frozen=True)
class Reading:
    """A log that was read, and how the call became known, for the first storing of the call."""

    call_log: CallLog
    request: Request | None
    """None: the call is stored already."""
    told: CallLog | None = None
    """What Leadway signed about the call when it ended; it fills what the log lacks."""


@dataclass(frozen=True)
class ReadByClaim:
    """What one claim has read: a log, or a page of them."""

    location_id: str
    readings: Sequence[Reading]
    fence: int
    read_at: datetime
    """The database's time just before the request."""
    time_zone: str
    """The account's."""


@dataclass(frozen=True)
class Stored:
    """What is stored of a call after a reading."""

    call_log: CallLog
    """The stored log, if this reading is the newest one; else this reading."""
    keyed_actions: Sequence[tuple[str, Action]]
    first_heard_at: datetime
    stored_at: datetime
    """Of a new call the time of its reading, which was just before."""
    is_new: bool
    was_settled: bool
    settled: bool
    wants_follow_ups: bool
    is_newest: bool
    """Whether this reading was stored; else an earlier one that is newer stays."""


def store(connection: Connection, reads: Sequence[ReadByClaim]) -> list[dict[str, Stored]]:
    """Stores what claims have read; returns what is stored then, by call id, for each of them.

    A reading that is older than the stored one changes nothing. An absent or empty value never erases a stored one.
    Rows are written in the order of their keys, so that two who store the same calls wait for each other and never in a
    circle.
    """
    in_order = sorted(
        ((read, reading) for read in reads for reading in read.readings),
        key=lambda each: (each[0].location_id, each[1].call_log.call_id, each[0].fence),
    )
    new = _insert_new(connection, [each for each in in_order if each[1].request is not None])
    found: dict[int, dict[str, Stored]] = {id(read): {} for read in reads}
    for read, reading in in_order:
        call_id = reading.call_log.call_id
        stored = new.pop((read.location_id, call_id), None) or _bring_up_to_date(connection, read, reading)
        found[id(read)][call_id] = stored
    return [found[id(read)] for read in reads]


def _insert_new(
    connection: Connection, readings: Sequence[tuple[ReadByClaim, Reading]]
) -> dict[tuple[str, str], Stored]:
    """Inserts calls that have no row, in a few statements for all. A call that got a row meanwhile is left out."""
    if not readings:
        return {}
    rows: list[dict[str, Any]] = []
    found: dict[tuple[str, str], Stored] = {}
    for read, reading in readings:
        call_log, request, location_id = reading.call_log, reading.request, read.location_id
        if request is None:
            raise AssertionError("a new call tells how it became known")
        if (location_id, call_log.call_id) in found:
            continue  # two claims of one row: the second one brings up to date what the first one has stored
        common: dict[str, Any] = {"read_at": read.read_at, "reading_fence": read.fence}
        unread_for = common["read_at"] - (call_log.ended_at or common["read_at"])
        waited = unread_for if call_log.source is Source.LIST or not call_log.duration_seconds else timedelta()
        settled = call_log.is_settled_after(waited) and not _may_get_actions(call_log, read_at=common["read_at"])
        filled, told = _fill(call_log, reading.told, None)
        rows.append(
            {
                "location_id": location_id, "call_id": call_log.call_id, **_log_columns(filled, read.time_zone),
                **_provenance(call_log, None, told),
                "origin": request.origin, "wants_follow_ups": request.wants_follow_ups,
                "first_heard_at": request.first_heard_at, "announced_at": request.announced_at,
                "is_settled": settled, "read_from": call_log.source, **common,
            }
        )  # fmt: skip
        keyed = list(zip(match_actions((), call_log.actions), call_log.actions, strict=True))
        found[location_id, call_log.call_id] = Stored(
            filled, keyed, request.first_heard_at, read.read_at, is_new=True, was_settled=False, settled=settled,
            wants_follow_ups=request.wants_follow_ups, is_newest=True,
        )  # fmt: skip
    actions = {
        call: [_action_row(*call, key, position, action) for position, (key, action) in enumerate(stored.keyed_actions)]
        for call, stored in found.items()
    }
    inserted = _write_new(connection, rows, actions)
    return {call: found[call] for call in inserted}


def _write_new(
    connection: Connection,
    rows: Sequence[Mapping[str, Any]],
    actions: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
) -> set[tuple[str, str]]:
    """Returns the keys of the calls that had no row."""
    if on_postgresql(connection):
        parameters = (as_json(rows), as_json(chain.from_iterable(actions.values())))
        return {(*key,) for key in connection.exec_driver_sql(_WRITE_NEW_IN_POSTGRESQL, parameters)}
    written = [connection.exec_driver_sql(_WRITE_CALL_IN_SQLITE, _AS_CALL_TUPLE(row)).first() for row in rows]
    inserted = {(*key,) for key in written if key is not None}
    of_inserted = [_AS_ACTION_TUPLE(each) for call in sorted(inserted) for each in actions[call]]
    if of_inserted:
        connection.exec_driver_sql(_WRITE_ACTION_IN_SQLITE, of_inserted)
    return inserted


def _may_get_actions(call_log: CallLog, *, read_at: datetime) -> bool:
    """Whether this first log of a young call has its words and no actions yet: then it is fetched once more. A listed
    call is listed again anyway."""
    is_young = call_log.ended_at is not None and read_at - call_log.ended_at < YOUNG
    return call_log.source is Source.FETCH and is_young and not call_log.actions


def _bring_up_to_date(connection: Connection, read: ReadByClaim, reading: Reading) -> Stored:
    call_log, location_id = reading.call_log, read.location_id
    common: dict[str, Any] = {"read_at": read.read_at, "reading_fence": read.fence}
    this = {"this_location": location_id, "this_call": call_log.call_id}
    call = as_call(connection.execute(_LOCKED, this).one())
    if reading.request is not None:  # it was stored while this reading was under way: what was heard meanwhile counts
        call = _heard(connection, call, reading.request)
    before = [StoredAction(each.action_key, each.action) for each in actions_of(connection, location_id, call.call_id)]
    if call.reading_fence >= common["reading_fence"] or call.erased_at is not None:
        keyed = [(each.action_key, each.action) for each in before]
        return _stored(call, call_log, keyed, settled=call.settled_at is not None, is_newest=False)
    merged = _merge(_without_told(call), call_log)
    settled = merged.is_settled_after(common["read_at"] - call.stored_at)
    # Who asks for a call again that was read already knows of more than its log says: it is read while it may grow.
    asked_again = call.settled_at is not None and call.read_from is Source.FETCH
    age = common["read_at"] - (merged.ended_at or call.stored_at)
    may_grow = asked_again and not call_log.actions and not before and age < YOUNG
    filled, told = _fill(merged, reading.told, call)
    values = {
        **_log_columns(filled, read.time_zone), **_provenance(call_log, call, told), "read_from": call_log.source,
        "settled_at": (call.settled_at or moment()) if settled else None, "emptied_at": None, **common,
    }  # fmt: skip
    connection.execute(sa.update(calls_table).where(this_call).values(values), this)
    keyed = _save_actions(connection, location_id, call_log, before)
    return _stored(call, filled, keyed, settled=settled and not may_grow, is_newest=True)


def _heard(connection: Connection, call: Call, request: Request) -> Call:
    announced_at = call.announced_at or request.announced_at
    heard = replace(call, announced_at=announced_at, wants_follow_ups=call.wants_follow_ups or request.wants_follow_ups)
    if heard != call:
        values = {"announced_at": announced_at, "wants_follow_ups": heard.wants_follow_ups}
        this = {"this_location": call.location_id, "this_call": call.call_id}
        connection.execute(sa.update(calls_table).where(this_call).values(values), this)
    return heard


def _stored(
    call: Call, call_log: CallLog, keyed: Sequence[tuple[str, Action]], *, settled: bool, is_newest: bool
) -> Stored:
    return Stored(
        call_log, keyed, call.first_heard_at, call.stored_at, is_new=False, was_settled=call.settled_at is not None,
        settled=settled, wants_follow_ups=call.wants_follow_ups, is_newest=is_newest,
    )  # fmt: skip


def _write_new_in_postgresql() -> str:
    """New calls and their actions, a parameter each. Returns the keys of the calls that had no row."""
    of_calls, of_actions = {**_CALL_COLUMNS, "is_settled": sa.Boolean()}, _ACTION_COLUMNS
    now_if_settled = f"CASE WHEN rows.is_settled THEN {NOW['postgresql']} END"
    special = {"stored_at": NOW["postgresql"], "settled_at": now_if_settled}
    values = ", ".join(special.get(name) or value_of_json(of_calls, name) for name in _CALL_COLUMNS)
    values_of_actions = ", ".join(value_of_json(of_actions, name) for name in of_actions)
    return (
        f"WITH new AS (INSERT INTO calls ({', '.join(_CALL_COLUMNS)}) SELECT {values}"  # noqa: S608 - names of our own
        f" FROM {rows_of_json(of_calls)} ON CONFLICT DO NOTHING RETURNING location_id, call_id),"
        f" their_actions AS (INSERT INTO call_actions ({', '.join(of_actions)}) SELECT {values_of_actions}"
        f" FROM {rows_of_json(of_actions)} JOIN new USING (location_id, call_id))"
        " SELECT location_id, call_id FROM new"
    )


def _write_call_in_sqlite() -> str:
    special = {"stored_at": NOW["sqlite"], "settled_at": f"CASE WHEN ? THEN {NOW['sqlite']} END"}
    values = ", ".join(special.get(name, "?") for name in _CALL_COLUMNS)
    return (
        f"INSERT INTO calls ({', '.join(_CALL_COLUMNS)}) VALUES ({values})"  # noqa: S608
        " ON CONFLICT DO NOTHING RETURNING location_id, call_id"
    )


_CALL_COLUMNS, _ACTION_COLUMNS = columns_of(calls_table), columns_of(call_actions_table)
_BOUND_IN_SQLITE = dict(
    ("is_settled", sa.Boolean()) if name == "settled_at" else (name, type_)
    for name, type_ in _CALL_COLUMNS.items()
    if name != "stored_at"
)
_AS_CALL_TUPLE, _AS_ACTION_TUPLE = tuple_maker(_BOUND_IN_SQLITE), tuple_maker(_ACTION_COLUMNS)
_WRITE_NEW_IN_POSTGRESQL = _write_new_in_postgresql()
_WRITE_CALL_IN_SQLITE = _write_call_in_sqlite()
_WRITE_ACTION_IN_SQLITE = (
    f"INSERT INTO call_actions ({', '.join(_ACTION_COLUMNS)})"  # noqa: S608
    f" VALUES ({', '.join('?' * len(_ACTION_COLUMNS))})"
)
_INSERT_ACTIONS = sa.insert(call_actions_table)
_LOCKED = sa.select(calls_table).where(this_call).with_for_update()  # SQLite has one writer, and no such clause


def _merge(call: Call, call_log: CallLog) -> CallLog:
    """The reading, with what it lacks taken from the stored log."""
    stored = call.call_log
    kept = {
        name: getattr(stored, name)
        for name in CallLog.__dataclass_fields__
        if name not in ("actions", "unknown_fields", "unread_fields", "zoneless_times", "is_partial")
        and getattr(call_log, name) in (None, "", {})
    }
    document = {**stored.document, **call_log.document} if call_log.source is Source.LIST else call_log.document
    # False may mean that the document did not say, and a trial call stays one.
    trial_call = call_log.trial_call or stored.trial_call
    return replace(call_log, **{**kept, "document": document or stored.document, "trial_call": trial_call})


def _without_told(call: Call) -> Call:
    """The row without what only a notification told: whether the log is settled shows in the log."""
    told: dict[str, Any] = {
        name: None for name, column in OPTIONAL_PARTS.items() if getattr(call, column) is Source.NOTIFICATION
    }
    return replace(call, **told)


def _fill(call_log: CallLog, told: CallLog | None, call: Call | None) -> tuple[CallLog, frozenset[str]]:
    """The log with the parts that only a notification has told, now or when the call was stored; and their names."""
    values: dict[str, Any] = {}
    for name, column in OPTIONAL_PARTS.items():
        if not _is_empty(getattr(call_log, name)):
            continue
        value = None if told is None else getattr(told, name)
        if _is_empty(value) and call is not None and getattr(call, column) is Source.NOTIFICATION:
            value = getattr(call, name)
        if not _is_empty(value):
            values[name] = value
    return replace(call_log, **values), frozenset(values)


def log_columns(call_log: CallLog) -> dict[str, Any]:
    """The columns of `calls` that a log fills, but for the local time."""
    return {
        "started_at": call_log.started_at,
        "duration_seconds": call_log.duration_seconds,
        "direction": call_log.direction,
        "call_status": call_log.call_status,
        "call_type": call_log.call_type,
        "contact_id": call_log.contact_id,
        "from_number": call_log.from_number,
        "to_number": call_log.to_number,
        "agent_id": call_log.agent_id,
        "agent_name": call_log.agent_name,
        "agent_deleted": call_log.agent_deleted,
        "agent_handoff": call_log.agent_handoff,
        "workflow_name": call_log.workflow_name,
        "message_id": call_log.message_id,
        "trial_call": call_log.trial_call,
        "summary": call_log.summary or None,
        "transcript": call_log.transcript or None,
        "translation": call_log.translation,
        "extracted_data": call_log.extracted_data,
        "document": call_log.document,
    }


def _log_columns(call_log: CallLog, time_zone: str) -> dict[str, Any]:
    local = None if call_log.started_at is None else call_log.started_at.astimezone(zone_named(time_zone))
    return {
        **log_columns(call_log), "local_day": local and local.date(), "local_hour": local and local.hour,
    }  # fmt: skip


def _provenance(call_log: CallLog, call: Call | None, told: Collection[str]) -> dict[str, Source | None]:
    """Where the optional parts come from: this reading, an earlier one whose value stays, or a notification. A reading
    that carries a part without a value makes it known to be absent; a list row carries no extracted data."""
    source = call_log.source
    found: dict[str, Source | None] = {
        "actions_from": source if call is None or call_log.actions else call.actions_from
    }
    for name, column in OPTIONAL_PARTS.items():
        before = None if call is None else getattr(call, column)
        stays = before is not None and _is_empty(getattr(call_log, name)) and not _is_empty(getattr(call, name))
        carried = name != "extracted_data" or source is Source.FETCH or not _is_empty(call_log.extracted_data)
        if name in told:
            found[column] = Source.NOTIFICATION
        else:
            found[column] = before if stays or not carried else source
    return found


def _save_actions(
    connection: Connection, location_id: str, call_log: CallLog, before: Sequence[StoredAction]
) -> list[tuple[str, Action]]:
    """Writes the reading's actions; returns every action of the call with its key, this reading's first."""
    matched = match_actions(before, call_log.actions)
    known = {each.action_key for each in before}
    rows = [
        _action_row(location_id, call_log.call_id, key, position, action)
        for position, (key, action) in enumerate(zip(matched, call_log.actions, strict=True))
    ]
    new = [row for row in rows if row["action_key"] not in known]
    if new:
        connection.execute(_INSERT_ACTIONS, new)
    for row in rows:
        if row["action_key"] in known:
            filled = {name: value for name, value in row.items() if name not in _ACTION_KEY and not _is_empty(value)}
            connection.execute(sa.update(call_actions_table).where(_this_action(row)).values(filled))
    still_there = list(zip(matched, call_log.actions, strict=True))
    gone = [(each.action_key, each.action) for each in before if each.action_key not in matched]
    for position, (key, _) in enumerate(gone, start=len(rows)):  # behind the actions that this reading has
        this = _this_action({"location_id": location_id, "call_id": call_log.call_id, "action_key": key})
        connection.execute(sa.update(call_actions_table).where(this).values(position=position))
    return still_there + gone


_ACTION_KEY = ("location_id", "call_id", "action_key")


def _this_action(row: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(*(call_actions_table.c[name] == row[name] for name in _ACTION_KEY))


def _action_row(location_id: str, call_id: str, key: str, position: int, action: Action) -> dict[str, Any]:
    return {
        "location_id": location_id,
        "call_id": call_id,
        "action_key": key,
        "position": position,
        "action_id": action.action_id,
        "action_type": action.action_type,
        "action_name": action.name,
        "parameters": dict(action.parameters),
        "executed_at": action.executed_at,
        "trigger_received_at": action.trigger_received_at,
    }


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value == {}
