"""The frame of every attempt: claimed, timed, isolated where its row may be poison, never writing after its lease.

A task is one attempt. What it learns goes into the row. Celery is told what became of it, for who watches Flower: an
attempt that failed ends its task with an exception (`tell_celery`), long after the row was written.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Protocol, TypeVar

import structlog
from celery import current_task
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from models.failpoints import failpoint
from models.work import lifecycle
from models.work.lifecycle import AskedClaim, AtClaim, Claim, LeaseLost
from models.work.work_rows import WorkKey
from workers.attempts.isolation import IsolationTimeout, isolation
from workers.process.connections import Connections, connections
from workers.process.ticks import dispatch_wanted
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

Ended = TypeVar("Ended")
T = TypeVar("T")


class AttemptFailed(Exception):
    """Ends a task whose attempt failed. Its class is named by what happened; a text could quote a row."""

    outcome = "failed"

    def __reduce__(self) -> tuple[Callable[[str], "AttemptFailed"], tuple[str]]:
        return _failed, (self.outcome,)  # Celery shows what it can pickle, else a class above it


class AtAbort(Protocol):
    def __call__(self, connection: Connection, claim: Claim, *, dead: bool) -> None: ...


@dataclass
class Attempt:
    """One attempt at a claimed row. Whoever makes it sets its outcome: one word for log and metric."""

    this: Connections
    claim: Claim
    outcome: str = "unfinished"
    call_id: str | None = None
    """Of the call that a follow-up is owed for, when it is known; for the log."""

    def commit(self, write: Callable[[Connection], T]) -> T:
        """Runs `write` in a transaction, which it may share with other attempts, and again if the connection broke."""
        return self.this.grouped.transact(write, order=_order(self.claim.key))

    def commit_with_others(self, many: Callable[[Connection, Sequence[Ended]], Sequence[T]], item: Ended) -> T:
        """The same for what is done for several attempts at once: `many` is called with the items of all that wait."""
        return self.this.grouped.transact_many(many, item, order=_order(self.claim.key))

    def commit_alone(self, write: Callable[[Connection], T]) -> T:
        """The same in a transaction of its own, for what takes so long that no other attempt shall wait for it."""
        return self.this.database.transact(write)


def tell_celery(attempt: Attempt, *, succeeded: Collection[str]) -> None:
    """The last step of a task. Raises AttemptFailed for an outcome that is not among those; not in a process that calls
    the task's function itself."""
    if attempt.outcome not in succeeded and current_task and not current_task.request.called_directly:
        raise _failed(attempt.outcome)


def _failed(outcome: str) -> AttemptFailed:
    return _failure_of(outcome)()


@cache
def _failure_of(outcome: str) -> type[AttemptFailed]:
    return type("".join(map(str.capitalize, outcome.split("_"))), (AttemptFailed,), {"outcome": outcome})


@contextmanager
def claimed(
    key: WorkKey,
    *,
    lease_seconds: float | None = None,
    at_claim: AtClaim | None = None,
    at_abort: AtAbort | None = None,
) -> Iterator[Attempt | None]:
    """Claims the row for the block; None: there is nothing to claim.

    A block that raises ends its attempt: LeaseLost because somebody took the row over, anything else is logged and
    aborts the attempt. `lease_seconds`: if it is not LEADWAY_LEASE_SECONDS. `at_claim` and `at_abort` write in the
    transactions of claim and abort. A row that has lost several leases in a row may be poison: it runs isolated, when
    no other attempt of this process would die with it. Raises only what the database raises at the claim.
    """
    this = connections()
    lease_seconds = lease_seconds or this.settings.leadway_lease_seconds
    with isolation.shared():
        claim = _claim(this, key, isolated=False, lease_seconds=lease_seconds, at_claim=at_claim)
        if claim is not None:
            with _carried_out(Attempt(this, claim), at_abort) as attempt:
                yield attempt
            return
    with this.database.reading() as connection:
        may_be_poison = lifecycle.needs_isolation(connection, key)
    if may_be_poison:
        try:
            with isolation.exclusive(patience_seconds=this.attempt_seconds):
                claim = _claim(this, key, isolated=True, lease_seconds=lease_seconds, at_claim=at_claim)
                if claim is not None:
                    log.warning("isolated_attempt_started", **_names(key), lost_leases=claim.lost_leases)
                    with _carried_out(Attempt(this, claim), at_abort) as attempt:
                        yield attempt
                    return
        except IsolationTimeout:
            log.info("isolation_timed_out", **_names(key))
    yield None


def _claim(
    this: Connections, key: WorkKey, *, isolated: bool, lease_seconds: float, at_claim: AtClaim | None
) -> Claim | None:
    asked = AskedClaim(
        key,
        lease_seconds=lease_seconds,
        deadline=time.monotonic() + this.attempt_seconds,
        worker=this.worker,
        task_id=current_task.request.id if current_task else None,
        isolated=isolated,
        at_claim=at_claim,
    )
    claim = this.claims.transact_many(lifecycle.claim_all, asked, order=_order(key))
    if claim is not None:
        this.greatest_fence.saw(claim.fence)
    return claim


@contextmanager
def _carried_out(attempt: Attempt, at_abort: AtAbort | None) -> Iterator[Attempt]:
    claim = attempt.claim
    names = _names(claim.key)
    with structlog.contextvars.bound_contextvars(**names, fence=claim.fence):
        try:
            failpoint(f"{claim.key.kind.name}_claimed")
            yield attempt
        except LeaseLost:
            attempt.outcome = "lease_lost"
        except Exception as error:
            # Not raised again: Celery would log its text, which may quote a row. If the row cannot be written now, its
            # lease runs out and another attempt takes it over.
            attempt.outcome = "broken"
            log.exception("attempt_raised")
            metrics.UNEXPECTED_ERRORS.labels(claim.key.kind.name, type(error).__name__).inc()
            _abort(attempt, type(error).__name__, at_abort)
    dispatch_wanted.set()  # it may have planned follow-ups, and it has freed a slot for what waits
    metrics.ATTEMPTS.labels(claim.key.kind.name, attempt.outcome).inc()
    took = round(1000 * (attempt.this.attempt_seconds - claim.seconds_left))
    of_call = {} if attempt.call_id is None else {"call_id": attempt.call_id}
    log.info("attempt_ended", **(names | of_call), outcome=attempt.outcome, milliseconds=took)


def _abort(attempt: Attempt, error: str, at_abort: AtAbort | None) -> None:
    def write(connection: Connection) -> None:
        first_seconds = attempt.this.settings.leadway_retry_seconds
        dead = lifecycle.abort(connection, attempt.claim, error=error, first_seconds=first_seconds)
        if at_abort is not None:
            at_abort(connection, attempt.claim, dead=dead)

    with suppress(LeaseLost, SQLAlchemyError):
        attempt.commit(write)


def _order(key: WorkKey) -> tuple[str, str, str]:
    return key.kind.name, key.location_id, key.subject


def _names(key: WorkKey) -> dict[str, str]:
    """What each line of an attempt tells: `call_id` and `follow_up_id` too, by which people look for lines."""
    names = {"work": key.kind.name, "location_id": key.location_id, "subject": key.subject}
    return names | ({f"{key.kind.name}_id": key.subject} if key.kind.name in ("call", "follow_up") else {})
