"""Enqueues what is due: first tries, retries, leases that ran out. Nothing else enqueues calls or follow-ups.

Runs at each wake-up and every second anyway: as a task when web or beat asks for it, and in each worker's waker thread
when an attempt has ended, which needs no message and no free slot. Several at once do no harm: a row gets its enqueue
mark before its message is sent, and a row that was enqueued twice is claimed once.
"""

import secrets
from collections.abc import Sequence

import structlog

from models.calls.calls import CALL
from models.failpoints import failpoint
from models.follow_ups.follow_ups import FOLLOW_UP
from models.work import dispatch_order, heartbeats
from models.work.dispatch_order import DispatchLimits, Due, EnqueueMarks
from workers.app import app
from workers.process.connections import Connections, connections
from workers.take_in import take_in
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

KINDS = (CALL, FOLLOW_UP)
EPOCH_KEY = "leadway:epoch"
TASKS = {"call": "calls.fetch", "follow_up": "follow_ups.send"}
"""The task of each kind of work."""
SHARE_OF_AN_ACCOUNT = 4
"""One account gets at most one part in four of all slots."""
QUEUED_PER_SLOT = 1.0
"""Messages that may wait in Redis for each slot, beside its attempt: work until the next dispatch."""


@app.task(name="due.dispatch")
def dispatch_due() -> None:
    """Enqueues as much of what is due as the slots allow, taking the inbox in before. Raises what database or Redis
    raise."""
    this = connections()
    take_in(this.database)
    marks = EnqueueMarks(_epoch(this), this.mark_seconds)
    with this.database.reading() as connection:
        limits = _limits(this, heartbeats.live_slots(connection) or this.settings.worker_threads)
    marked = this.database.transact(
        lambda connection: dispatch_order.take_due(connection, KINDS, marks=marks, limits=limits)
    )
    if marked:
        failpoint("due_marked")
        _send(this, marked)
        failpoint("due_sent")


def _send(this: Connections, marked: Sequence[Due]) -> None:
    """Puts a message for each row into Redis; rows whose message could not be sent lose their mark."""
    left = list(marked)
    try:
        with app.producer_or_acquire() as producer:
            while left:
                work, key = left[0].work, left[0].key
                app.send_task(
                    TASKS[work.name], args=key, expires=this.mark_seconds, producer=producer, queue=f"{work.name}s",
                    argsrepr=repr(key),
                )  # fmt: skip
                metrics.ENQUEUED.labels(work.name).inc()
                left.pop(0)
    finally:
        if left:
            this.database.transact(lambda connection: dispatch_order.clear_marks(connection, left))


def _limits(this: Connections, slots: int) -> DispatchLimits:
    per_account = max(1, slots // SHARE_OF_AN_ACCOUNT)
    return DispatchLimits(
        in_all=max(2, int(slots * (1 + QUEUED_PER_SLOT))),
        per_account=per_account,
        background=max(1, per_account // 2),
        per_10_seconds=this.settings.leadway_requests_per_10_seconds,
    )


def _epoch(this: Connections) -> str:
    """The epoch of Redis' memory: a random name that Redis forgets when it forgets its queues."""
    if this.redis.get(EPOCH_KEY) is None:
        this.redis.set(EPOCH_KEY, secrets.token_hex(8), nx=True)
    found = this.redis.get(EPOCH_KEY)
    if not isinstance(found, bytes):
        raise RuntimeError("Redis forgot its epoch within a moment; the next tick tries again")
    return found.decode()
