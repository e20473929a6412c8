"""Tells the database every few seconds that this process is alive, in a thread of its own."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog
from sqlalchemy.exc import SQLAlchemyError

from models.database import Database
from models.work import heartbeats

log = structlog.get_logger(__name__)


@contextmanager
def heartbeating(database: Database, name: str, *, process: str, slots: int = 0) -> Iterator[None]:
    """Beats while the block runs, and takes its row away when the block ends. `slots`: attempts made at once.

    A database that is away stops nothing: the row grows old, as it should, and beats again afterwards.
    """
    stopped = threading.Event()

    def beat_on() -> None:
        missed = False
        while True:
            try:
                database.transact(lambda connection: heartbeats.beat(connection, name, process=process, slots=slots))
                missed = False
            except SQLAlchemyError as error:
                if not missed:
                    log.warning("heartbeat_missed", process=process, error=type(error).__name__)
                missed = True
            if stopped.wait(heartbeats.BEAT_SECONDS):
                return

    heart = threading.Thread(target=beat_on, name="heart", daemon=True)
    heart.start()
    try:
        yield
    finally:
        stopped.set()
        heart.join(timeout=heartbeats.BEAT_SECONDS)
        with suppress(SQLAlchemyError):
            database.transact(lambda connection: heartbeats.leave(connection, name))
