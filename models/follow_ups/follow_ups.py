"""Follow-ups: what we owe the CRM because of a call, one row for each call, rule and action."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import UtcDateTime, columns_of, earlier_of, insert, metadata, moment
from models.follow_ups.references import reference_for
from models.follow_ups.rules import PlannedFollowUp, SkipReason
from models.work import lifecycle
from models.work.lifecycle import Claim
from models.work.work_rows import NEVER_TRIED, NOT_DONE, Lane, WorkKind, WorkStatus, schedule_columns

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
    *schedule_columns(),
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
    sa.ForeignKeyConstraint(["location_id", "call_id"], ["calls.location_id", "calls.call_id"], ondelete="CASCADE"),
    sa.UniqueConstraint("location_id", "call_id", "rule_id", "action_key"),
    sa.Index("ix_follow_ups_contact_id", "location_id", "contact_id"),
)
_HAS_DUE_TIME = follow_ups_table.c.next_attempt_at.is_not(None)
_IS_IN_FLIGHT = sa.or_(follow_ups_table.c.enqueued_at.is_not(None), follow_ups_table.c.lease_until.is_not(None))
_HAS_UNCLEAR_TIME = follow_ups_table.c.unclear_since.is_not(None)
sa.Index(
    "ix_follow_ups_due", follow_ups_table.c.location_id, follow_ups_table.c.lane, follow_ups_table.c.next_attempt_at,
    postgresql_where=_HAS_DUE_TIME, sqlite_where=_HAS_DUE_TIME,
)  # fmt: skip
sa.Index(
    "ix_follow_ups_in_flight", follow_ups_table.c.location_id, postgresql_where=_IS_IN_FLIGHT,
    sqlite_where=_IS_IN_FLIGHT,
)  # fmt: skip
sa.Index(
    "ix_follow_ups_unclear", follow_ups_table.c.unclear_since, postgresql_where=_HAS_UNCLEAR_TIME,
    sqlite_where=_HAS_UNCLEAR_TIME,
)  # fmt: skip
sa.Index(
    "ix_follow_ups_not_done", follow_ups_table.c.location_id, follow_ups_table.c.status, postgresql_where=NOT_DONE,
    sqlite_where=NOT_DONE,
)  # fmt: skip

_MAY_BE_WRITTEN = follow_ups_table.c.intent_at.is_not(None) & follow_ups_table.c.remote_id.is_(None)
FOLLOW_UP = WorkKind(
    "follow_up",
    follow_ups_table,
    ("follow_up_id",),
    after_abort={
        "status": sa.case((_MAY_BE_WRITTEN, WorkStatus.UNCLEAR), else_=WorkStatus.PENDING),
        "unclear_since": sa.case(
            (_MAY_BE_WRITTEN, sa.func.coalesce(follow_ups_table.c.unclear_since, moment())), else_=None
        ),
    },
)


@dataclass(frozen=True)
class FollowUp:
    """A row of `follow_ups`."""

    follow_up_id: str
    location_id: str
    call_id: str
    rule_id: str
    action_key: str
    kind: str
    contact_id: str | None
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
    skip_reason: str | None
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


UNCLEAR_FROM_THE_LEASE = {
    "unclear_since": sa.case(
        (
            (follow_ups_table.c.status == WorkStatus.RUNNING)
            & follow_ups_table.c.intent_at.is_not(None)
            & follow_ups_table.c.unclear_since.is_(None),
            follow_ups_table.c.lease_until,
        ),
        else_=follow_ups_table.c.unclear_since,
    )
}
"""Column values for the claim that takes over a run-out lease: if the worker ended after its intent, the outcome is
unclear since the end of that lease."""


def plan(
    connection: Connection,
    location_id: str,
    call_id: str,
    planned: Sequence[PlannedFollowUp],
    *,
    delay_seconds: float = 0,
    lane: Lane = Lane.FOLLOW_UP,
) -> int:
    """Writes the planned follow-ups, in the transaction that stores the call. Returns how many of the call are due now.

    A follow-up that was planned before stays as it is; one that was skipped for want of a contact is taken up when the
    contact is known now. `delay_seconds` lets follow-ups wait for the summary; a later plan without a delay brings
    them forward.
    """
    if not planned:
        return 0
    due = moment(delay_seconds)
    rows = [
        {
            "follow_up_id": reference_for(location_id, call_id, each.rule_id, each.action_key),
            "location_id": location_id, "call_id": call_id, "rule_id": each.rule_id, "action_key": each.action_key,
            "kind": each.kind, "contact_id": each.contact_id, "skip_reason": each.skip_reason, "lane": lane,
            "status": WorkStatus.SKIPPED if each.skip_reason else WorkStatus.PENDING,
            "next_attempt_at": None if each.skip_reason else due, "planned_at": moment(),
            **NEVER_TRIED, "requested": 0, "posts": 0, "absences": 0,
        }
        for each in planned
    ]  # fmt: skip
    for row in rows:
        new = (
            insert(connection, follow_ups_table)
            .values(**row)
            .on_conflict_do_nothing()
            .returning(follow_ups_table.c.follow_up_id)
        )
        if connection.execute(new).first() is None and row["skip_reason"] is None:
            _take_up_without_contact(connection, row)
    this_call = sa.and_(follow_ups_table.c.location_id == location_id, follow_ups_table.c.call_id == call_id)
    if delay_seconds <= 0:
        connection.execute(
            sa.update(follow_ups_table)
            .where(this_call, follow_ups_table.c.status == WorkStatus.PENDING, follow_ups_table.c.attempts == 0)
            .values(next_attempt_at=earlier_of(connection, follow_ups_table.c.next_attempt_at, moment()))
        )
    waiting = sa.select(sa.func.count()).where(this_call, follow_ups_table.c.next_attempt_at <= moment())
    return int(connection.execute(waiting).scalar_one())


def take_up_skipped(connection: Connection, location_id: str, call_id: str, planned: Sequence[PlannedFollowUp]) -> int:
    """Makes due the skipped follow-ups that are planned now without a reason to skip them. Returns how many."""
    taken_up = 0
    for each in planned:
        if each.skip_reason is None:
            statement = sa.update(follow_ups_table).where(
                follow_ups_table.c.follow_up_id == reference_for(location_id, call_id, each.rule_id, each.action_key),
                follow_ups_table.c.status == WorkStatus.SKIPPED,
            )
            values = {**lifecycle.revive(follow_ups_table), "skip_reason": None, "contact_id": each.contact_id}
            taken_up += connection.execute(statement.values(values)).rowcount
    return taken_up


def _take_up_without_contact(connection: Connection, row: dict[str, Any]) -> None:
    """A first reading may lack the contact that a fuller one has: the skipped follow-up becomes `row`."""
    names = ("contact_id", "lane", "status", "skip_reason", "next_attempt_at")
    without = sa.and_(
        follow_ups_table.c.follow_up_id == row["follow_up_id"], follow_ups_table.c.skip_reason == SkipReason.NO_CONTACT
    )
    connection.execute(sa.update(follow_ups_table).where(without).values({name: row[name] for name in names}))


def intend(connection: Connection, claim: Claim, *, seconds: float, **words: str | None) -> bool:
    """Writes the intent, under fence and lease, just before the request is sent. Returns False when the lease does not
    last `seconds` more: nothing was written, and the request must not be sent.

    From the intent on the outcome counts as unclear until it is known. `words` are the columns title, body and
    appointment_id.
    """
    return lifecycle.update_under_lease(
        connection, claim, seconds=seconds, intent_at=moment(), posts=follow_ups_table.c.posts + 1, unclear_since=None,
        absences=0, **words,
    )  # fmt: skip


def get(connection: Connection, follow_up_id: str) -> FollowUp | None:
    row = connection.execute(_SELECT.where(follow_ups_table.c.follow_up_id == follow_up_id)).first()
    return None if row is None else FollowUp(*row)


def of_call(connection: Connection, location_id: str, call_id: str) -> list[FollowUp]:
    this_call = sa.and_(follow_ups_table.c.location_id == location_id, follow_ups_table.c.call_id == call_id)
    return [FollowUp(*row) for row in connection.execute(_SELECT.where(this_call).order_by("planned_at"))]


_SELECT = sa.select(*columns_of(follow_ups_table, FollowUp))


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


def settle_by_person(connection: Connection, follow_up_id: str, *, is_there: bool) -> bool:
    """Settles an unclear follow-up by what a person saw in the CRM: done if it is there, else it is sent again.

    Returns False when it was not unclear: nothing is changed.
    """
    unclear = sa.and_(follow_ups_table.c.follow_up_id == follow_up_id, follow_ups_table.c.status == WorkStatus.UNCLEAR)
    values = (
        {
            "status": WorkStatus.DONE,
            "next_attempt_at": None,
            "done_at": moment(),
            "unclear_since": None,
            "last_error": None,
        }
        if is_there
        else {**lifecycle.revive(follow_ups_table), "intent_at": None, "unclear_since": None, "absences": 0, "posts": 0}
    )
    statement = sa.update(follow_ups_table).where(unclear).values(fence=follow_ups_table.c.fence + 1, **values)
    return bool(connection.execute(statement).rowcount)


def resend(connection: Connection, follow_up_id: str) -> bool:
    """Makes a dead or unclear follow-up due because a person wants it tried again. Returns False when it is neither.

    If an earlier request may have written it, it becomes unclear and is probed first: no second note is written.
    """
    since = sa.func.coalesce(follow_ups_table.c.unclear_since, follow_ups_table.c.intent_at)
    values = {
        **lifecycle.revive(follow_ups_table),
        "status": sa.case((_MAY_BE_WRITTEN, WorkStatus.UNCLEAR), else_=WorkStatus.PENDING),
        "unclear_since": sa.case((_MAY_BE_WRITTEN, since), else_=None),
        "fence": follow_ups_table.c.fence + 1,
        "body": sa.case((_MAY_BE_WRITTEN, follow_ups_table.c.body), else_=None),
        "posts": 0,
        "absences": 0,
    }
    dead_or_unclear = follow_ups_table.c.status.in_((WorkStatus.DEAD, WorkStatus.UNCLEAR))
    statement = (
        sa.update(follow_ups_table)
        .where(follow_ups_table.c.follow_up_id == follow_up_id, dead_or_unclear)
        .values(values)
    )
    return bool(connection.execute(statement).rowcount)
