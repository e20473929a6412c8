"""Enqueues whatever is due: first tries, retries, leases that ran out. The only sender of work.

Runs when the bell rings and every second anyway. Twice at once does no harm: rows are marked as sent before anything
is, and a row that was sent twice is claimed once.
"""

import secrets

import structlog

from models import due, heartbeats
from models.due import Room
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
    generation = _generation(this)
    with this.database.reading() as session:
        room = _room(heartbeats.live_slots(session) or this.settings.worker_threads)
    for _ in range(ROUNDS):
        with app.producer_or_acquire() as producer:
            taken = this.database.transact(lambda session: due.take_due(session, generation=generation, room=room))
            for each in taken:
                app.send_task(
                    TASKS[each.work.name], args=each.key, expires=due.MARK_SECONDS, producer=producer,
                    queue=f"{each.work.name}s", argsrepr=repr(each.key),
                )  # fmt: skip
                metrics.SENT.labels(each.work.name).inc()
        if not taken:
            return


def _room(slots: int) -> Room:
    return Room(in_all=max(2, slots - SLOTS_KEPT_FREE), per_account=max(1, slots // SHARE_OF_AN_ACCOUNT))


def _generation(this: Connections) -> str:
    """Which life of Redis this is: a random name that it forgets with everything else."""
    this.redis.set(GENERATION_KEY, secrets.token_hex(8), nx=True)
    found = this.redis.get(GENERATION_KEY)
    if not isinstance(found, bytes):
        raise RuntimeError("Redis forgot its generation within a moment; the next tick tries again")
    return found.decode()
