"""Enqueues whatever is due: first tries, retries, leases that ran out. The only sender of work.

Runs when the bell rings and every second anyway. Twice at once does no harm: rows are marked as sent before anything
is, and a row that was sent twice is claimed once.
"""

import secrets
from collections.abc import Sequence

import structlog

from models import due, heartbeats
from models.crash_points import reach
from models.due import Due, Marks, Room
from workers import metrics
from workers.app import app
from workers.connections import Connections, connections

log = structlog.get_logger(__name__)

GENERATION_KEY = "leadway:generation"
TASKS = {"call": "calls.fetch", "follow_up": "follow_ups.send"}
SLOTS_KEPT_FREE = 2
"""Of each worker, for the dispatcher itself and the other housekeeping."""
SHARE_OF_AN_ACCOUNT = 4
"""One account is given at most this fraction (a quarter) of all slots."""
ROUNDS = 20


@app.task(name="due.dispatch")
def dispatch_due() -> None:
    """Sends until nothing due is left or the room is filled."""
    this = connections()
    marks = Marks(_generation(this), this.mark_seconds)
    with this.database.reading() as session:
        room = _room(heartbeats.live_slots(session) or this.settings.worker_threads)
    for _ in range(ROUNDS):
        taken = this.database.transact(lambda session: due.take_due(session, marks=marks, room=room))
        if not taken:
            return
        reach("due_marked")
        _send(this, taken)
        reach("due_sent")


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
                metrics.SENT.labels(work.name).inc()
                left.pop(0)
    finally:
        if left:
            this.database.transact(lambda session: due.unmark(session, left))


def _room(slots: int) -> Room:
    return Room(in_all=max(2, slots - SLOTS_KEPT_FREE), per_account=max(1, slots // SHARE_OF_AN_ACCOUNT))


def _generation(this: Connections) -> str:
    """Which life of Redis this is: a random name that it forgets with everything else."""
    this.redis.set(GENERATION_KEY, secrets.token_hex(8), nx=True)
    found = this.redis.get(GENERATION_KEY)
    if not isinstance(found, bytes):
        raise RuntimeError("Redis forgot its generation within a moment; the next tick tries again")
    return found.decode()
