"""Which sessions hold what a migration waits for: PostgreSQL names a blocking session only during the wait."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from models.database import on_postgresql

LOOK_SECONDS = 0.05
"""Several looks within one lock time-out. Each takes PostgreSQL's lock manager for a moment."""
RECENT_SECONDS = 1.0


@dataclass(frozen=True)
class BlockingSession:
    """A row of pg_stat_activity, without the session's query: a query may quote what a caller said.

    `state` and the times are None where PostgreSQL hides another user's session.
    """

    pid: int
    user: str | None
    application: str
    state: str | None
    connected_at: datetime | None
    transaction_began_at: datetime | None

    def __str__(self) -> str:
        told = [
            self.application,
            f"user {self.user}" if self.user else "",
            self.state or "",
            _since("connected since", self.connected_at),
            _since("its transaction began at", self.transaction_began_at),
        ]
        return f"session {self.pid} ({', '.join(filter(None, told))})"


def _since(what: str, at: datetime | None) -> str:
    return "" if at is None else f"{what} {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


BLOCKING = sa.text(
    """SELECT pid, usename, coalesce(nullif(application_name, ''), backend_type, ''), state, backend_start, xact_start
       FROM unnest(pg_blocking_pids(:waiting)) AS blocking(pid) JOIN pg_stat_activity USING (pid)
       ORDER BY xact_start, pid"""
)
"""In WHERE, pg_blocking_pids would be called, and stop PostgreSQL's lock manager, once for each session."""
HOLDING = sa.text(
    """SELECT pid, usename, coalesce(nullif(application_name, ''), backend_type, ''), state, backend_start, xact_start
       FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database JOIN pg_stat_activity USING (pid)
       WHERE locktype = 'advisory' AND granted AND pg_database.datname = current_database()
       AND classid = CAST(:key AS bigint) >> 32 AND objid = CAST(:key AS bigint) & 4294967295 AND objsubid = 1"""
)
"""pg_locks splits a key of 64 bits into `classid` and `objid`; `objsubid` is 1 for such a key."""


def holders(connection: sa.Connection, key: int) -> list[BlockingSession]:
    """The sessions that hold the advisory lock `key` of this PostgreSQL database: one, or none when it was let go."""
    return [BlockingSession(*row) for row in connection.execute(HOLDING, {"key": key})]


class Blockers:
    """The sessions that a watched session waited for last."""

    def __init__(self) -> None:
        self._sessions: list[BlockingSession] = []
        self._seen_at = 0.0

    def see(self, sessions: list[BlockingSession]) -> None:
        self._sessions, self._seen_at = sessions, time.monotonic()

    def described(self) -> str:
        """Empty when nothing was waited for in the last RECENT_SECONDS."""
        return " and ".join(map(str, self.sessions()))

    def sessions(self) -> list[BlockingSession]:
        return self._sessions if time.monotonic() - self._seen_at < RECENT_SECONDS else []


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
