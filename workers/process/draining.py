"""Empties the journals of this host, in a thread of its own: every process that can reach the database does."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from models.database import Database
from models.intake.journal import Drain
from workers.process.ticks import Tick, dispatch_wanted, ticking
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

DRAINED_EVERY_SECONDS = 1.0


@contextmanager
def draining(folder: Path | None, database: Database) -> Iterator[None]:
    """Every second, while the block runs. None: there is no journal."""
    if folder is None:
        yield
        return
    drain = Drain(folder, database)

    def drain_journals() -> None:
        if number := drain.drain():
            metrics.DRAINED.inc(number)
            log.info("journals_drained", number=number)
            dispatch_wanted.set()

    with ticking(Tick(drain_journals, seconds=DRAINED_EVERY_SECONDS)):
        yield
    drain.close()
