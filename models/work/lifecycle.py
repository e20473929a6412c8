"""The lifecycle of a row of work: claim, complete, reschedule, abort, dead-letter, discard; one attempt at a time.

A claim is one conditional UPDATE that sets a lease and takes the next fence. A worker that comes back after its lease
finds another fence in the row and writes nothing.
"""

import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.pauses import is_paused
from models.database import Database, moment
from models.work import history
from models.work.history import Outcome
from models.work.work_rows import POISON, Lane, WorkKind, WorkStatus, is_due

ISOLATED_AFTER = 2
"""Leases lost in a row after which a row is suspected of poison and runs in isolation: its neighbours survive it."""
POISON_AFTER_LOST_ISOLATED = 2
"""Leases lost in isolation that make a row dead. Against poison one would do, but a process may also be killed from
outside during the isolated attempt, and no call may die of that (docs/decisions/0006)."""
FAILURES_ALLOWED = 10
LONGEST_DELAY_SECONDS = 600.0


class LeaseLost(Exception):
    """Another worker has claimed the row since: the caller must roll back its transaction and write nothing."""


@dataclass(frozen=True)
class Claim:
    """The right to work on one row until `deadline`, in seconds of `time.monotonic`."""

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
    """Claims the row and commits. Returns None when the row is gone, done, leased, not due or paused.

    A row that is suspected of poison (ISOLATED_AFTER) is claimed only with `isolated`. A row that lost
    POISON_AFTER_LOST_ISOLATED leases in isolation becomes dead here, and the result is None too. `extra` holds further
    column values for the claim's UPDATE.
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
    """Whether the row could be claimed now, but only in isolation."""
    table = work.table
    due = sa.select(sa.literal(1)).where(
        work.matches(key), is_due(table), ~is_paused(table, work.name), ~_may_share_process(table)
    )
    return connection.execute(due).first() is not None


def complete(connection: Connection, claim: Claim, **values: Any) -> None:
    """Completes the work. A replay since the claim makes the row due again. Raises LeaseLost."""
    statement = _completing(claim.work)
    _end_attempt(connection, claim, statement.values(**values) if values else statement, Outcome.DONE)


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
    """Releases the row and makes it due in `seconds`; None: only a person makes it due. Raises LeaseLost.

    tried: the attempt got as far as a request, so the history keeps it. An attempt that waited for the budget did not.
    counted: the request had an answer or a failure. failed: it also counts towards dead-lettering; an outage does not.
    A row that was requested again since the claim is due at once, unless it is unclear.
    """
    table = claim.work.table
    requested = _was_requested_since(claim)
    due = None if seconds is None else moment(seconds)
    later_lane = {"lane": sa.case((table.c.lane < Lane.RETRY, Lane.RETRY), else_=table.c.lane)} if counted else {}
    rescheduled = {
        "status": status,
        "next_attempt_at": due if status is WorkStatus.UNCLEAR else sa.case((requested, moment()), else_=due),
        "attempts": table.c.attempts if counted else table.c.attempts - 1,
        "failures": table.c.failures + (1 if failed else 0),
        "last_error": error,
        **later_lane,
        **values,
    }
    statement = _releasing(claim.work).values(rescheduled)
    facts: dict[str, Any] = {"error": error, "http_status": http_status, "trace_id": trace_id}
    _end_attempt(connection, claim, statement, outcome, tried=tried, **facts)


def abort(connection: Connection, claim: Claim, *, error: str, first_seconds: float) -> None:
    """Reschedules a row whose attempt raised an unexpected exception. Raises LeaseLost.

    After FAILURES_ALLOWED failures the row becomes dead, unless its outcome is unclear or it was requested again.
    """
    may_retry = claim.failures + 1 < FAILURES_ALLOWED
    values = dict(claim.work.after_abort)
    if not may_retry:
        unclear = values.get("status", sa.literal(WorkStatus.PENDING)) == WorkStatus.UNCLEAR
        requested = _was_requested_since(claim)
        values["status"] = sa.case(
            (unclear, WorkStatus.UNCLEAR), (requested, WorkStatus.PENDING), else_=WorkStatus.DEAD
        )
        values["dead_cause"] = sa.case((unclear | requested, None), else_="broken")
    reschedule(
        connection, claim, seconds=backoff(claim.attempts, first_seconds=first_seconds) if may_retry else None,
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

    A row that was requested again since the claim becomes due at once instead.
    """
    requested = _was_requested_since(claim)
    dead = {
        **values,
        "status": sa.case((requested, WorkStatus.PENDING), else_=WorkStatus.DEAD),
        "next_attempt_at": sa.case((requested, moment()), else_=None),
        "dead_cause": sa.case((requested, None), else_=cause),
        "failures": sa.case((requested, 0), else_=claim.work.table.c.failures),
        "last_error": error or cause,
    }
    facts: dict[str, Any] = {"error": error or cause, "http_status": http_status, "trace_id": trace_id}
    _end_attempt(connection, claim, _releasing(claim.work).values(dead), Outcome.DEAD, **facts)


def discard(connection: Connection, claim: Claim, **facts: Any) -> None:
    """Deletes a row that turned out to be no work, and keeps the attempt in the history. Raises LeaseLost."""
    _append_to_history(connection, claim, Outcome.DROPPED, **facts)
    deleted = connection.execute(sa.delete(claim.work.table).where(_has_fence(claim.work)), _parameters(claim))
    if deleted.rowcount != 1:
        raise LeaseLost


def update_under_lease(connection: Connection, claim: Claim, *, seconds: float, **values: Any) -> bool:
    """Writes column values if the lease is still this claim's and lasts at least `seconds` more, by the database's
    clock. Returns False when it does not: nothing is written, and the caller must stop."""
    table = claim.work.table
    statement = sa.update(table).where(_has_fence(claim.work), table.c.lease_until > moment(seconds)).values(**values)
    return bool(connection.execute(statement, _parameters(claim)).rowcount)


def backoff(attempts: int, *, first_seconds: float) -> float:
    """The delay in seconds after `attempts` tries: doubles up to LONGEST_DELAY_SECONDS, half of it left to chance."""
    longest = min(LONGEST_DELAY_SECONDS, first_seconds * 2.0 ** min(attempts - 1, 30))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def revive(table: sa.Table) -> dict[str, Any]:
    """Column values that make a row due as if it were new: for a person, a listing or a notification that asks for it.

    They end no lease and leave the fence as it is.
    """
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
    if row["lost_leases"]:
        history.append(
            connection, row, work=work.name, fence=row["fence"] - 1, outcome=Outcome.LEASE_LOST, started_at=None,
            worker=None, task_id=None,
        )  # fmt: skip
    if row["lost_isolated"] >= POISON_AFTER_LOST_ISOLATED:
        ours = Claim(work, key, row["fence"], row["attempts"], row["failures"], row["claimed_at"], 0.0, row)
        dead_letter(connection, ours, cause=POISON, error="each attempt ended the worker process that made it")
        return None
    return row


# Statements that run for every attempt are built once: building one costs several times its execution.


@cache
def _claiming(work: WorkKind, *, isolated: bool) -> sa.Update:
    """Parameters: those of the key, `this_lease` (seconds), `this_worker`."""
    table = work.table
    takes_over = table.c.status == WorkStatus.RUNNING
    lease_until = moment(sa.bindparam("this_lease", type_=sa.Double))
    return (
        sa.update(table)
        .where(
            work.matches_parameters(),
            is_due(table),
            ~is_paused(table, work.name),
            sa.true() if isolated else _may_share_process(table),
        )
        .values(
            status=WorkStatus.RUNNING,
            fence=table.c.fence + 1,
            attempts=table.c.attempts + 1,
            lease_until=lease_until,
            next_attempt_at=lease_until,
            lost_leases=table.c.lost_leases + sa.case((takes_over, 1), else_=0),
            lost_isolated=table.c.lost_isolated + sa.case((takes_over & table.c.isolated, 1), else_=0),
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
def _completing(work: WorkKind) -> sa.Update:
    """Parameters: `_parameters(claim)`."""
    replayed = work.table.c.replayed
    return _releasing(work).values(
        status=sa.case((replayed, WorkStatus.PENDING), else_=WorkStatus.DONE),
        next_attempt_at=sa.case((replayed, moment()), else_=None),
        last_error=None,
        dead_cause=None,
        failures=0,
    )


def _releasing(work: WorkKind) -> sa.Update:
    """Ends the lease. Parameters: `_parameters(claim)`."""
    return sa.update(work.table).where(_has_fence(work)).values(_RELEASED)


_RELEASED = {
    "lease_until": None, "claimed_at": None, "running_on": None, "lost_leases": 0, "lost_isolated": 0,
    "isolated": False, "enqueued_at": None, "enqueued_epoch": None,
}  # fmt: skip


def _end_attempt(
    connection: Connection, claim: Claim, statement: sa.Update, outcome: Outcome, *, tried: bool = True, **facts: Any
) -> None:
    if connection.execute(statement, _parameters(claim)).rowcount != 1:
        raise LeaseLost
    if tried:
        _append_to_history(connection, claim, outcome, **facts)


def _append_to_history(connection: Connection, claim: Claim, outcome: Outcome, **facts: Any) -> None:
    history.append(
        connection, claim.row, work=claim.work.name, fence=claim.fence, outcome=outcome, started_at=claim.claimed_at,
        worker=claim.row["running_on"], task_id=claim.task_id, **facts,
    )  # fmt: skip


def _has_fence(work: WorkKind) -> sa.ColumnElement[bool]:
    """Whether the row is still the claim's. Parameters: `_parameters(claim)`."""
    table = work.table
    return sa.and_(
        work.matches_parameters(), table.c.fence == sa.bindparam("this_fence"), table.c.status == WorkStatus.RUNNING
    )


def _parameters(claim: Claim) -> dict[str, Any]:
    return {"this_fence": claim.fence, **claim.work.parameters(claim.key)}


def _was_requested_since(claim: Claim) -> sa.ColumnElement[bool]:
    table = claim.work.table
    return sa.or_(table.c.replayed, table.c.requested != claim.row["requested"])


def _may_share_process(table: sa.Table) -> sa.ColumnElement[bool]:
    """A running row counts as one more lost lease: it is claimed only when its lease has run out."""
    return table.c.lost_leases + sa.case((table.c.status == WorkStatus.RUNNING, 1), else_=0) < ISOLATED_AFTER
