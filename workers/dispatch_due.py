"""Enqueues what is due: first tries, retries, leases that ran out. Nothing else enqueues work.

Runs at each wake-up and every second anyway. Several at once do no harm: a row gets its enqueue mark before its message
is sent, and a row that was enqueued twice is claimed once.
"""

import secrets
from collections.abc import Sequence

import structlog

from models.calls.calls import CALL
from models.failpoints import failpoint
from models.follow_ups.follow_ups import FOLLOW_UP
from models.reconciling.windows import WINDOW
from models.work import dispatch_order, heartbeats
from models.work.dispatch_order import DispatchLimits, Due, EnqueueMarks
from workers.app import app
from workers.leadway.credentials import GRANT
from workers.process.connections import Connections, connections
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

KINDS = (CALL, FOLLOW_UP, WINDOW, GRANT)
EPOCH_KEY = "leadway:epoch"
SHARE_OF_AN_ACCOUNT = 4
"""One account gets at most one part in four of all slots."""
QUEUED_PER_SLOT = 1.0
"""Messages that may wait in Redis for each slot, beside its attempt: work until the next dispatch."""


@app.task(name="due.dispatch")
def dispatch_due() -> None:
    """Enqueues as much of what is due as the slots allow. Raises what database or Redis raise."""
    this = connections()
    marks = EnqueueMarks(_epoch(this), this.mark_seconds)
    with this.database.reading() as connection:
        accounts = dispatch_order.due_accounts(connection, this.scan_memory)
        if not accounts:
            return
        limits = _limits(this, heartbeats.live_slots(connection) or this.settings.worker_threads)
    marked = this.database.transact(
        lambda connection: dispatch_order.take_due(connection, KINDS, accounts, marks=marks, limits=limits)
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
                key = left[0].key
                arguments = (key.location_id, key.subject)
                app.send_task(
                    key.kind.task, args=arguments, producer=producer, queue=key.kind.queue, argsrepr=repr(arguments)
                )
                metrics.ENQUEUED.labels(key.kind.name).inc()
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
