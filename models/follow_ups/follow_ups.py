"""Follow-ups: what we owe the CRM because of a call, one row for each call, rule and action.

The row of work is the only lock of a follow-up: whoever changes its state updates that row first, under its fence, and
touches `follow_ups` only then. `follow_ups` holds facts; what is due when stands in `work`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.calls import calls_table
from models.database import UtcDateTime, earlier_of, insert, metadata, moment, now
from models.follow_ups.references import reference_for
from models.follow_ups.rules import FollowUpKind, PlannedFollowUp, Rules, SkipReason
from models.work import life, lifecycle, open_work
from models.work.lifecycle import Claim
from models.work.work_rows import Lane, WorkKey, WorkKind, work_table

UNKNOWN_CONTACT = "contact_unknown"
"""The cause of death of a follow-up whose contact the CRM does not know."""


class FollowUpState(StrEnum):
    PENDING = "pending"
    UNCLEAR = "unclear"
    """The CRM may or may not have executed the request."""
    DONE = "done"
    DEAD = "dead"
    """Given up: it waits for a person."""
    SKIPPED = "skipped"


follow_ups_table = sa.Table(
    "follow_ups",
    metadata,
    sa.Column("follow_up_id", sa.Text, primary_key=True, comment="also the reference that the note carries"),
    sa.Column("location_id", sa.Text, nullable=False),
    sa.Column("call_id", sa.Text, nullable=False),
    sa.Column("rule_id", sa.Text, nullable=False),
    sa.Column("action_key", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, comment="note, task, tag or workflow"),
    sa.Column("contact_id", sa.Text, nullable=True),
    sa.Column("status", sa.Text, nullable=False, comment="pending, unclear, done, dead, skipped"),
    sa.Column("skip_reason", sa.Text, nullable=True, comment="trial_call, no_contact, too_old"),
    sa.Column("planned_at", UtcDateTime, nullable=False),
    sa.Column("done_at", UtcDateTime, nullable=True),
    sa.Column("title", sa.Text, nullable=True, comment="of a task"),
    sa.Column("body", sa.Text, nullable=True, comment="the words sent, or the tags"),
    sa.Column("appointment_id", sa.Text, nullable=True, comment="of the booked appointment in its words"),
    sa.Column("intent_at", UtcDateTime, nullable=True, comment="just before the request that writes it"),
    sa.Column("posts", sa.Integer, nullable=False, default=0, comment="requests that may have written it"),
    sa.Column("unclear_since", UtcDateTime, nullable=True, comment="when its outcome became unclear"),
    sa.Column("absences", sa.Integer, nullable=False, default=0, comment="answered probes that did not find it"),
    sa.Column("remote_id", sa.Text, nullable=True, comment="Leadway's id of the note or task"),
    sa.Column(
        "life",
        sa.BigInteger,
        nullable=False,
        server_default="0",
        comment="of the database: what earlier ones may have written and forgotten is looked for since",
    ),
    sa.ForeignKeyConstraint(["location_id", "call_id"], ["calls.location_id", "calls.call_id"], ondelete="CASCADE"),
    sa.UniqueConstraint("location_id", "call_id", "rule_id", "action_key"),
    sa.Index("ix_follow_ups_contact_id", "location_id", "contact_id"),
)
_HAS_UNCLEAR_TIME = follow_ups_table.c.unclear_since.is_not(None)
sa.Index(
    "ix_follow_ups_unclear", follow_ups_table.c.unclear_since, postgresql_where=_HAS_UNCLEAR_TIME,
    sqlite_where=_HAS_UNCLEAR_TIME,
)  # fmt: skip

FOLLOW_UP = WorkKind("follow_up", task="follow_ups.send", queue="follow_ups", paused_as="follow_up")


@dataclass(frozen=True)
class FollowUp:
    """A row of `follow_ups`."""

    follow_up_id: str
    location_id: str
    call_id: str
    rule_id: str
    action_key: str
    kind: FollowUpKind
    contact_id: str | None
    status: FollowUpState
    skip_reason: SkipReason | None
    planned_at: datetime
    done_at: datetime | None
    title: str | None
    body: str | None
    appointment_id: str | None
    intent_at: datetime | None
    posts: int
    unclear_since: datetime | None
    absences: int
    remote_id: str | None
    life: int

    @property
    def key(self) -> WorkKey:
        """The work of sending it."""
        return work_key(self.location_id, self.follow_up_id)

    @property
    def is_unclear(self) -> bool:
        return self.status is FollowUpState.UNCLEAR

    @property
    def may_be_written(self) -> bool:
        return self.intent_at is not None and self.remote_id is None


def work_key(location_id: str, follow_up_id: str) -> WorkKey:
    return WorkKey(FOLLOW_UP, location_id, follow_up_id)


# Planning


def plan(
    connection: Connection,
    location_id: str,
    call_id: str,
    planned: Sequence[PlannedFollowUp],
    *,
    delay_seconds: float = 0,
    lane: Lane = Lane.FOLLOW_UP,
    move: bool = False,
) -> None:
    """Writes the planned follow-ups, in the transaction that stores the call.

    A follow-up that was planned before stays as it is; one that was skipped for want of a contact is taken up when the
    contact is known now. `delay_seconds` lets follow-ups wait for the summary; a later plan without a delay brings
    them forward. `move`: what is planned for another contact and not written yet moves to the contact that is planned
    now, because contacts are merged; one that died because its contact is unknown is revived.
    """
    for each in planned:
        row = _planned_row(location_id, call_id, each)
        new = insert(connection, follow_ups_table).values(**row).on_conflict_do_nothing()
        is_new = connection.execute(new.returning(follow_ups_table.c.follow_up_id)).first() is not None
        if each.skip_reason is not None:
            continue
        key = work_key(location_id, row["follow_up_id"])
        if is_new or _take_up(connection, row, SkipReason.NO_CONTACT):
            lifecycle.add(connection, key, lane=lane, delay_seconds=delay_seconds)
        elif move and _move_to_contact(connection, key, each.contact_id):
            continue
        elif delay_seconds <= 0:
            connection.execute(
                _BRING_FORWARD.values(due_at=earlier_of(connection, work_table.c.due_at, moment())), key.parameters
            )


def _move_to_contact(connection: Connection, key: WorkKey, contact_id: str | None) -> bool:
    """Returns False when there is nothing to move: it is written, may be written, or is of this contact already."""
    found = get(connection, key.subject)
    if found is None or not _moves(found, contact_id) or not lifecycle.lock(connection, key):
        return False
    found, work = get(connection, key.subject), open_work.get(connection, key)
    if found is None or work is None or not _moves(found, contact_id):
        return False
    revives = work.dead_cause == UNKNOWN_CONTACT
    lifecycle.take_from_worker(connection, key)
    if revives or found.status is FollowUpState.PENDING:
        lifecycle.request(connection, key, lane=Lane.FOLLOW_UP)
    facts: dict[str, Any] = {"contact_id": contact_id, "body": None, "title": None, "appointment_id": None}
    _write_of(connection, found, facts | ({"status": FollowUpState.PENDING} if revives else {}))
    return True


def _moves(follow_up: FollowUp, contact_id: str | None) -> bool:
    unwritten = follow_up.status in (FollowUpState.PENDING, FollowUpState.DEAD) and follow_up.intent_at is None
    return unwritten and contact_id is not None and contact_id != follow_up.contact_id


def take_up_skipped(connection: Connection, location_id: str, call_id: str, planned: Sequence[PlannedFollowUp]) -> int:
    """Makes due the skipped follow-ups that are planned now without a reason to skip them. Returns how many."""
    taken_up = 0
    for each in planned:
        row = _planned_row(location_id, call_id, each)
        if each.skip_reason is None and _take_up(connection, row, *SkipReason):
            taken_up += lifecycle.add(connection, work_key(location_id, row["follow_up_id"]), lane=Lane.FOLLOW_UP)
    return taken_up


def _planned_row(location_id: str, call_id: str, planned: PlannedFollowUp) -> dict[str, Any]:
    return {
        "follow_up_id": reference_for(location_id, call_id, planned.rule_id, planned.action_key),
        "location_id": location_id, "call_id": call_id, "rule_id": planned.rule_id,
        "action_key": planned.action_key, "kind": planned.kind, "contact_id": planned.contact_id,
        "skip_reason": planned.skip_reason, "planned_at": moment(), "posts": 0, "absences": 0,
        "status": FollowUpState.SKIPPED if planned.skip_reason else FollowUpState.PENDING,
    }  # fmt: skip


def _take_up(connection: Connection, row: dict[str, Any], *reasons: SkipReason) -> bool:
    """A follow-up that was skipped for one of these reasons becomes `row`. A skipped one has no work, so no lock."""
    c = follow_ups_table.c
    skipped = sa.update(follow_ups_table).where(c.follow_up_id == row["follow_up_id"], c.skip_reason.in_(reasons))
    values = {name: row[name] for name in ("contact_id", "status", "skip_reason")}
    return bool(connection.execute(skipped.values(values)).rowcount)


_BRING_FORWARD = sa.update(work_table).where(
    work_table.c.kind == FOLLOW_UP.name,
    work_table.c.location_id == sa.bindparam("this_location"),
    work_table.c.subject == sa.bindparam("this_subject"),
    work_table.c.due_at.is_not(None),
    work_table.c.lease_until.is_(None),
    work_table.c.attempts == 0,
)


# An attempt


def begin(connection: Connection, claim: Claim, *, dead: bool) -> None:
    """In the claim's transaction: an outcome that nobody came back to tell becomes unclear, from the end of the lost
    lease on, and what an earlier life of the database may have written, from the present life's beginning on. `dead`:
    the claim found that the row is poison."""
    _record_end(connection, claim, since=claim.lease_lost_at or claim.claimed_at, dead=dead)
    _doubt_what_was_forgotten(connection, claim)


def record_abort(connection: Connection, claim: Claim, *, dead: bool) -> None:
    """After an abort, in its transaction: the outcome is unclear from now on. `dead`: it was dead-lettered."""
    _record_end(connection, claim, since=now(connection), dead=dead)


def _record_end(connection: Connection, claim: Claim, *, since: datetime, dead: bool) -> None:
    """An outcome that may be written is unclear, and waits for a person rather than being dead."""
    connection.execute(_BECOME_UNCLEAR, {"this_follow_up": claim.key.subject, "since": since})
    if dead:
        pending = follow_ups_table.c.status == FollowUpState.PENDING
        statement = sa.update(follow_ups_table).where(follow_ups_table.c.follow_up_id == claim.key.subject, pending)
        connection.execute(statement.values(status=FollowUpState.DEAD))


def _doubt_what_was_forgotten(connection: Connection, claim: Claim) -> None:
    """A call that ended before this life of the database began may have got its note in an earlier one."""
    present = life.current(connection)
    if not present.number:
        return
    this = {"this_follow_up": claim.key.subject, "this_life": present.number}
    if (row := connection.execute(_NOT_LOOKED_FOR, this).first()) is None:
        return
    ended_at = None if row.started_at is None else row.started_at + timedelta(seconds=row.duration_seconds or 0)
    if ended_at is None or ended_at < present.began_at:
        connection.execute(_BECOME_DOUBTED, {**this, "since": present.began_at})


def intend(connection: Connection, claim: Claim, follow_up: FollowUp, *, seconds: float, **words: str | None) -> bool:
    """Writes the intent, under fence and lease, just before the request is sent. Returns False when the lease does not
    last `seconds` more: nothing was written, and the request must not be sent.

    From the intent on the outcome counts as unclear until it is known. `words` are the columns title, body and
    appointment_id. Under one claim this succeeds once: it compares `intent_at` with what the claim saw.
    """
    if not lifecycle.hold(connection, claim, seconds=seconds):
        return False
    c = follow_ups_table.c
    as_seen = c.intent_at.is_(None) if follow_up.intent_at is None else c.intent_at == follow_up.intent_at
    statement = sa.update(follow_ups_table).where(c.follow_up_id == follow_up.follow_up_id, as_seen)
    intended = {"intent_at": moment(), "posts": c.posts + 1, "unclear_since": None, "absences": 0, **words}
    return bool(connection.execute(statement.values(status=FollowUpState.PENDING, **intended)).rowcount)


def finish(connection: Connection, claim: Claim, *, remote_id: str | None) -> None:
    """Completes the work with Leadway's id of what was written. Raises LeaseLost."""
    lifecycle.complete(connection, claim)
    write(connection, claim, status=FollowUpState.DONE, remote_id=remote_id, done_at=moment(), unclear_since=None)


def reschedule(
    connection: Connection, claim: Claim, *, seconds: float | None, facts: dict[str, Any] | None = None, **how: Any
) -> None:
    """Reschedules the work as `lifecycle.reschedule` does and writes columns of the follow-up. Raises LeaseLost."""
    lifecycle.reschedule(connection, claim, seconds=seconds, **how)
    write(connection, claim, **(facts or {}))


def dead_letter(connection: Connection, claim: Claim, *, cause: str, error: str) -> None:
    """Makes the follow-up dead. Raises LeaseLost."""
    lifecycle.dead_letter(connection, claim, cause=cause, error=error)
    write(connection, claim, status=FollowUpState.DEAD)


def write(connection: Connection, claim: Claim, **values: Any) -> None:
    """Writes columns of the follow-up, whose work this transaction has updated under the claim's fence."""
    if values:
        this = follow_ups_table.c.follow_up_id == claim.key.subject
        connection.execute(sa.update(follow_ups_table).where(this).values(**values))


_BECOME_UNCLEAR = (
    sa.update(follow_ups_table)
    .where(
        follow_ups_table.c.follow_up_id == sa.bindparam("this_follow_up"),
        follow_ups_table.c.status == FollowUpState.PENDING,
        follow_ups_table.c.intent_at.is_not(None),
        follow_ups_table.c.remote_id.is_(None),
    )
    .values(status=FollowUpState.UNCLEAR, unclear_since=sa.bindparam("since", type_=UtcDateTime))
)


_IS_OPEN_IN_AN_EARLIER_LIFE = sa.and_(
    follow_ups_table.c.follow_up_id == sa.bindparam("this_follow_up"),
    follow_ups_table.c.life < sa.bindparam("this_life"),
    follow_ups_table.c.status.in_([FollowUpState.PENDING, FollowUpState.UNCLEAR]),
    follow_ups_table.c.remote_id.is_(None),
)
_NOT_LOOKED_FOR = (
    sa.select(calls_table.c.started_at, calls_table.c.duration_seconds)
    .join_from(follow_ups_table, calls_table)
    .where(_IS_OPEN_IN_AN_EARLIER_LIFE)
)
_BECOME_DOUBTED = (
    sa.update(follow_ups_table)
    .where(_IS_OPEN_IN_AN_EARLIER_LIFE)
    .values(
        status=FollowUpState.UNCLEAR,
        intent_at=sa.func.coalesce(follow_ups_table.c.intent_at, sa.bindparam("since", type_=UtcDateTime)),
        unclear_since=sa.bindparam("since", type_=UtcDateTime),
        absences=0,
        life=sa.bindparam("this_life"),
    )
)


# Reading


def get(connection: Connection, follow_up_id: str) -> FollowUp | None:
    row = connection.execute(_GET, {"this_follow_up": follow_up_id}).first()
    return None if row is None else _follow_up(row)


_GET = sa.select(follow_ups_table).where(follow_ups_table.c.follow_up_id == sa.bindparam("this_follow_up"))


def changed_rules(connection: Connection, rules: Rules) -> list[str]:
    """The ids of rules that make another kind of thing now than what is owed by them."""
    c, w = follow_ups_table.c, work_table.c
    owed = sa.select(c.location_id, c.rule_id, c.kind).distinct().join_from(
        follow_ups_table, work_table,
        sa.and_(w.kind == FOLLOW_UP.name, w.location_id == c.location_id, w.subject == c.follow_up_id),
    )  # fmt: skip
    found = ((row, rules.find(row.rule_id, location_id=row.location_id)) for row in connection.execute(owed))
    return sorted({rule.id for row, rule in found if rule is not None and rule.kind != row.kind})


def of_call(connection: Connection, location_id: str, call_id: str) -> list[FollowUp]:
    this_call = sa.and_(follow_ups_table.c.location_id == location_id, follow_ups_table.c.call_id == call_id)
    rows = connection.execute(sa.select(follow_ups_table).where(this_call).order_by(follow_ups_table.c.planned_at))
    return [_follow_up(row) for row in rows]


def _follow_up(row: Any) -> FollowUp:
    read = row._asdict()
    skip_reason = None if row.skip_reason is None else SkipReason(row.skip_reason)
    kinds = {"kind": FollowUpKind(row.kind), "status": FollowUpState(row.status), "skip_reason": skip_reason}
    return FollowUp(**{**read, **kinds})


def appointments_used(connection: Connection, location_id: str, contact_id: str, *, but_call: str) -> set[str]:
    """Ids of the contact's appointments that stand in follow-ups of other calls: each appointment is used once."""
    used = sa.select(follow_ups_table.c.appointment_id).where(
        follow_ups_table.c.location_id == location_id,
        follow_ups_table.c.contact_id == contact_id,
        follow_ups_table.c.call_id != but_call,
        follow_ups_table.c.appointment_id.is_not(None),
    )
    return set(connection.execute(used).scalars())


def has_action_key(connection: Connection, location_id: str, call_id: str, action_key: str) -> bool:
    """Whether anything was planned for this action of the call."""
    this = {"this_location": location_id, "this_call": call_id, "this_action": action_key}
    return connection.execute(_HAS_ACTION_KEY, this).first() is not None


_HAS_ACTION_KEY = sa.select(sa.literal(1)).where(
    follow_ups_table.c.location_id == sa.bindparam("this_location"),
    follow_ups_table.c.call_id == sa.bindparam("this_call"),
    follow_ups_table.c.action_key == sa.bindparam("this_action"),
)


# A person decides


def settle_by_person(connection: Connection, follow_up_id: str, *, is_there: bool) -> bool:
    """Settles an unclear follow-up by what a person saw in the CRM: done if it is there, else it is sent again.

    Returns False when it was not unclear: nothing is changed.
    """
    follow_up = _locked(connection, follow_up_id, FollowUpState.UNCLEAR)
    if follow_up is None:
        return False
    lifecycle.take_from_worker(connection, follow_up.key)
    facts: dict[str, Any]
    if is_there:
        lifecycle.remove(connection, follow_up.key)
        facts = {"status": FollowUpState.DONE, "done_at": moment(), "unclear_since": None}
    else:
        lifecycle.request(connection, follow_up.key, lane=Lane.FOLLOW_UP)
        facts = {
            "status": FollowUpState.PENDING, "intent_at": None, "unclear_since": None, "absences": 0, "posts": 0,
            "life": life.current(connection).number,
        }  # fmt: skip
    _write_of(connection, follow_up, facts)
    return True


def resend(connection: Connection, follow_up_id: str) -> bool:
    """Makes a dead or unclear follow-up due because a person wants it tried again. Returns False when it is neither.

    If an earlier request may have written it, it becomes unclear and is probed first: no second note is written.
    """
    follow_up = _locked(connection, follow_up_id, FollowUpState.DEAD, FollowUpState.UNCLEAR)
    if follow_up is None:
        return False
    lifecycle.take_from_worker(connection, follow_up.key)
    lifecycle.request(connection, follow_up.key, lane=Lane.FOLLOW_UP)
    facts: dict[str, Any] = {"posts": 0, "absences": 0}
    if follow_up.may_be_written:
        since = follow_up.unclear_since or follow_up.intent_at
        facts |= {"status": FollowUpState.UNCLEAR, "unclear_since": since}
    else:
        facts |= {"status": FollowUpState.PENDING, "unclear_since": None, "body": None}
    _write_of(connection, follow_up, facts)
    return True


def _locked(connection: Connection, follow_up_id: str, *states: FollowUpState) -> FollowUp | None:
    """The follow-up, its row of work locked, if it is in one of these states."""
    found = get(connection, follow_up_id)
    if found is None or not lifecycle.lock(connection, found.key):
        return None
    locked = get(connection, follow_up_id)
    return locked if locked is not None and locked.status in states else None


def _write_of(connection: Connection, follow_up: FollowUp, facts: dict[str, Any]) -> None:
    this = follow_ups_table.c.follow_up_id == follow_up.follow_up_id
    connection.execute(sa.update(follow_ups_table).where(this).values(facts))
