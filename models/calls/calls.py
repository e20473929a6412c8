"""Calls and their actions: announced by a notification or a listing, stored when a reading of their log arrives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.action_matching import StoredAction, match_actions
from models.calls.call_log import Action, CallLog, Source
from models.database import Json, UtcDateTime, columns_of, earlier_of, insert, metadata, moment
from models.work import lifecycle
from models.work.work_rows import NEVER_TRIED, NOT_DONE, POISON, Lane, WorkKind, WorkStatus, schedule_columns


class Origin(StrEnum):
    """What made a call known to us first."""

    NOTIFICATION = "notification"
    RECONCILE = "reconcile"
    BACKFILL = "backfill"


calls_table = sa.Table(
    "calls",
    metadata,
    sa.Column("location_id", sa.Text, primary_key=True),
    sa.Column("call_id", sa.Text, primary_key=True, comment="Leadway's"),
    *schedule_columns(),
    sa.Column("origin", sa.Text, nullable=False, comment="what made it known: notification, reconcile, backfill"),
    sa.Column("plans_follow_ups", sa.Boolean, nullable=False, default=True),
    sa.Column("created_at", UtcDateTime, nullable=False, comment="when we first heard of it"),
    sa.Column("announced_at", UtcDateTime, nullable=True, comment="when its notification came; null: none came"),
    sa.Column("stored_at", UtcDateTime, nullable=True, comment="when its log was first stored"),
    sa.Column("settled_at", UtcDateTime, nullable=True, comment="when its log was settled"),
    sa.Column("read_at", UtcDateTime, nullable=True, comment="just before the request that brought the stored log"),
    sa.Column("read_from", sa.Text, nullable=True, comment="fetch or list"),
    sa.Column("started_at", UtcDateTime, nullable=True, comment="Leadway's createdAt"),
    sa.Column("duration_seconds", sa.Float, nullable=True),
    sa.Column("agent_id", sa.Text, nullable=True),
    sa.Column("agent_deleted", sa.Boolean, nullable=True),
    sa.Column("contact_id", sa.Text, nullable=True),
    sa.Column("message_id", sa.Text, nullable=True),
    sa.Column("from_number", sa.Text, nullable=True),
    sa.Column("trial_call", sa.Boolean, nullable=True),
    sa.Column("transferred", sa.Boolean, nullable=True, comment="agentTransferOccurred"),
    sa.Column("summary", sa.Text, nullable=True),
    sa.Column("transcript", sa.Text, nullable=True),
    sa.Column("translation", Json, nullable=True),
    sa.Column("extracted_data", Json, nullable=True),
    sa.Column("document", Json, nullable=True, comment="the whole log as it came, secrets replaced"),
    sa.Index("ix_calls_started_at", "location_id", "started_at"),
    sa.Index("ix_calls_contact_id", "location_id", "contact_id"),
    sa.Index("ix_calls_created_at", "created_at", "location_id", "call_id"),
    sa.Index("ix_calls_location_id_created_at", "location_id", "created_at", "call_id"),
)
_HAS_DUE_TIME = calls_table.c.next_attempt_at.is_not(None)
_IS_IN_FLIGHT = sa.or_(calls_table.c.enqueued_at.is_not(None), calls_table.c.lease_until.is_not(None))
sa.Index(
    "ix_calls_due", calls_table.c.location_id, calls_table.c.lane, calls_table.c.next_attempt_at,
    postgresql_where=_HAS_DUE_TIME, sqlite_where=_HAS_DUE_TIME,
)  # fmt: skip
sa.Index("ix_calls_in_flight", calls_table.c.location_id, postgresql_where=_IS_IN_FLIGHT, sqlite_where=_IS_IN_FLIGHT)
sa.Index(
    "ix_calls_not_done", calls_table.c.location_id, calls_table.c.status, postgresql_where=NOT_DONE,
    sqlite_where=NOT_DONE,
)  # fmt: skip

call_actions_table = sa.Table(
    "call_actions",
    metadata,
    sa.Column("location_id", sa.Text, primary_key=True),
    sa.Column("call_id", sa.Text, primary_key=True),
    sa.Column("action_key", sa.Text, primary_key=True, comment="ours; given once, never changed"),
    sa.Column("position", sa.Integer, nullable=False, comment="in the log's list, from 0"),
    sa.Column("action_id", sa.Text, nullable=True, comment="Leadway's; may repeat"),
    sa.Column("action_type", sa.Text, nullable=False),
    sa.Column("action_name", sa.Text, nullable=False),
    sa.Column("parameters", Json, nullable=False),
    sa.Column("executed_at", UtcDateTime, nullable=True),
    sa.Column("trigger_received_at", UtcDateTime, nullable=True),
    sa.ForeignKeyConstraint(["location_id", "call_id"], ["calls.location_id", "calls.call_id"], ondelete="CASCADE"),
    sa.Index("ix_call_actions_action_type", "action_type"),
)


@dataclass(frozen=True)
class Call:
    """A row of `calls`."""

    location_id: str
    call_id: str
    status: str
    lane: int
    next_attempt_at: datetime | None
    attempts: int
    failures: int
    fence: int
    lease_until: datetime | None
    lost_leases: int
    lost_isolated: int
    isolated: bool
    requested: int
    replayed: bool
    claimed_at: datetime | None
    running_on: str | None
    enqueued_at: datetime | None
    enqueued_epoch: str | None
    last_error: str | None
    dead_cause: str | None
    origin: str
    plans_follow_ups: bool
    created_at: datetime
    announced_at: datetime | None
    stored_at: datetime | None
    settled_at: datetime | None
    read_at: datetime | None
    read_from: str | None
    started_at: datetime | None
    duration_seconds: float | None
    agent_id: str | None
    agent_deleted: bool | None
    contact_id: str | None
    message_id: str | None
    from_number: str | None
    trial_call: bool | None
    transferred: bool | None
    summary: str | None
    transcript: str | None
    translation: Mapping[str, Any] | None
    extracted_data: Mapping[str, Any] | None
    document: Mapping[str, Any] | None


@dataclass(frozen=True)
class CallAction:
    """A row of `call_actions`."""

    location_id: str
    call_id: str
    action_key: str
    position: int
    action_id: str | None
    action_type: str
    action_name: str
    parameters: Mapping[str, Any]
    executed_at: datetime | None
    trigger_received_at: datetime | None


ACTION_KEY = ("location_id", "call_id", "action_key")
CALL = WorkKind("call", calls_table, ("location_id", "call_id"))


def announce(
    connection: Connection,
    location_id: str,
    call_id: str,
    *,
    origin: Origin = Origin.NOTIFICATION,
    lane: Lane = Lane.LIVE,
    plans_follow_ups: bool = True,
) -> bool:
    """Makes the call known and due. Returns True when it is new. Of a call that is known already:

    - unsettled: its next reading is brought forward, and a reading that is running now is repeated;
    - dead, but not of poison: it is revived;
    - settled: nothing changes, unless it was stored without follow-ups that are wanted now: then it is read again.
    """
    notified = origin is Origin.NOTIFICATION
    statement = (
        insert(connection, calls_table)
        .values(
            location_id=location_id, call_id=call_id, status=WorkStatus.PENDING, lane=lane, next_attempt_at=moment(),
            **NEVER_TRIED, requested=1, origin=origin, plans_follow_ups=plans_follow_ups, created_at=moment(),
            announced_at=moment() if notified else None,
        )
        .on_conflict_do_nothing()
        .returning(calls_table.c.call_id)
    )  # fmt: skip
    if connection.execute(statement).first() is not None:
        return True
    _announce_again(connection, location_id, call_id, lane=lane, notified=notified, plans_follow_ups=plans_follow_ups)
    return False


def _announce_again(
    connection: Connection, location_id: str, call_id: str, *, lane: Lane, notified: bool, plans_follow_ups: bool
) -> None:
    this = CALL.matches((location_id, call_id))
    if notified:
        first_notice = (
            sa.update(calls_table).where(this, calls_table.c.announced_at.is_(None)).values(announced_at=moment())
        )
        connection.execute(first_notice)
    if plans_follow_ups:
        owed_nothing = sa.and_(this, calls_table.c.plans_follow_ups.is_(False))
        connection.execute(  # stored by a backfill, for which no follow-ups were planned; now they are
            sa.update(calls_table)
            .where(owed_nothing, calls_table.c.status == WorkStatus.DONE)
            .values(lane=lane, **lifecycle.revive(calls_table))
        )
        connection.execute(sa.update(calls_table).where(owed_nothing).values(plans_follow_ups=sa.true()))
    connection.execute(
        sa.update(calls_table)
        .where(this, calls_table.c.status == WorkStatus.DEAD, calls_table.c.dead_cause != POISON)
        .values(lane=lane, **lifecycle.revive(calls_table))
    )
    waiting = calls_table.c.status == WorkStatus.PENDING
    connection.execute(
        sa.update(calls_table)
        .where(
            this, calls_table.c.settled_at.is_(None), calls_table.c.status.in_((WorkStatus.PENDING, WorkStatus.RUNNING))
        )
        .values(
            requested=calls_table.c.requested + 1,
            lane=sa.case((waiting & (calls_table.c.lane > lane), lane), else_=calls_table.c.lane),
            next_attempt_at=sa.case(
                (waiting, earlier_of(connection, calls_table.c.next_attempt_at, moment())),
                else_=calls_table.c.next_attempt_at,
            ),
        )
    )


def replay(connection: Connection, location_id: str, call_id: str) -> bool:
    """Makes the call due because a person wants its log read again. Returns False when there is no such call."""
    this = CALL.matches((location_id, call_id))
    running = sa.update(calls_table).where(this, calls_table.c.status == WorkStatus.RUNNING)
    if connection.execute(
        running.values(replayed=True, lane=Lane.LIVE, requested=calls_table.c.requested + 1)
    ).rowcount:
        return True
    waiting = sa.update(calls_table).where(this).values(lane=Lane.LIVE, **lifecycle.revive(calls_table))
    return bool(connection.execute(waiting).rowcount)


def replay_dead(connection: Connection, *, location_id: str | None = None) -> int:
    """Makes all dead calls due, of one account or of all, because a person wants them read again. Returns how many.

    They go into the lane of retries, behind live calls: they may be all the calls of an outage.
    """
    dead = sa.update(calls_table).where(calls_table.c.status == WorkStatus.DEAD, NOT_DONE)
    if location_id is not None:
        dead = dead.where(calls_table.c.location_id == location_id)
    return int(connection.execute(dead.values(lane=Lane.RETRY, **lifecycle.revive(calls_table))).rowcount)


def get(connection: Connection, location_id: str, call_id: str) -> Call | None:
    row = connection.execute(_GET, CALL.parameters((location_id, call_id))).first()
    return None if row is None else Call(*row)


_GET = sa.select(*columns_of(calls_table, Call)).where(CALL.matches_parameters())


def find(connection: Connection, call_id: str) -> list[Call]:
    """All calls with this id, of whatever account: a person who looks for one knows only its id."""
    these = sa.select(*columns_of(calls_table, Call)).where(calls_table.c.call_id == call_id)
    return [Call(*row) for row in connection.execute(these.order_by(calls_table.c.location_id))]


def actions_of(connection: Connection, location_id: str, call_id: str) -> list[CallAction]:
    """The call's actions, in the order of the log."""
    return [CallAction(*row) for row in connection.execute(_ACTIONS_OF, CALL.parameters((location_id, call_id)))]


_ACTIONS_OF = (
    sa.select(*columns_of(call_actions_table, CallAction))
    .where(*(call_actions_table.c[name] == sa.bindparam(f"this_{name}") for name in CALL.key_columns))
    .order_by(call_actions_table.c.position)
)


def keyed_actions(connection: Connection, location_id: str, call_id: str) -> list[tuple[str, Action]]:
    """The stored actions as values, each with its key."""
    return [
        (
            each.action_key,
            Action(
                action_type=each.action_type,
                name=each.action_name,
                action_id=each.action_id,
                parameters=each.parameters,
                executed_at=each.executed_at,
                trigger_received_at=each.trigger_received_at,
            ),
        )
        for each in actions_of(connection, location_id, call_id)
    ]


def as_call_log(call: Call) -> CallLog:
    """The stored log of a call, without its actions."""
    return CallLog(
        call_id=call.call_id,
        source=Source(call.read_from or Source.FETCH),
        contact_id=call.contact_id,
        agent_id=call.agent_id,
        agent_deleted=call.agent_deleted,
        message_id=call.message_id,
        from_number=call.from_number,
        started_at=call.started_at,
        duration_seconds=call.duration_seconds,
        trial_call=bool(call.trial_call),
        transferred=call.transferred,
        summary=call.summary or "",
        transcript=call.transcript or "",
        translation=call.translation,
        extracted_data=call.extracted_data,
        document=call.document or {},
    )


def save(
    connection: Connection,
    location_id: str,
    call_log: CallLog,
    *,
    read_at: datetime,
    settled: bool,
    stored: Mapping[str, Any],
) -> list[tuple[str, Action]]:
    """Stores a reading of the log. Returns every action of the call with its key, new and stored ones.

    `stored` is the call's row, which the caller has locked in the same transaction. A reading that is older than the
    stored one changes nothing. An absent or empty value never erases a stored one.
    """
    call_id = call_log.call_id
    if stored["read_at"] is not None and stored["read_at"] >= read_at:
        return keyed_actions(connection, location_id, call_id)
    values = {name: value for name, value in log_columns(call_log).items() if not _is_empty(value)}
    if stored["trial_call"]:
        values.pop("trial_call")  # False may mean that the document did not say, and a trial call stays one
    if call_log.source is Source.LIST and stored["document"]:
        values["document"] = {**stored["document"], **call_log.document}
    written = {**values, "read_at": read_at, "read_from": call_log.source}
    connection.execute(_SAVE_SETTLED if settled else _SAVE, {**written, **CALL.parameters((location_id, call_id))})
    before = [] if stored["stored_at"] is None else keyed_actions(connection, location_id, call_id)
    return _save_actions(connection, location_id, call_log, before)


_SAVE = (
    sa.update(calls_table)
    .where(CALL.matches_parameters())
    .values(stored_at=sa.func.coalesce(calls_table.c.stored_at, moment()))
)
_SAVE_SETTLED = _SAVE.values(settled_at=sa.func.coalesce(calls_table.c.settled_at, moment()))
"""Built once: building a statement costs several times its execution."""


def log_columns(call_log: CallLog) -> dict[str, Any]:
    """The columns of `calls` that a log fills."""
    return {
        "started_at": call_log.started_at,
        "duration_seconds": call_log.duration_seconds,
        "agent_id": call_log.agent_id,
        "agent_deleted": call_log.agent_deleted,
        "contact_id": call_log.contact_id,
        "message_id": call_log.message_id,
        "from_number": call_log.from_number,
        "trial_call": call_log.trial_call,
        "transferred": call_log.transferred,
        "summary": call_log.summary,
        "transcript": call_log.transcript,
        "translation": call_log.translation,
        "extracted_data": call_log.extracted_data,
        "document": call_log.document,
    }


def _is_empty(value: Any) -> bool:
    return value is None or value == "" or value == {}


def _save_actions(
    connection: Connection, location_id: str, call_log: CallLog, before: Sequence[tuple[str, Action]]
) -> list[tuple[str, Action]]:
    stored = [StoredAction(key, action) for key, action in before]
    matched = match_actions(stored, call_log.actions)
    known = {each.action_key for each in stored}
    rows = [
        action_row(location_id, call_log.call_id, key, position, action)
        for position, (key, action) in enumerate(zip(matched, call_log.actions, strict=True))
    ]
    new = [row for row in rows if row["action_key"] not in known]
    if new:
        connection.execute(sa.insert(call_actions_table), new)
    for row in rows:
        if row["action_key"] in known:
            _refresh_action(connection, row)
    still_there = list(zip(matched, call_log.actions, strict=True))
    gone = [(each.action_key, each.action) for each in stored if each.action_key not in matched]
    for position, (key, _) in enumerate(gone, start=len(rows)):  # behind the actions that this reading has
        this = _this_action({"location_id": location_id, "call_id": call_log.call_id, "action_key": key})
        connection.execute(sa.update(call_actions_table).where(this).values(position=position))
    return still_there + gone


def action_row(location_id: str, call_id: str, key: str, position: int, action: Action) -> dict[str, Any]:
    """An action as a row of `call_actions`."""
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


def _refresh_action(connection: Connection, row: Mapping[str, Any]) -> None:
    values = {name: value for name, value in row.items() if name not in ACTION_KEY and not _is_empty(value)}
    connection.execute(sa.update(call_actions_table).where(_this_action(row)).values(values))


def _this_action(row: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    return sa.and_(*(call_actions_table.c[name] == row[name] for name in ACTION_KEY))
