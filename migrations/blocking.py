"""Which sessions hold what a migration waits for: PostgreSQL tells that only while the migration waits."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from models.database import on_postgresql

LOOK_SECONDS = 0.05
"""Several looks within one lock time-out. Each takes PostgreSQL's lock manager for a moment."""
RECENT_SECONDS = 1.0


@dataclass(frozen=True)
class BlockingSession:
    """A row of pg_stat_activity, without the session's query: a query may quote what a caller said.

    `state` and `since` are None where PostgreSQL hides another user's session.
    """

    pid: int
    user: str | None
    application: str
    state: str | None
    since: datetime | None

    def __str__(self) -> str:
        told = [self.application, f"user {self.user}" if self.user else "", self.state or ""]
        since = "" if self.since is None else f", its transaction began at {self.since:%Y-%m-%dT%H:%M:%SZ}"
        return f"session {self.pid} ({', '.join(filter(None, told))}{since})"


BLOCKING = sa.text(
    """SELECT pid, usename, coalesce(nullif(application_name, ''), backend_type, ''), state, xact_start
       FROM pg_stat_activity WHERE pid = ANY(pg_blocking_pids(:waiting)) ORDER BY xact_start, pid"""
)


class Blockers:
    """The sessions that a watched session waited for last."""

    def __init__(self) -> None:
        self._sessions: list[BlockingSession] = []
        self._seen_at = 0.0

    def see(self, sessions: list[BlockingSession]) -> None:
        self._sessions, self._seen_at = sessions, time.monotonic()

    def described(self) -> str:
        """Empty when nothing was waited for in the last RECENT_SECONDS."""
        return " and ".join(map(str, self._sessions)) if time.monotonic() - self._seen_at < RECENT_SECONDS else ""


@contextmanager
def watched(connection: sa.Connection) -> Iterator[Blockers]:
    """While the block runs, a thread with a connection of its own looks for what `connection`'s session waits for.

    On SQLite nothing is seen.
    """
    blockers = Blockers()
    if not on_postgresql(connection):
        yield blockers
        return
    waiting = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    connection.rollback()
    ended = threading.Event()
    watch = threading.Thread(
        target=_watch, args=(connection.engine, waiting, blockers, ended), name="watch for blockers", daemon=True
    )
    watch.start()
    try:
        yield blockers
    finally:
        ended.set()
        watch.join()


def _watch(engine: sa.Engine, waiting: int, blockers: Blockers, ended: threading.Event) -> None:
    try:
        with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            while not ended.wait(LOOK_SECONDS):
                if rows := connection.execute(BLOCKING, {"waiting": waiting}).all():
                    blockers.see([BlockingSession(*row) for row in rows])
    except SQLAlchemyError:
        return  # a migration does not fail because nobody can tell what it waits for
