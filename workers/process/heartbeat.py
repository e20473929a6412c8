"""Tells the database every few seconds that this process is alive, in a thread of its own."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from migrations import newest
from models.database import Database
from models.work import heartbeats
from workers.telemetry.release import release

log = structlog.get_logger(__name__)

LEAVE_SECONDS = 2.0
"""How long a process that ends waits for its row to be deleted. Longer: the row stays, and grows old."""


def _untold() -> None:
    """What only workers tell."""


@contextmanager
def heartbeating(
    database: Database,
    name: str,
    *,
    process: str,
    slots: int = 0,
    queues: Callable[[], str | None] = _untold,
    redis_epoch: Callable[[], str | None] = _untold,
) -> Iterator[None]:
    """Beats while the block runs, and deletes its row when the block ends. `slots`: attempts made at once. `queues`:
    tells from which queues of Redis it takes messages now. `redis_epoch`: tells in which Redis they are.

    Raises nothing for a database that is away or hangs, and never holds up the block: the row grows old, as it should,
    and beats again afterwards. The thread alone writes the row, so no late beat brings a deleted row back.
    """
    stopped = threading.Event()
    this = version_of_this_process()

    def beat_until_stopped() -> None:
        missed = False
        while True:
            try:
                database.transact(
                    lambda connection: heartbeats.beat(
                        connection,
                        name,
                        process=process,
                        slots=slots,
                        version=this,
                        queues=queues(),
                        redis_epoch=redis_epoch(),
                    )
                )
                missed = False
            except Exception as error:  # nothing may end the thread: a process without a heartbeat looks dead
                if not missed:
                    log.warning("heartbeat_missed", process=process, error=type(error).__name__)
                missed = True
            if stopped.wait(heartbeats.BEAT_SECONDS):
                break
        try:
            database.transact(lambda connection: heartbeats.leave(connection, name))
        except Exception as error:
            log.warning("heartbeat_not_removed", process=process, error=type(error).__name__)

    heart = threading.Thread(target=beat_until_stopped, name="heart", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stopped.set()
        heart.join(timeout=LEAVE_SECONDS)


def version_of_this_process() -> str:
    """`0.1.0+0005`: the release, and the newest schema that its code knows, which tells apart what was not released."""
    return f"{release()}+{newest()}"
