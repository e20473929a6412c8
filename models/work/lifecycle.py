"""How a call or a follow-up is claimed, postponed, finished, given up: one attempt at a time.

A row that means work carries its own schedule. A claim is one UPDATE with a lease and a fencing number: whoever comes
back after the lease finds that the fence has moved on and writes nothing. `next_attempt_at` of a running row is the
end of its lease, so what is due is always found by the same condition.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, StrEnum
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.pauses import is_paused
from models.database import Database, UtcDateTime, metadata, moment

ISOLATED_AFTER = 2
"""Leases lost in a row after which a row runs alone, so that its neighbours do not die with it."""
POISON_AFTER_LOST_ISOLATED = 2
"""Leases lost *alone* that make a row dead. One would do against poison, but a process may also be killed from
outside at just that moment, and a call must not die of that."""
FAILURES_ALLOWED = 10
LONGEST_DELAY_SECONDS = 600.0


class WorkStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    UNCLEAR = "unclear"
    """Of a follow-up: the CRM may or may not have done it."""
    DONE = "done"
    DEAD = "dead"
    SKIPPED = "skipped"


OPEN = (WorkStatus.PENDING, WorkStatus.RUNNING, WorkStatus.UNCLEAR)
NOT_DONE = sa.text("status NOT IN ('done', 'skipped')")
"""In words, because a partial index serves only a condition that is written like its own."""


class Lane(IntEnum):
    """Who goes first."""

    LIVE = 0
    FOLLOW_UP = 1
    RETRY = 2
    RECONCILED = 3
    BACKFILLED = 4


class Outcome(StrEnum):
    """How an attempt ended, as the `attempts` table tells it."""

    DONE = "done"
    UNSETTLED = "unsettled"
    POSTPONED = "postponed"
    FAILED = "failed"
    UNCLEAR = "unclear"
    DEAD = "dead"
    LEASE_LOST = "lease_lost"
    DROPPED = "dropped"


class LeaseLost(Exception):
    """Somebody else has taken the row over: nothing may be written, the transaction is to be rolled back."""


@dataclass(frozen=True)
class WorkKind:
    """A table whose rows are work, and what its key is."""

    name: str
    table: sa.Table
    key_columns: tuple[str, ...]
    after_abort: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Columns of a row whose attempt broke off at an unknown place."""

    def matches_parameters(self) -> sa.ColumnElement[bool]:
        """The row whose key is in `parameters`: for a statement that is built once."""
        return sa.and_(*(self.table.c[name] == sa.bindparam(f"this_{name}") for name in self.key_columns))

    def parameters(self, key: tuple[str, ...]) -> dict[str, str]:
        return {f"this_{name}": value for name, value in zip(self.key_columns, key, strict=True)}

    def matches(self, key: tuple[str, ...]) -> sa.ColumnElement[bool]:
        return sa.and_(*(self.table.c[name] == value for name, value in zip(self.key_columns, key, strict=True)))


@dataclass(frozen=True)
class Claim:
    """The right to work on one row until `deadline` (monotonic seconds)."""

    work: WorkKind
    key: tuple[str, ...]
    fence: int
    attempts: int
    failures: int
    claimed_at: datetime
    deadline: float
    row: Mapping[str, Any]
    """The row as the claim left it."""
    task_id: str | None = None

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


attempts_table = sa.Table(
    "attempts",
    metadata,
    sa.Column("attempt_id", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True),
    sa.Column("work", sa.Text, nullable=False, comment="call or follow_up"),
    sa.Column("location_id", sa.Text, nullable=False),
    sa.Column("call_id", sa.Text, nullable=False),
    sa.Column("follow_up_id", sa.Text, nullable=True),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("task_id", sa.Text, nullable=True),
    sa.Column("worker", sa.Text, nullable=True),
    sa.Column("started_at", UtcDateTime, nullable=True, comment="null for lease_lost: nobody came back to tell"),
    sa.Column("ended_at", UtcDateTime, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=True),
    sa.Column("http_status", sa.Integer, nullable=True),
    sa.Column("trace_id", sa.Text, nullable=True, comment="Leadway's, for their support"),
    sa.Index("ix_attempts_call", "location_id", "call_id"),
    sa.Index("ix_attempts_follow_up", "follow_up_id"),
)


def work_columns() -> tuple[sa.Column[Any], ...]:
    """The schedule that every row of work carries."""
    return (
        sa.Column("status", sa.Text, nullable=False, default=WorkStatus.PENDING),
        sa.Column("lane", sa.SmallInteger, nullable=False, default=Lane.LIVE),
        sa.Column("next_attempt_at", UtcDateTime, nullable=True, comment="null: nothing will happen by itself"),
        sa.Column("attempts", sa.Integer, nullable=False, default=0, comment="tries with an answer or a failure"),
        sa.Column("failures", sa.Integer, nullable=False, default=0, comment="of those, what counts towards dead"),
        sa.Column("fence", sa.Integer, nullable=False, default=0),
        sa.Column("lease_until", UtcDateTime, nullable=True),
        sa.Column("lost_leases", sa.Integer, nullable=False, default=0, comment="in a row; reset by any outcome"),
        sa.Column("lost_isolated", sa.Integer, nullable=False, default=0, comment="of those, while it ran alone"),
        sa.Column("isolated", sa.Boolean, nullable=False, default=False),
        sa.Column("requested", sa.Integer, nullable=False, default=0, comment="raised when it is asked for again"),
        sa.Column("replayed", sa.Boolean, nullable=False, default=False, comment="a person asked since the claim"),
        sa.Column("claimed_at", UtcDateTime, nullable=True),
        sa.Column("running_on", sa.Text, nullable=True, comment="the worker that holds the lease"),
        sa.Column("enqueued_at", UtcDateTime, nullable=True, comment="when a message for it was put into Redis"),
        sa.Column("enqueued_epoch", sa.Text, nullable=True, comment="which life of Redis holds that message"),
        sa.Column("last_error", sa.Text, nullable=True),
        sa.Column("dead_cause", sa.Text, nullable=True),
    )


def claim(
    database: Database,
    work: WorkKind,
    key: tuple[str, ...],
    *,
    lease_seconds: float,
    deadline_seconds: float,
    worker: str,
    task_id: str | None = None,
    isolated: bool = False,
    extra: Mapping[str, Any] | None = None,
) -> Claim | None:
    """Claims the row, committed before anything else happens, or returns None: done, leased, not due, paused.

    A suspect row (see ALONE_AFTER) is only given out with `alone`. One that lost its lease alone too often is
    marked dead here, as poison.
    """
    deadline = time.monotonic() + deadline_seconds
    row = database.transact(
        lambda connection: _claim(
            connection, work, key, lease_seconds=lease_seconds, worker=worker, isolated=isolated, extra=extra
        )
    )
    if row is None:
        return None
    return Claim(work, key, row["fence"], row["attempts"], row["failures"], row["claimed_at"], deadline, row, task_id)


def needs_isolation(connection: Connection, work: WorkKind, key: tuple[str, ...]) -> bool:
    """Whether the row could be claimed now, but only to run alone."""
    table = work.table
    due = sa.select(sa.literal(1)).where(
        work.matches(key), _due(table), ~is_paused(table, work.name), ~_may_share_process(table)
    )
    return connection.execute(due).first() is not None


def complete(connection: Connection, claim: Claim, **values: Any) -> None:
    """Ends the work. A replay that came in meanwhile makes the row due again. Raises LeaseLost."""
    statement = _finishing(claim.work)
    _settle(connection, claim, statement.values(**values) if values else statement, Outcome.DONE)


def reschedule(
    connection: Connection,
    claim: Claim,
    *,
    seconds: float | None,
    outcome: Outcome = Outcome.POSTPONED,
    tried: bool = True,
    counted: bool = False,
    failed: bool = False,
    error: str | None = None,
    http_status: int | None = None,
    trace_id: str | None = None,
    status: WorkStatus = WorkStatus.PENDING,
    **values: Any,
) -> None:
    """Puts the row back, due in so many seconds (None: when a person says so). Raises LeaseLost.

    tried: it got as far as a try, which the history keeps; waiting for the budget is none.
    counted: the try had an answer or a failure. failed: it also counts towards giving up (an outage does not).
    Something that asked for the row since the claim makes it due at once.
    """
    table = claim.work.table
    asked_again = _asked_again(claim)
    due = None if seconds is None else moment(seconds)
    late = {"lane": sa.case((table.c.lane < Lane.RETRY, Lane.RETRY), else_=table.c.lane)} if counted else {}
    put_back = {
        "status": status,
        "next_attempt_at": due if status is WorkStatus.UNCLEAR else sa.case((asked_again, moment()), else_=due),
        "attempts": table.c.attempts if counted else table.c.attempts - 1,
        "failures": table.c.failures + (1 if failed else 0),
        "last_error": error,
        **late,
        **values,
    }
    statement = _ending(claim.work).values(put_back)
    _settle(connection, claim, statement, outcome, tried=tried, error=error, http_status=http_status, trace_id=trace_id)


def abort(connection: Connection, claim: Claim, *, error: str, first_seconds: float) -> None:
    """Puts back a row whose attempt raised what nobody expected; too often, and it is dead. Raises LeaseLost."""
    may_go_on = claim.failures + 1 < FAILURES_ALLOWED
    values = dict(claim.work.after_abort)
    if not may_go_on:
        unclear = values.get("status", sa.literal(WorkStatus.PENDING)) == WorkStatus.UNCLEAR
        asked_again = _asked_again(claim)
        values["status"] = sa.case(
            (unclear, WorkStatus.UNCLEAR), (asked_again, WorkStatus.PENDING), else_=WorkStatus.DEAD
        )
        values["dead_cause"] = sa.case((unclear | asked_again, None), else_="broken")
    reschedule(
        connection, claim, seconds=backoff(claim.attempts, first_seconds=first_seconds) if may_go_on else None,
        outcome=Outcome.FAILED, counted=True, failed=True, error=error, **values,
    )  # fmt: skip


def dead_letter(
    connection: Connection,
    claim: Claim,
    *,
    cause: str,
    error: str | None = None,
    http_status: int | None = None,
    trace_id: str | None = None,
    **values: Any,
) -> None:
    """Makes the row dead: it waits for a person, a listing or a new notification. Raises LeaseLost.

    One of them may have come since the claim: then the row is due at once instead.
    """
    asked_again = _asked_again(claim)
    dead = {
        **values,
        "status": sa.case((asked_again, WorkStatus.PENDING), else_=WorkStatus.DEAD),
        "next_attempt_at": sa.case((asked_again, moment()), else_=None),
        "dead_cause": sa.case((asked_again, None), else_=cause),
        "failures": sa.case((asked_again, 0), else_=claim.work.table.c.failures),
        "last_error": error or cause,
    }
    statement = _ending(claim.work).values(dead)
    _settle(
        connection, claim, statement, Outcome.DEAD, error=error or cause, http_status=http_status, trace_id=trace_id
    )


def discard(connection: Connection, claim: Claim, **facts: Any) -> None:
    """Deletes a row that turned out to be no work at all. Raises LeaseLost."""
    _keep(connection, claim, Outcome.DROPPED, **facts)
    deleted = connection.execute(sa.delete(claim.work.table).where(_is_ours(claim.work)), _this(claim))
    if deleted.rowcount != 1:
        raise LeaseLost


def holds(connection: Connection, claim: Claim, *, seconds: float) -> bool:
    """Whether the lease is still ours and runs at least so many seconds on, by the database's clock."""
    table = claim.work.table
    row = sa.select(sa.literal(1)).where(_is_ours(claim.work), table.c.lease_until > moment(seconds))
    return connection.execute(row, _this(claim)).first() is not None


def update_under_lease(connection: Connection, claim: Claim, *, seconds: float, **values: Any) -> bool:
    """Writes values if the lease is still ours and runs at least so many seconds on; False: it does not, stop."""
    table = claim.work.table
    statement = sa.update(table).where(_is_ours(claim.work), table.c.lease_until > moment(seconds)).values(**values)
    return bool(connection.execute(statement, _this(claim)).rowcount)


def backoff(attempts: int, *, first_seconds: float) -> float:
    """The delay after so many tries, in seconds: doubling, capped, with half of it left to chance."""
    longest = min(LONGEST_DELAY_SECONDS, first_seconds * 2.0 ** min(attempts - 1, 30))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def revive(table: sa.Table) -> dict[str, Any]:
    """Values that make a row due as if it were new. For UPDATEs that a person, a listing or a notification causes."""
    return {
        "status": WorkStatus.PENDING,
        "next_attempt_at": moment(),
        "failures": 0,
        "lost_leases": 0,
        "lost_isolated": 0,
        "isolated": False,
        "dead_cause": None,
        "enqueued_at": None,
        "enqueued_epoch": None,
        "requested": table.c.requested + 1,
    }


def _claim(
    connection: Connection,
    work: WorkKind,
    key: tuple[str, ...],
    *,
    lease_seconds: float,
    worker: str,
    isolated: bool,
    extra: Mapping[str, Any] | None,
) -> Mapping[str, Any] | None:
    statement = _claiming(work, isolated=isolated)
    if extra:
        statement = statement.values(**extra)
    parameters = {"this_lease": lease_seconds, "this_worker": worker, **work.parameters(key)}
    claimed = connection.execute(statement, parameters).first()
    if claimed is None:
        return None
    row = dict(claimed._mapping)
    ours = Claim(work, key, row["fence"], row["attempts"], row["failures"], row["claimed_at"], 0.0, row)
    if row["lost_leases"]:
        _keep(connection, ours, Outcome.LEASE_LOST, fence=ours.fence - 1, started_at=None, worker=None)
    if row["lost_isolated"] >= POISON_AFTER_LOST_ISOLATED:
        dead_letter(connection, ours, cause="poison", error="each attempt ended the worker process that made it")
        return None
    return row


@cache
def _claiming(work: WorkKind, *, isolated: bool) -> sa.Update:
    """Parameters: the key's, `this_lease` (seconds), `this_worker`.

    Built once, as what follows: building it anew costs several times its execution.
    """
    table = work.table
    taken_over = table.c.status == WorkStatus.RUNNING
    lease_until = moment(sa.bindparam("this_lease", type_=sa.Double))
    return (
        sa.update(table)
        .where(
            work.matches_parameters(),
            _due(table),
            ~is_paused(table, work.name),
            sa.true() if isolated else _may_share_process(table),
        )
        .values(
            status=WorkStatus.RUNNING,
            fence=table.c.fence + 1,
            attempts=table.c.attempts + 1,
            lease_until=lease_until,
            next_attempt_at=lease_until,
            lost_leases=table.c.lost_leases + sa.case((taken_over, 1), else_=0),
            lost_isolated=table.c.lost_isolated + sa.case((taken_over & table.c.isolated, 1), else_=0),
            isolated=isolated,
            replayed=False,
            claimed_at=moment(),
            running_on=sa.bindparam("this_worker"),
            enqueued_at=None,
            enqueued_epoch=None,
        )
        .returning(*table.c)
    )


@cache
def _finishing(work: WorkKind) -> sa.Update:
    """Parameters: `_this` claim."""
    replayed = work.table.c.replayed
    return _ending(work).values(
        status=sa.case((replayed, WorkStatus.PENDING), else_=WorkStatus.DONE),
        next_attempt_at=sa.case((replayed, moment()), else_=None),
        last_error=None,
        dead_cause=None,
        failures=0,
    )


def _ending(work: WorkKind) -> sa.Update:
    """Takes the lease off the row. Parameters: `_this` claim."""
    return sa.update(work.table).where(_is_ours(work)).values(_CLEARED)


_CLEARED = {
    "lease_until": None, "claimed_at": None, "running_on": None, "lost_leases": 0, "lost_isolated": 0,
    "isolated": False, "enqueued_at": None, "enqueued_epoch": None,
}  # fmt: skip
_KEEPING = sa.insert(attempts_table).values(ended_at=moment())


def _settle(
    connection: Connection, claim: Claim, statement: sa.Update, outcome: Outcome, *, tried: bool = True, **facts: Any
) -> None:
    if connection.execute(statement, _this(claim)).rowcount != 1:
        raise LeaseLost
    if tried:
        _keep(connection, claim, outcome, **facts)


def _keep(connection: Connection, claim: Claim, outcome: Outcome, **facts: Any) -> None:
    """Appends this try to the history."""
    known = {
        "work": claim.work.name,
        "location_id": claim.row["location_id"],
        "call_id": claim.row["call_id"],
        "follow_up_id": claim.row.get("follow_up_id"),
        "fence": claim.fence,
        "task_id": claim.task_id,
        "worker": claim.row["running_on"],
        "started_at": claim.claimed_at,
        "outcome": outcome,
    }
    connection.execute(_KEEPING, {**known, **facts})


def _is_ours(work: WorkKind) -> sa.ColumnElement[bool]:
    """Parameters: `_this` claim."""
    table = work.table
    return sa.and_(
        work.matches_parameters(), table.c.fence == sa.bindparam("this_fence"), table.c.status == WorkStatus.RUNNING
    )


def _this(claim: Claim) -> dict[str, Any]:
    return {"this_fence": claim.fence, **claim.work.parameters(claim.key)}


def _asked_again(claim: Claim) -> sa.ColumnElement[bool]:
    table = claim.work.table
    return sa.or_(table.c.replayed, table.c.requested != claim.row["requested"])


def _due(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.and_(table.c.status.in_(OPEN), table.c.next_attempt_at <= moment())


def _may_share_process(table: sa.Table) -> sa.ColumnElement[bool]:
    return table.c.lost_leases + sa.case((table.c.status == WorkStatus.RUNNING, 1), else_=0) < ISOLATED_AFTER
