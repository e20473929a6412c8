"""Enqueues what is due: first tries, retries, leases that ran out. Nothing else enqueues work.

Each worker dispatches every second, in a thread of its own, and sooner when an attempt has ended or web sends a
wake-up. Several at once do no harm: a row gets its enqueue mark before its message is sent, and a row that was enqueued
twice is claimed once. No message expires, for that would compare the clocks of two hosts. Messages that nobody takes
are bounded by their number instead (docs/decisions/0062).
"""

import secrets
from collections import Counter
from collections.abc import Sequence

import structlog
from redis.exceptions import RedisError

from models.calls.calls import CALL
from models.failpoints import failpoint
from models.follow_ups.follow_ups import FOLLOW_UP
from models.reconciling.windows import WINDOW
from models.work import dispatch_order, heartbeats
from models.work.dispatch_order import DispatchLimits, Due, EnqueueMarks
from workers.app import app
from workers.leadway.credentials import GRANT
from workers.process.connections import Connections, connections
from workers.process.task_messages import task_message
from workers.process.ticks import dispatch_wanted
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

KINDS = (CALL, FOLLOW_UP, WINDOW, GRANT)
EPOCH_KEY = "leadway:epoch"
SHARE_OF_AN_ACCOUNT = 4
"""One account gets at most one part in four of all slots."""
QUEUED_PER_SLOT = 1.0
"""Messages that may wait in Redis for each slot, beside its attempt: work until the next dispatch."""


@app.task(name="due.dispatch")
def dispatch_soon() -> None:
    """What web processes sent as a wake-up before workers/process/wake_up.py; kept for one release."""
    dispatch_wanted.set()


def dispatch_due() -> None:
    """Enqueues as much of what is due as the slots allow. Raises what database or Redis raise."""
    this = connections()
    epoch, waiting = _look_at_redis(this)
    marks = EnqueueMarks(epoch, this.mark_seconds)
    with this.database.reading() as connection:
        accounts = dispatch_order.due_accounts(connection, this.scan_memory)
        if not accounts:
            this.scan_memory.left_behind = False
            return
        limits = _limits(this, heartbeats.live_slots(connection) or this.settings.worker_threads, waiting=waiting)
    if limits.room == 0:
        return
    marked = this.database.transact(
        lambda connection: dispatch_order.take_due(
            connection, KINDS, accounts, memory=this.scan_memory, marks=marks, limits=limits
        )
    )
    if marked:
        failpoint("due_marked")
        _send(this, marked)
        failpoint("due_sent")


def _send(this: Connections, marked: Sequence[Due]) -> None:
    """Puts a message for each row into Redis, all in one round trip; if they could not be sent, the rows lose their
    mark."""
    messages: dict[str, list[bytes]] = {}
    for due in marked:
        key = due.key
        assert key.kind.task is not None, "of KINDS each has a task"
        message = task_message(key.kind.task, (key.location_id, key.subject), queue=key.kind.queue)
        messages.setdefault(key.kind.queue, []).append(message)
    try:
        with this.redis.pipeline() as pipe:
            for queue, of_queue in messages.items():
                pipe.lpush(queue, *of_queue)
            pipe.execute()
    except RedisError:
        this.database.transact(lambda connection: dispatch_order.clear_marks(connection, marked))
        raise
    for kind, number in Counter(due.key.kind.name for due in marked).items():
        metrics.ENQUEUED.labels(kind).inc(number)


def _limits(this: Connections, slots: int, *, waiting: int) -> DispatchLimits:
    """`waiting`: messages in Redis. Those whose marks became void are not in flight any more, but are still there."""
    per_account = max(1, slots // SHARE_OF_AN_ACCOUNT)
    in_all = max(2, int(slots * (1 + QUEUED_PER_SLOT)))
    return DispatchLimits(
        in_all=in_all,
        room=max(0, in_all - waiting),
        per_account=per_account,
        background=max(1, per_account // 2),
        per_10_seconds=this.settings.leadway_requests_per_10_seconds,
    )


def _look_at_redis(this: Connections) -> tuple[str, int]:
    """The epoch of Redis' memory, a random name that Redis forgets when it forgets its queues, and how many messages
    wait in the queues of all kinds of work."""
    with this.redis.pipeline() as pipe:
        pipe.set(EPOCH_KEY, secrets.token_hex(8), nx=True)
        pipe.get(EPOCH_KEY)
        for queue in sorted({kind.queue for kind in KINDS}):
            pipe.llen(queue)
        _, epoch, *waiting = pipe.execute()
    this.redis_epoch.saw(epoch.decode())
    return epoch.decode(), sum(waiting)
