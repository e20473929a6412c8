"""Calls and their actions: the stored logs, as others read them, and how a call becomes known before it has one."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from models.calls.call_log import YOUNG, Action, CallLog, Source
from models.database import Json, UtcDateTime, metadata, moment, now
from models.work import lifecycle, open_work
from models.work.work_rows import IS_DEAD, IS_LEASED, IS_THIS_ROW, NEW, POISON, Lane, WorkKey, WorkKind, work_table


class Origin(StrEnum):
    """What made a call known to us first."""

    NOTIFICATION = "notification"
    RECONCILE = "reconcile"
    BACKFILL = "backfill"


OPTIONAL_PARTS = {
    "contact_id": "contact_from", "summary": "summary_from", "transcript": "transcript_from",
    "translation": "translation_from", "extracted_data": "extracted_data_from",
}  # fmt: skip
"""The optional parts of a log beside its actions: by field, the column that tells where it comes from. With a source
and without a value the part is known to be absent; without a source nobody has looked for it yet."""
_FROM = "fetch, list or notification; null: nobody looked for it yet"

calls_table = sa.Table(
    "calls",
    metadata,
    sa.Column("location_id", sa.Text, primary_key=True),
    sa.Column("call_id", sa.Text, primary_key=True, comment="Leadway's"),
    sa.Column("started_at", UtcDateTime, nullable=True, comment="Leadway's createdAt"),
    sa.Column("local_day", sa.Date, nullable=True, comment="of started_at, in the account's time zone"),
    sa.Column("local_hour", sa.SmallInteger, nullable=True, comment="likewise, 0 to 23"),
    sa.Column("duration_seconds", sa.Float, nullable=True),
    sa.Column("direction", sa.Text, nullable=True, comment="inbound or outbound, where the log tells"),
    sa.Column("call_status", sa.Text, nullable=True, comment="in Leadway's words, where the log tells"),
    sa.Column("call_type", sa.Text, nullable=True, comment="in Leadway's words, where the log tells"),
    sa.Column("contact_id", sa.Text, nullable=True),
    sa.Column("from_number", sa.Text, nullable=True),
    sa.Column("to_number", sa.Text, nullable=True, comment="the dialled number, where the log tells"),
    sa.Column("agent_id", sa.Text, nullable=True),
    sa.Column("agent_name", sa.Text, nullable=True, comment="where the log tells"),
    sa.Column("agent_deleted", sa.Boolean, nullable=True),
    sa.Column("agent_handoff", sa.Boolean, nullable=True, comment="agentTransferOccurred"),
    sa.Column(
        "workflow_name", sa.Text, nullable=True, comment="of the workflow that made the call, where the log tells"
    ),
    sa.Column("message_id", sa.Text, nullable=True),
    sa.Column("trial_call", sa.Boolean, nullable=True),
    sa.Column("summary", sa.Text, nullable=True),
    sa.Column("transcript", sa.Text, nullable=True),
    sa.Column("translation", Json, nullable=True),
    sa.Column("extracted_data", Json, nullable=True),
    sa.Column("document", Json, nullable=True, comment="what the log has beside all these columns, secrets replaced"),
    sa.Column("contact_from", sa.Text, nullable=True, comment=_FROM),
    sa.Column("summary_from", sa.Text, nullable=True, comment=_FROM),
    sa.Column("transcript_from", sa.Text, nullable=True, comment=_FROM),
    sa.Column("translation_from", sa.Text, nullable=True, comment=_FROM),
    sa.Column("extracted_data_from", sa.Text, nullable=True, comment=f"{_FROM}; a list does not carry them"),
    sa.Column("actions_from", sa.Text, nullable=True, comment=_FROM),
    sa.Column("origin", sa.Text, nullable=False, comment="what made it known: notification, reconcile, backfill"),
    sa.Column("wants_follow_ups", sa.Boolean, nullable=False),
    sa.Column("first_heard_at", UtcDateTime, nullable=False, comment="when we first heard of it"),
    sa.Column("announced_at", UtcDateTime, nullable=True, comment="when its notification came; null: none came"),
    sa.Column("stored_at", UtcDateTime, nullable=False, comment="when its log was first stored"),
    sa.Column("settled_at", UtcDateTime, nullable=True, comment="when its log was settled; null: it is read again"),
    sa.Column("read_at", UtcDateTime, nullable=False, comment="just before the request that brought the stored log"),
    sa.Column("read_from", sa.Text, nullable=False, comment="fetch or list"),
    sa.Column("reading_fence", sa.BigInteger, nullable=False, comment="of the claim whose reading is stored"),
    sa.Column("emptied_at", UtcDateTime, nullable=True, comment="when its words were deleted after the retention time"),
    sa.Column("erased_at", UtcDateTime, nullable=True, comment="when it was erased because a person asked for it"),
    sa.Index("ix_calls_started_at", "location_id", "started_at"),
    sa.Index("ix_calls_local_day", "location_id", "local_day"),
    sa.Index("ix_calls_contact_id", "location_id", "contact_id"),
    sa.Index(
        "ix_calls_extracting",
        "location_id",
        "agent_id",
        postgresql_where=sa.text("extracted_data IS NOT NULL"),
        sqlite_where=sa.text("extracted_data IS NOT NULL"),
    ),
    sa.Index(
        "ix_calls_from_number",
        "from_number",
        postgresql_where=sa.text("from_number IS NOT NULL"),
        sqlite_where=sa.text("from_number IS NOT NULL"),
    ),
    sa.Index("ix_calls_first_heard_at", "first_heard_at", "location_id", "call_id"),
    sa.Index("ix_calls_location_id_first_heard_at", "location_id", "first_heard_at", "call_id"),
)

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

CALL = WorkKind("call", task="calls.fetch", queue="calls", paused_as="call")


@dataclass(frozen=True)
class Call:
    """A row of `calls`: a call whose log is stored."""

    location_id: str
    call_id: str
    started_at: datetime | None
    local_day: date | None
    local_hour: int | None
    duration_seconds: float | None
    direction: str | None
    call_status: str | None
    call_type: str | None
    contact_id: str | None
    from_number: str | None
    to_number: str | None
    agent_id: str | None
    agent_name: str | None
    agent_deleted: bool | None
    agent_handoff: bool | None
    workflow_name: str | None
    message_id: str | None
    trial_call: bool | None
    summary: str | None
    transcript: str | None
    translation: Mapping[str, Any] | None
    extracted_data: Mapping[str, Any] | None
    document: Mapping[str, Any] | None
    contact_from: Source | None
    summary_from: Source | None
    transcript_from: Source | None
    translation_from: Source | None
    extracted_data_from: Source | None
    actions_from: Source | None
    origin: Origin
    wants_follow_ups: bool
    first_heard_at: datetime
    announced_at: datetime | None
    stored_at: datetime
    settled_at: datetime | None
    read_at: datetime
    read_from: Source
    reading_fence: int
    emptied_at: datetime | None
    erased_at: datetime | None

    @property
    def ended_at(self) -> datetime | None:
        return None if self.started_at is None else self.started_at + timedelta(seconds=self.duration_seconds or 0)

    @property
    def call_log(self) -> CallLog:
        """The stored log as a value, without its actions."""
        return CallLog(
            call_id=self.call_id, source=self.read_from, contact_id=self.contact_id, agent_id=self.agent_id,
            agent_deleted=self.agent_deleted, message_id=self.message_id, from_number=self.from_number,
            to_number=self.to_number, direction=self.direction, call_status=self.call_status,
            call_type=self.call_type, agent_name=self.agent_name, workflow_name=self.workflow_name,
            started_at=self.started_at, duration_seconds=self.duration_seconds, trial_call=bool(self.trial_call),
            agent_handoff=self.agent_handoff, summary=self.summary or "", transcript=self.transcript or "",
            translation=self.translation, extracted_data=self.extracted_data, document=self.document or {},
        )  # fmt: skip


@dataclass(frozen=True)
class CallAction:
    """A row of `call_actions`."""

    action_key: str
    position: int
    action_id: str | None
    action_type: str
    action_name: str
    parameters: Mapping[str, Any]
    executed_at: datetime | None
    trigger_received_at: datetime | None

    @property
    def action(self) -> Action:
        return Action(
            action_type=self.action_type, name=self.action_name, action_id=self.action_id, parameters=self.parameters,
            executed_at=self.executed_at, trigger_received_at=self.trigger_received_at,
        )  # fmt: skip


def work_key(location_id: str, call_id: str) -> WorkKey:
    """The work of reading this call's log."""
    return WorkKey(CALL, location_id, call_id)


def announce(
    connection: Connection,
    location_id: str,
    call_id: str,
    *,
    origin: Origin = Origin.NOTIFICATION,
    lane: Lane = Lane.LIVE,
    wants_follow_ups: bool = True,
) -> bool:
    """Makes one call known, as `announce_all` does. Returns True when it is new."""
    keys = [(location_id, call_id)]
    return bool(announce_all(connection, keys, origin=origin, lane=lane, wants_follow_ups=wants_follow_ups))


def announce_all(
    connection: Connection,
    keys: Collection[tuple[str, str]],
    *,
    origin: Origin = Origin.NOTIFICATION,
    lane: Lane = Lane.LIVE,
    wants_follow_ups: bool = True,
    heard_at: Mapping[tuple[str, str], datetime | None] | None = None,
) -> int:
    """Makes calls known by their location and call ids, and due where there is something to read.

    Returns how many are new. A known call:

    - not stored yet: its reading is brought forward, one that is under way is repeated, and a dead one is revived,
      unless it died of poison;
    - stored: the same if it is unsettled, or younger than YOUNG, or was stored without the follow-ups that are wanted
      now; else nothing happens but to work that is open anyway. An erased call is never read again.

    `heard_at`: when each notification came; None: now. Rows are locked in the order of their keys, those of `calls`
    before those of `work`, as storing locks them.
    """
    notified, at, new = origin is Origin.NOTIFICATION, now(connection), 0
    known = {key: _known(connection, *key) for key in sorted(keys)}
    to_work: list[tuple[tuple[str, str], Mapping[str, Any] | None]] = []
    for key, stored in known.items():
        if stored is None:
            heard = {"first_heard": True, "notified": notified, "new_origin": origin, "new_wants": wants_follow_ups}
            to_work.append((key, {**heard, "heard_at": (heard_at or {}).get(key)}))
        elif stored.erased_at is None:
            this = {"this_location": key[0], "this_call": key[1]}
            if notified and stored.announced_at is None:
                connection.execute(_ANNOUNCED, {**this, "heard_at": (heard_at or {}).get(key)})
            wanted_now = wants_follow_ups and not stored.wants_follow_ups
            if wanted_now:
                connection.execute(_WANTED, this)
            to_read = stored.settled_at is None or wanted_now or (notified and at - _ended_at(stored) < YOUNG)
            to_work.append((key, _OF_A_STORED_CALL if to_read else None))
    for key, facts in to_work:
        parameters = {"new_lane": lane, **work_key(*key).parameters}
        if facts is None:
            connection.execute(_BRING_FORWARD, parameters)
        else:
            is_new = connection.execute(_announcing(connection), {**parameters, **facts}).scalar_one()
            new += is_new and known[key] is None
    return new


def _known(connection: Connection, location_id: str, call_id: str) -> Any:
    return connection.execute(_KNOWN, {"this_location": location_id, "this_call": call_id}).first()


def _ended_at(stored: Any) -> datetime:
    began_at: datetime = stored.started_at or stored.stored_at
    return began_at + timedelta(seconds=stored.duration_seconds or 0)


_OF_A_STORED_CALL: Mapping[str, Any] = {
    "first_heard": False, "notified": False, "new_origin": None, "new_wants": None, "heard_at": None,
}  # fmt: skip


def replay(connection: Connection, location_id: str, call_id: str, *, lane: Lane = Lane.LIVE) -> bool:
    """Makes the call due because a person wants its log read again. Returns False when there is no such call."""
    key = work_key(location_id, call_id)
    if _known(connection, location_id, call_id) is not None or open_work.get(connection, key) is not None:
        lifecycle.request(connection, key, lane=lane)
        return True
    return False


def get(connection: Connection, location_id: str, call_id: str) -> Call | None:
    """The stored call; None: no log is stored."""
    row = connection.execute(_GET, {"this_location": location_id, "this_call": call_id}).first()
    return None if row is None else as_call(row)


def ended_at(connection: Connection, location_id: str, call_id: str) -> datetime | None:
    """When the stored call ended; None: its log does not tell when it began."""
    row = connection.execute(_KNOWN, {"this_location": location_id, "this_call": call_id}).first()
    if row is None or row.started_at is None:
        return None
    return _ended_at(row)


def actions_of(connection: Connection, location_id: str, call_id: str) -> list[CallAction]:
    """The call's actions, in the order of the log."""
    rows = connection.execute(_ACTIONS_OF, {"this_location": location_id, "these": [call_id]})
    return [action for _call_id, action in map(_as_call_action, rows)]


def actions_of_calls(
    connection: Connection, location_id: str, call_ids: Collection[str]
) -> dict[str, list[CallAction]]:
    """The actions of these calls by call id, in the order of the log."""
    found: dict[str, list[CallAction]] = {}
    for row in connection.execute(_ACTIONS_OF, {"this_location": location_id, "these": sorted(call_ids)}):
        call_id, action = _as_call_action(row)
        found.setdefault(call_id, []).append(action)
    return found


def keyed_actions(connection: Connection, location_id: str, call_id: str) -> list[tuple[str, Action]]:
    """The stored actions as values, each with its key."""
    return [(each.action_key, each.action) for each in actions_of(connection, location_id, call_id)]


def settle(connection: Connection, location_id: str, call_id: str) -> None:
    """Settles a stored call as it is, because there is no newer reading to be had."""
    this = {"this_location": location_id, "this_call": call_id}
    settled = sa.update(calls_table).where(this_call, calls_table.c.settled_at.is_(None)).values(settled_at=moment())
    connection.execute(settled, this)


def as_call(row: Any) -> Call:
    """A row of `calls` as a value."""
    read = row._asdict()
    for name in (*OPTIONAL_PARTS.values(), "actions_from", "read_from"):
        read[name] = None if read[name] is None else Source(read[name])
    return Call(**{**read, "origin": Origin(read["origin"])})


def _as_call_action(row: Any) -> tuple[str, CallAction]:
    read = row._asdict()
    del read["location_id"]
    return read.pop("call_id"), CallAction(**read)


# Statements that run for every call are built once: building one costs several times its execution.

this_call = sa.and_(
    calls_table.c.location_id == sa.bindparam("this_location"), calls_table.c.call_id == sa.bindparam("this_call")
)
_KNOWN = sa.select(
    *(
        calls_table.c[name]
        for name in (
            "started_at", "duration_seconds", "announced_at", "stored_at", "settled_at", "erased_at",
            "wants_follow_ups",
        )
    )
).where(this_call)  # fmt: skip
_heard_at = sa.func.coalesce(sa.bindparam("heard_at", type_=UtcDateTime), moment())
_ANNOUNCED = sa.update(calls_table).where(this_call).values(announced_at=_heard_at)
_WANTED = sa.update(calls_table).where(this_call).values(wants_follow_ups=sa.true())
_GET = sa.select(calls_table).where(this_call)
_ACTIONS_OF = (
    sa.select(call_actions_table)
    .where(
        call_actions_table.c.location_id == sa.bindparam("this_location"),
        call_actions_table.c.call_id.in_(sa.bindparam("these", expanding=True)),
    )
    .order_by(call_actions_table.c.call_id, call_actions_table.c.position)
)

_new_lane = sa.bindparam("new_lane", type_=sa.SmallInteger)
_is_poison = sa.func.coalesce(work_table.c.dead_cause == POISON, sa.false())
_stays = IS_LEASED | _is_poison
_is_revived = IS_DEAD & ~_is_poison
_FORWARD: Mapping[str, Any] = {
    "requested": work_table.c.requested + 1,
    "lane": sa.case((_stays | (work_table.c.lane < _new_lane), work_table.c.lane), else_=_new_lane),
    "due_at": sa.case((_stays | (work_table.c.due_at < moment()), work_table.c.due_at), else_=moment()),
    "dead_cause": sa.case((_is_revived, None), else_=work_table.c.dead_cause),
    **{
        name: sa.case((_is_revived, 0), else_=work_table.c[name])
        for name in ("failures", "lost_leases", "lost_isolated")
    },
}
"""What being announced again does to the open work of a call. An attempt that is under way is repeated when it ends."""
_BRING_FORWARD = sa.update(work_table).where(IS_THIS_ROW).values(_FORWARD)


def _announcing(connection: Connection) -> Any:
    """Returns whether the row is new. Parameters: of the key, `new_lane`, `first_heard`, `notified`, `new_origin`,
    `new_wants`, `heard_at`."""
    return _ANNOUNCING[connection.dialect.name]


def _build_announcing(insert: Any) -> Any:
    def heard_if(name: str) -> sa.ColumnElement[Any]:
        return sa.case((sa.bindparam(name, type_=sa.Boolean), _heard_at), else_=None)

    statement = insert(work_table).values(
        {
            **NEW,
            **{name: sa.bindparam(f"this_{name.removesuffix('_id')}") for name in ("kind", "location_id", "subject")},
            "lane": _new_lane,
            "due_at": moment(),
            "first_heard_at": heard_if("first_heard"),
            "announced_at": heard_if("notified"),
            "origin": sa.bindparam("new_origin", type_=sa.Text),
            "wants_follow_ups": sa.bindparam("new_wants", type_=sa.Boolean),
        }
    )
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["kind", "location_id", "subject"],
        set_={
            **_FORWARD,
            "announced_at": sa.func.coalesce(work_table.c.announced_at, new.announced_at),
            "wants_follow_ups": work_table.c.wants_follow_ups | new.wants_follow_ups,
        },
    ).returning((work_table.c.requested == 1).label("is_new"))


_ANNOUNCING = {"postgresql": _build_announcing(postgresql.insert), "sqlite": _build_announcing(sqlite.insert)}
