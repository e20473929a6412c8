"""Heartbeats as processes write them, inside a test: by `heartbeating` itself, in its thread, until they end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from models.database import Database
from models.work import heartbeats
from models.work.heartbeats import NEEDED_PROCESSES
from tests.support.waiting import eventually
from workers.process.heartbeat import heartbeating

WORKER_SLOTS = 32


@contextmanager
def beating(database: Database, *processes: str) -> Iterator[dict[str, Callable[[], None]]]:
    """One heartbeat for each, by default for all that are needed. Gives what ends each, as a process that is told to
    stop ends it; returns when all rows are written."""
    with ExitStack() as stack:
        end: dict[str, Callable[[], None]] = {}
        for process in processes or NEEDED_PROCESSES:
            heart = stack.enter_context(ExitStack())
            slots = WORKER_SLOTS if process == "worker" else 0
            heart.enter_context(heartbeating(database, f"{process}-1@here", process=process, slots=slots))
            end[process] = heart.close
        eventually(lambda: _alive(database) >= set(end), describe="every heart to beat")
        yield end


def _alive(database: Database) -> set[str]:
    with database.reading() as connection:
        return {each.process for each in heartbeats.all_of(connection) if each.is_alive}
