"""The frame of every attempt: claimed, timed, isolated where its row may be poison, never writing after its lease.

A task is one attempt. What it learns goes into the row; Celery sees an error only if the row cannot be claimed.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog
from celery import current_task
from sqlalchemy.exc import SQLAlchemyError

from models.failpoints import failpoint
from models.work import lifecycle
from models.work.lifecycle import Claim, LeaseLost
from models.work.work_rows import WorkKind
from workers.attempts.isolation import IsolationTimeout, isolation
from workers.process.connections import Connections, connections
from workers.process.ticks import dispatch_wanted
from workers.telemetry import metrics

log = structlog.get_logger(__name__)


def attempt(
    work: WorkKind,
    key: tuple[str, ...],
    carry_out: Callable[[Connections, Claim], str],
    *,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Claims the row and carries out one attempt; returns at once when there is nothing to claim.

    `carry_out(connections, claim)` returns the attempt's outcome, one word for log and metric, and raises LeaseLost
    when somebody took the row over. `extra`: columns that the claim writes too. A row that has lost several leases in
    a row may be poison: it runs isolated, when no other attempt of this process would die with it. Raises only what the
    database raises at the claim.
    """
    this = connections()
    with isolation.shared():
        claim = _claim(this, work, key, extra=extra, isolated=False)
        if claim is not None:
            return _carry_out(this, claim, carry_out)
    with this.database.reading() as connection:
        may_be_poison = lifecycle.needs_isolation(connection, work, key)
    if not may_be_poison:
        return None
    try:
        with isolation.exclusive(patience_seconds=this.attempt_seconds):
            claim = _claim(this, work, key, extra=extra, isolated=True)
            if claim is not None:
                log.warning("isolated_attempt_started", work=work.name, key=key, lost_leases=claim.row["lost_leases"])
                return _carry_out(this, claim, carry_out)
    except IsolationTimeout:
        log.info("isolation_timed_out", work=work.name, key=key)


def _claim(
    this: Connections, work: WorkKind, key: tuple[str, ...], *, extra: Mapping[str, Any] | None, isolated: bool
) -> Claim | None:
    return lifecycle.claim(
        this.database,
        work,
        key,
        lease_seconds=this.settings.leadway_lease_seconds,
        deadline_seconds=this.attempt_seconds,
        worker=this.worker,
        task_id=current_task.request.id if current_task else None,
        isolated=isolated,
        extra=extra,
    )


def _carry_out(this: Connections, claim: Claim, carry_out: Callable[[Connections, Claim], str]) -> None:
    structlog.contextvars.bind_contextvars(work=claim.work.name, key=claim.key, fence=claim.fence)
    try:
        failpoint(f"{claim.work.name}_claimed")
        outcome = carry_out(this, claim)
    except LeaseLost:
        outcome = "lease_lost"
    except Exception as error:
        # Not raised again: Celery would log its text, which may quote a row. If the row cannot be written now, its
        # lease runs out and another attempt takes it over.
        outcome = "broken"
        log.exception("attempt_raised")
        metrics.UNEXPECTED_ERRORS.labels(claim.work.name, type(error).__name__).inc()
        _abort(this, claim, error)
    finally:
        structlog.contextvars.unbind_contextvars("work", "key", "fence")
    dispatch_wanted.set()  # it may have planned follow-ups, and it has freed a slot for what waits
    metrics.ATTEMPTS.labels(claim.work.name, outcome).inc()
    took = round(1000 * (this.attempt_seconds - claim.seconds_left))
    log.info("attempt_ended", work=claim.work.name, key=claim.key, outcome=outcome, milliseconds=took)


def _abort(this: Connections, claim: Claim, error: Exception) -> None:
    first_seconds = this.settings.leadway_retry_seconds
    name = type(error).__name__
    with suppress(LeaseLost, SQLAlchemyError):
        this.database.transact(
            lambda connection: lifecycle.abort(connection, claim, error=name, first_seconds=first_seconds)
        )
