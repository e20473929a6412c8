"""The lifecycle of a row of work: request, claim, complete, reschedule, abort, dead-letter; one attempt at a time.

A claim is one conditional UPDATE that sets a lease and takes the next fence. A worker that comes back after its lease
finds another fence in the row, or no row, and writes nothing.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.pauses import is_paused
from models.database import insert, moment, on_postgresql
from models.work import history
from models.work.fences import count_fence, next_fence
from models.work.history import Outcome, attempts_table
from models.work.work_rows import (
    IS_DUE,
    IS_LEASED,
    IS_THIS_ROW,
    NEW,
    POISON,
    RELEASED,
    REQUEST_COLUMNS,
    REVIVED,
    Lane,
    Request,
    WorkKey,
    key_values,
    request_of,
    work_table,
)

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

    key: WorkKey
    fence: int
    lane: Lane
    attempts: int
    failures: int
    lost_leases: int
    requested: int
    claimed_at: datetime
    created_at: datetime
    lease_lost_at: datetime | None
    """The end of the run-out lease that this claim took over; None: there was none."""
    last_error: str | None
    request: Request | None
    """Of a call that is not stored yet."""
    worker: str
    task_id: str | None
    deadline: float

    @property
    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()


T = TypeVar("T")


class Transact(Protocol):
    """`Database.transact`, or another that commits."""

    def __call__(self, work: Callable[[Connection], T], /) -> T: ...


class AtClaim(Protocol):
    def __call__(self, connection: Connection, claim: Claim, *, dead: bool) -> None: ...


def add(connection: Connection, key: WorkKey, *, lane: Lane, delay_seconds: float = 0.0, due: bool = True) -> bool:
    """Adds the row, due in `delay_seconds`, or without a due time. Returns False when it is there already."""
    values = {**NEW, **key_values(key), "lane": lane, "due_at": moment(delay_seconds) if due else None}
    statement = insert(connection, work_table).values(values).on_conflict_do_nothing().returning(work_table.c.kind)
    return connection.execute(statement).first() is not None


def request(connection: Connection, key: WorkKey, *, lane: Lane) -> None:
    """Makes the work due because somebody asks for it: a new row, or what is open or dead, revived, in this lane.

    An attempt that is under way is repeated when it ends.
    """
    statement = insert(connection, work_table).values({**NEW, **key_values(key), "lane": lane, "due_at": moment()})
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=["kind", "location_id", "subject"], set_={**REVIVED, "lane": lane}
        )
    )


def bring_forward(connection: Connection, key: WorkKey, *, lane: Lane) -> None:
    """Makes the row due now, a new one if there is none. An attempt that is under way is not repeated."""
    if not add(connection, key, lane=lane):
        waiting = sa.update(work_table).where(IS_THIS_ROW, ~IS_LEASED)
        connection.execute(waiting.values(due_at=moment()), key.parameters)


def start_over(connection: Connection, key: WorkKey, *, lane: Lane) -> None:
    """Makes the row due now, a new one if there is none; an attempt that is under way writes nothing any more."""
    take_from_worker(connection, key)
    bring_forward(connection, key, lane=lane)


@dataclass(frozen=True)
class AskedClaim:
    """A claim that somebody asks for. `deadline`: as the claim's own."""

    key: WorkKey
    lease_seconds: float
    deadline: float
    worker: str
    task_id: str | None = None
    isolated: bool = False
    """Whether the attempt will run while no other one does. A row that is suspected of poison (ISOLATED_AFTER) is
    claimed only so."""
    heeds_pauses: bool = True
    at_claim: AtClaim | None = None
    """Writes in the claim's transaction."""


def claim_all(connection: Connection, asked: Sequence[AskedClaim]) -> list[Claim | None]:
    """Claims rows, one for each that is asked for. None: the row is gone, dead, leased, not due, paused, to be claimed
    in isolation, or was asked for before it in this list.

    A row that lost POISON_AFTER_LOST_ISOLATED leases in isolation becomes dead here, and the result is None too;
    `at_claim` is told so by `dead`.
    """
    return [_claim_one(connection, each) for each in asked]


def claim(
    transact: Transact, key: WorkKey, *, lease_seconds: float, deadline_seconds: float, worker: str, **how: Any
) -> Claim | None:
    """Claims one row and commits. `how`: see AskedClaim, as the result is that of `claim_all`."""
    deadline = time.monotonic() + deadline_seconds
    asked = AskedClaim(key, lease_seconds=lease_seconds, deadline=deadline, worker=worker, **how)
    return transact(lambda connection: claim_all(connection, [asked])[0])


def _claim_one(connection: Connection, asked: AskedClaim) -> Claim | None:
    key = asked.key
    parameters = {
        "paused_as": key.kind.paused_as, "lease_seconds": asked.lease_seconds, "worker": asked.worker,
        "isolation": asked.isolated, "heeds_pauses": asked.heeds_pauses,
    }  # fmt: skip
    row = connection.execute(_CLAIM, {**parameters, **key.parameters}).first()
    if row is None:
        return None
    count_fence(connection)
    claimed = Claim(
        key=key, fence=row.fence, lane=Lane(row.lane), attempts=row.attempts, failures=row.failures,
        lost_leases=row.lost_leases, requested=row.requested, claimed_at=row.claimed_at, created_at=row.created_at,
        lease_lost_at=row.lease_lost_at, last_error=row.last_error, request=request_of(row), worker=asked.worker,
        task_id=asked.task_id, deadline=asked.deadline,
    )  # fmt: skip
    if row.lease_lost_at is not None:
        history.append(
            connection, key, fence=None, outcome=Outcome.LEASE_LOST, started_at=None, worker=None, task_id=None
        )
    is_poison = key.kind.may_die and row.lost_isolated >= POISON_AFTER_LOST_ISOLATED
    if asked.at_claim is not None:
        asked.at_claim(connection, claimed, dead=is_poison)
    if is_poison:
        dead_letter(connection, claimed, cause=POISON, error="each attempt ended the worker process that made it")
        return None
    return claimed


def needs_isolation(connection: Connection, key: WorkKey) -> bool:
    """Whether the row could be claimed now, but only in isolation."""
    return connection.execute(_NEEDS_ISOLATION, {"paused_as": key.kind.paused_as, **key.parameters}).first() is not None


def complete(connection: Connection, claim: Claim, *, tried: bool = True) -> None:
    """Completes the work: the row goes, or is due again at once when it was requested since the claim.

    tried: the history keeps the attempt. Raises LeaseLost.
    """
    if tried and on_postgresql(connection):
        parameters = {**_parameters(claim), "as_claimed": claim.requested, **_history_values(claim, Outcome.DONE)}
        if connection.execute(_COMPLETE_AND_APPEND, parameters).first() is not None:
            return
    elif connection.execute(_COMPLETE, {"as_claimed": claim.requested, **_parameters(claim)}).rowcount:
        if tried:
            _append_to_history(connection, claim, Outcome.DONE)
        return
    _release(connection, claim, due_at=moment(), attempts=0, failures=0, last_error=None)
    if tried:
        _append_to_history(connection, claim, Outcome.DONE)


def reschedule(
    connection: Connection,
    claim: Claim,
    *,
    seconds: float | None,
    outcome: Outcome = Outcome.POSTPONED,
    tried: bool = True,
    counted: bool = False,
    failed: bool = False,
    stored: bool = False,
    error: str | None = None,
    http_status: int | None = None,
    trace_id: str | None = None,
) -> None:
    """Releases the row and makes it due in `seconds`; None: only a person makes it due. Raises LeaseLost.

    tried: the attempt got as far as a request, so the history keeps it. An attempt that waited for the budget did not.
    counted: the request had an answer or a failure. failed: it also counts towards dead-lettering; an outage does not.
    stored: the claim's request is stored with its call, so the row forgets it.
    A row that was requested again since the claim is due at once and keeps its request, which may say more.
    """
    due = None if seconds is None else moment(seconds)
    attempts = work_table.c.attempts if counted else work_table.c.attempts - 1
    lane = {"lane": sa.case((work_table.c.lane < Lane.RETRY, Lane.RETRY), else_=work_table.c.lane)} if counted else {}
    requested = _was_requested_since(claim)
    request = {each.name: sa.case((requested, each), else_=None) for each in REQUEST_COLUMNS if stored}
    _release(
        connection, claim, due_at=sa.case((requested, moment()), else_=due), attempts=attempts,
        failures=work_table.c.failures + (1 if failed else 0), last_error=error, **lane, **request,
    )  # fmt: skip
    if tried:
        _append_to_history(connection, claim, outcome, error=error, http_status=http_status, trace_id=trace_id)


def go_on(connection: Connection, claim: Claim, *, seconds: float = 0.0) -> None:
    """Releases a row whose attempt was one step of several, as if it had never been tried; the next step is due in
    `seconds`. The history keeps no such attempt. Raises LeaseLost."""
    _release(connection, claim, due_at=moment(seconds), attempts=0, failures=0, last_error=None)


def abort(connection: Connection, claim: Claim, *, error: str, first_seconds: float) -> bool:
    """Reschedules a row whose attempt raised an unexpected exception. Raises LeaseLost.

    After FAILURES_ALLOWED failures the row becomes dead, unless its kind may not die. Returns whether it did.
    """
    if claim.key.kind.may_die and claim.failures + 1 >= FAILURES_ALLOWED:
        dead_letter(connection, claim, cause="broken", error=error)
        return True
    seconds = backoff(claim.attempts, first_seconds=first_seconds)
    reschedule(connection, claim, seconds=seconds, outcome=Outcome.FAILED, counted=True, failed=True, error=error)
    return False


def dead_letter(
    connection: Connection,
    claim: Claim,
    *,
    cause: str,
    error: str | None = None,
    http_status: int | None = None,
    trace_id: str | None = None,
) -> None:
    """Makes the row dead: it waits for a person, a listing or a new notification. Raises LeaseLost.

    A row that was requested again since the claim becomes due at once instead.
    """
    requested = _was_requested_since(claim)
    _release(
        connection, claim, due_at=sa.case((requested, moment()), else_=None),
        dead_cause=sa.case((requested, None), else_=cause),
        failures=sa.case((requested, 0), else_=work_table.c.failures), last_error=error or cause,
    )  # fmt: skip
    _append_to_history(
        connection, claim, Outcome.DEAD, error=error or cause, http_status=http_status, trace_id=trace_id
    )


def discard(connection: Connection, claim: Claim, **facts: Any) -> None:
    """Deletes a row that turned out to be no work, and keeps the attempt in the history. Raises LeaseLost."""
    if not connection.execute(_DISCARD, _parameters(claim)).rowcount:
        raise LeaseLost
    _append_to_history(connection, claim, Outcome.DROPPED, **facts)


def hold(connection: Connection, claim: Claim, *, seconds: float) -> bool:
    """Locks the row if the lease is still this claim's and lasts at least `seconds` more, by the database's clock.

    Returns False when it does not: the caller must write nothing.
    """
    return bool(connection.execute(_HOLD, {"this_lease": seconds, **_parameters(claim)}).rowcount)


def lock(connection: Connection, key: WorkKey) -> bool:
    """Locks the row for a person's decision, whoever works on it. Returns False when there is no such row."""
    return bool(connection.execute(_LOCK, key.parameters).rowcount)


def take_from_worker(connection: Connection, key: WorkKey) -> None:
    """Gives the row a new fence and ends its lease: an attempt that is under way writes nothing any more."""
    connection.execute(_TAKE_FROM_WORKER, key.parameters)
    count_fence(connection)


def give_back(connection: Connection, key: WorkKey, *, worker: str) -> None:
    """Makes a row due again whose lease this worker holds and will not use, because it is told to end."""
    ours = sa.update(work_table).where(IS_THIS_ROW, IS_LEASED, work_table.c.running_on == worker)
    connection.execute(ours.values({**RELEASED, "due_at": moment()}), key.parameters)


def remove(connection: Connection, key: WorkKey) -> None:
    """Deletes the row, which the caller has locked."""
    connection.execute(_REMOVE, key.parameters)


def backoff(attempts: int, *, first_seconds: float) -> float:
    """The delay in seconds after `attempts` tries: doubles up to LONGEST_DELAY_SECONDS, half of it left to chance."""
    longest = min(LONGEST_DELAY_SECONDS, first_seconds * 2.0 ** min(attempts - 1, 30))
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


# Statements that run for every attempt are built once: building one costs several times its execution.

_may_share_process = work_table.c.lost_leases + sa.case((IS_LEASED, 1), else_=0) < ISOLATED_AFTER
"""A leased row counts as one more lost lease: it is claimed only when its lease has run out."""
_isolation: sa.BindParameter[bool] = sa.bindparam("isolation", type_=sa.Boolean)
_is_held_back = sa.and_(
    sa.bindparam("heeds_pauses", type_=sa.Boolean), is_paused(work_table, sa.bindparam("paused_as", type_=sa.Text))
)
_lease_until = moment(sa.bindparam("lease_seconds", type_=sa.Double))
_CLAIM = (
    sa.update(work_table)
    .where(IS_THIS_ROW, sa.and_(IS_DUE, ~_is_held_back, sa.or_(_isolation, _may_share_process)).is_(sa.true()))
    .values(
        fence=next_fence(),
        attempts=work_table.c.attempts + 1,
        lease_until=_lease_until,
        due_at=_lease_until,
        lease_lost_at=work_table.c.lease_until,
        lost_leases=work_table.c.lost_leases + sa.case((IS_LEASED, 1), else_=0),
        lost_isolated=work_table.c.lost_isolated + sa.case((IS_LEASED & work_table.c.isolated, 1), else_=0),
        isolated=_isolation,
        claimed_at=moment(),
        running_on=sa.bindparam("worker"),
        enqueued_at=None,
        enqueued_epoch=None,
    )
    .returning(*work_table.c)
)
"""One row in one statement, whose key is looked up and whose conditions are put so that no other index seems to help.
Else PostgreSQL might go through all entries of an index of `work`, and those are many while a reader keeps the
completed rows (docs/decisions/0094)."""
_is_paused = is_paused(work_table, sa.bindparam("paused_as"))
_NEEDS_ISOLATION = sa.select(sa.literal(1)).where(IS_THIS_ROW, IS_DUE, ~_is_paused, ~_may_share_process)

_is_claimed = sa.and_(IS_THIS_ROW, work_table.c.fence == sa.bindparam("this_fence"), IS_LEASED)
"""Whether the row is still the claim's. Parameters: `_parameters(claim)`."""
_COMPLETE = sa.delete(work_table).where(_is_claimed, work_table.c.requested == sa.bindparam("as_claimed"))

_completed = _COMPLETE.returning(work_table.c.fence).cte("completed")
_COMPLETE_AND_APPEND = (
    sa.insert(attempts_table)
    .from_select(
        [*history.APPENDED, "ended_at"],
        sa.select(
            *(sa.bindparam(f"to_{name}", type_=attempts_table.c[name].type) for name in history.APPENDED), moment()
        ).select_from(_completed),
    )
    .returning(attempts_table.c.attempt_id)
)
"""On PostgreSQL: deleted and remembered in one round trip. No row: it was requested since, or the lease is lost."""
_DISCARD = sa.delete(work_table).where(_is_claimed)
_HOLD = (
    sa.update(work_table)
    .where(_is_claimed, work_table.c.lease_until > moment(sa.bindparam("this_lease", type_=sa.Double)))
    .values(isolated=work_table.c.isolated)
)
_LOCK = sa.update(work_table).where(IS_THIS_ROW).values(isolated=work_table.c.isolated)
_TAKE_FROM_WORKER = sa.update(work_table).where(IS_THIS_ROW).values({**RELEASED, "fence": next_fence()})
_REMOVE = sa.delete(work_table).where(IS_THIS_ROW)


def _release(connection: Connection, claim: Claim, **values: Any) -> None:
    """Ends the lease and writes column values. Raises LeaseLost."""
    statement = sa.update(work_table).where(_is_claimed).values({**RELEASED, **values})
    if not connection.execute(statement, _parameters(claim)).rowcount:
        raise LeaseLost


def _append_to_history(connection: Connection, claim: Claim, outcome: Outcome, **facts: Any) -> None:
    history.append(
        connection, claim.key, fence=claim.fence, outcome=outcome, started_at=claim.claimed_at, worker=claim.worker,
        task_id=claim.task_id, **facts,
    )  # fmt: skip


def _history_values(claim: Claim, outcome: Outcome) -> dict[str, Any]:
    values = {
        **key_values(claim.key), "fence": claim.fence, "outcome": outcome, "started_at": claim.claimed_at,
        "worker": claim.worker, "task_id": claim.task_id,
    }  # fmt: skip
    return {f"to_{name}": value for name, value in values.items()}


def _parameters(claim: Claim) -> dict[str, Any]:
    return {"this_fence": claim.fence, **claim.key.parameters}


def _was_requested_since(claim: Claim) -> sa.ColumnElement[bool]:
    return work_table.c.requested != claim.requested
