"""Enqueues whatever is due: first tries, retries, leases that ran out. The only sender of work.

Runs when the bell rings and every second anyway: as a task when web or beat ring, and in each worker's own bell thread
when an attempt has ended, which needs no message and no free slot. Many at once do no harm: rows are marked as sent
before anything is, and a row that was sent twice is claimed once.
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
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

KINDS = (CALL, FOLLOW_UP)
EPOCH_KEY = "leadway:epoch"
TASKS = {"call": "calls.fetch", "follow_up": "follow_ups.send"}
SHARE_OF_AN_ACCOUNT = 4
"""One account is given at most this fraction (a quarter) of all slots."""
IN_STORE = 1.0
"""Of all slots: so many messages wait in Redis beside what is worked on, for the time until the next dispatch."""


@app.task(name="due.dispatch")
def dispatch_due() -> None:
    """Marks and sends what there is room for."""
    this = connections()
    marks = EnqueueMarks(_epoch(this), this.mark_seconds)
    with this.database.reading() as connection:
        limits = _limits(this, heartbeats.live_slots(connection) or this.settings.worker_threads)
    taken = this.database.transact(
        lambda connection: dispatch_order.take_due(connection, KINDS, marks=marks, limits=limits)
    )
    if taken:
        failpoint("due_marked")
        _send(this, taken)
        failpoint("due_sent")


def _send(this: Connections, taken: Sequence[Due]) -> None:
    """Puts a message for each into Redis. What could not be sent is given back, and waits for the next tick."""
    left = list(taken)
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
        in_all=max(2, int(slots * (1 + IN_STORE))),
        per_account=per_account,
        background=max(1, per_account // 2),
        per_10_seconds=this.settings.leadway_requests_per_10_seconds,
    )


def _epoch(this: Connections) -> str:
    """Which life of Redis this is: a random name that it forgets with everything else."""
    if this.redis.get(EPOCH_KEY) is None:
        this.redis.set(EPOCH_KEY, secrets.token_hex(8), nx=True)
    found = this.redis.get(EPOCH_KEY)
    if not isinstance(found, bytes):
        raise RuntimeError("Redis forgot its generation within a moment; the next tick tries again")
    return found.decode()
