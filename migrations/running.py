"""How migrations run: one process at a time, each in its own transaction, none in the way of other sessions for long.

On PostgreSQL every later statement on a table queues behind an ALTER that waits for the table's lock, receipts too. So
a migration waits LOCK_SECONDS for a lock, rolls back, pauses, and tries again (docs/decisions/0050).

These limits bound what a receipt waits, but not to LOCK_SECONDS. LOCK_SECONDS counts for each lock: a try that takes
several locks holds the first ones while it waits for the next. A migration that has its locks holds them until it
commits, and each of its statements may take STATEMENT_SECONDS. So a migration takes its locks first and the busiest
table's last, and does nothing slow under ACCESS EXCLUSIVE.

A migration that old code cannot work with says NEEDS_A_STOP = True, or names the one dialect where that is so. It does
not run while a process has a live heartbeat (docs/decisions/0063). One that rewrites a large table says
REWRITES_A_LARGE_TABLE = True.
"""

import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext, MigrationStep, RevisionStep
from alembic.util import CommandError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from migrations.blocking import Blockers, BlockingSession, holders, watched
from models.database import COMMAND, Database, is_behind_pooler, on_postgresql
from models.work import heartbeats

Report = Callable[[str], None]
StepsFrom = Callable[[tuple[str, ...], MigrationContext], Iterable[MigrationStep]]
"""What an Alembic command wants to be run, given the revisions that the database has."""

ONE_AT_A_TIME = 4_617_001
"""The key of PostgreSQL's advisory lock."""
LIMITS = ("lock_timeout", "statement_timeout")
LOCK_SECONDS = 0.2
STATEMENT_SECONDS = 30.0
PATIENCE_SECONDS = 60.0
TRY_AGAIN_SECONDS = (0.5, 1.5)
"""Bounds of a random pause."""
TURN_SECONDS = 0.2
TELL_AGAIN_SECONDS = 60.0


class MigrationBlocked(CommandError):
    """A migration did not get a lock in time. The message names the sessions that blocked the last try."""


class StatementTooLong(CommandError):
    """PostgreSQL cancelled a statement of a migration."""


class StopNeeded(CommandError):
    """A migration needs a stop, and processes are alive. The message names them; the migration was not begun."""


class _Overtaken(Exception):
    """Another process has run the next migration in the meantime."""


@contextmanager
def connection_to(database_url: str) -> Iterator[sa.Connection]:
    """A connection of its own for migrations, closed at the end. Foreign keys of SQLite do not cascade on it."""
    database = Database(database_url, limits=COMMAND)
    try:
        with database.engine.connect() as connection, _without_cascades(connection):
            yield connection
    finally:
        database.close()


@contextmanager
def one_at_a_time(connection: sa.Connection, *, report: Report) -> Iterator[None]:
    """Waits until no other process migrates this PostgreSQL database, however long the other one takes.

    The wait has no limit, because the other process may build an index for hours, and a release must not fail for that.
    The session that is waited for is reported at once and every TELL_AGAIN_SECONDS.

    Each migration has its own transaction, so the lock belongs to a transaction of its own that lasts as long: behind
    a pooler that one keeps its session. It is asked for again and again instead of waited for: CREATE INDEX
    CONCURRENTLY waits for every statement that runs, and one that waits for this lock would be such a statement. On
    SQLite the write lock of each transaction takes its place (see `Run`).
    """
    if not on_postgresql(connection):
        yield
        return
    told_at: float | None = None
    with connection.engine.connect() as turn:
        while not _has(turn):
            if told_at is None or time.monotonic() - told_at >= TELL_AGAIN_SECONDS:
                told_at = time.monotonic()
                report(f"Another process migrates this database: waiting for {_who_migrates(connection)}.")
            _end_readers(connection, holders(connection, ONE_AT_A_TIME))
            time.sleep(TURN_SECONDS)
        yield


def _has(turn: sa.Connection) -> bool:
    """Whether this connection's transaction has the lock; without it, the transaction has ended.

    Without parameters, for after a statement with some its snapshot stays, and CREATE INDEX CONCURRENTLY waits for it.
    """
    turn.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    if turn.exec_driver_sql(f"SELECT pg_try_advisory_xact_lock({ONE_AT_A_TIME})").scalar_one():
        return True
    turn.rollback()
    return False


def _who_migrates(connection: sa.Connection) -> str:
    found = holders(connection, ONE_AT_A_TIME)
    connection.rollback()
    if not found:
        return "it"
    who = " and ".join(map(str, found))
    return f"{who}; if no process migrates any more, end that session (SELECT pg_terminate_backend(NUMBER))"


class Run:
    """Runs what an Alembic command asks for: with limits on PostgreSQL, and again after a lock time-out.

    `patience_seconds`: how long one migration is tried again, counted from its first lock time-out. `beside_processes`:
    what needs a stop runs without one.
    """

    def __init__(
        self, connection: sa.Connection, *, report: Report, patience_seconds: float, beside_processes: bool = False
    ) -> None:
        self._connection = connection
        self._report = report
        self._patience_seconds = patience_seconds
        self._beside_processes = beside_processes
        self._migration = ""
        self._statement_seconds = STATEMENT_SECONDS
        self._blocked_since: float | None = None

    def limited(self, steps_from: StepsFrom) -> StepsFrom:
        """The same steps; before each one its limits are set, and the database is looked at once more.

        What is done between two steps belongs to the transaction of the step that follows. All steps that remain are
        asked for their stop at once: none runs when a later one would be refused.
        """

        def steps(heads: tuple[str, ...], migration_context: MigrationContext) -> Iterator[MigrationStep]:
            remaining = list(steps_from(heads, migration_context))
            for position, step in enumerate(remaining):
                self._refuse_beside_processes(remaining[position:])
                if isinstance(step, RevisionStep):
                    self._begin(step)
                    # SQLite's write lock is free between two transactions: another process may have had it.
                    if set(migration_context.get_current_heads()) != set(step.from_revisions):
                        raise _Overtaken
                yield step

        return steps

    def until_done(self, run_migrations: Callable[[], None]) -> None:
        """What ran before a migration that raises stays.

        Raises MigrationBlocked, StatementTooLong, StopNeeded, and whatever a migration raises.
        """
        with self._limits_for_the_session(), watched(self._connection) as blockers:
            while True:
                try:
                    run_migrations()
                    self._connection.commit()
                    return
                except _Overtaken:
                    self._connection.rollback()
                except DBAPIError as error:
                    self._connection.rollback()
                    if isinstance(error.orig, psycopg.errors.QueryCanceled):
                        raise self._too_long(error.orig, blockers) from error
                    if not _is_lock_timeout(error):
                        raise
                    self._pause(error, blockers)

    def _refuse_beside_processes(self, remaining: Iterable[MigrationStep]) -> None:
        revisions = [step.revision for step in remaining if isinstance(step, RevisionStep)]
        wanted = (True, self._connection.dialect.name)
        needing = [each for each in revisions if getattr(each.module, "NEEDS_A_STOP", False) in wanted]
        if not needing or self._beside_processes or not sa.inspect(self._connection).has_table("heartbeats"):
            return
        alive = heartbeats.seconds_since_heard(self._connection)
        self._connection.rollback()  # on SQLite the look has taken the write lock
        if alive:
            named = [f"{name} (heard {seconds:.0f} s ago)" for name, seconds in alive.items()]
            raise StopNeeded(
                f"migration {needing[0].revision} ({needing[0].doc}) needs a stop, and these processes are alive:"
                f" {heartbeats.few(named)}. Stop them all, migrate, start the new release. A process that was killed"
                f" counts as alive for {heartbeats.GONE_AFTER_SECONDS:g} s"
            )

    def _begin(self, step: RevisionStep) -> None:
        revision = step.revision
        migration = f"{revision.revision} ({revision.doc})"
        if migration != self._migration:
            self._migration, self._blocked_since = migration, None
            self._report(f"{'Migrating to' if step.is_upgrade else 'Undoing'} {migration}.")
        self._statement_seconds = getattr(revision.module, "statement_timeout_seconds", STATEMENT_SECONDS)
        self._set_limits()
        if getattr(revision.module, "REWRITES_A_LARGE_TABLE", False) and not on_postgresql(self._connection):
            self._leave_write_ahead()

    def _leave_write_ahead(self) -> None:
        """On SQLite what is rewritten goes through the write-ahead log: it is written twice, and each page that is read
        is looked for in a log of gigabytes. A rollback journal takes half the time. The next process that connects
        turns the log on again. While others are connected, the log stays."""
        self._connection.rollback()
        driver: Any = self._connection.connection.driver_connection
        with suppress(sqlite3.OperationalError):
            driver.execute("PRAGMA journal_mode=DELETE")

    @contextmanager
    def _limits_for_the_session(self) -> Iterator[None]:
        """Ends them with the block."""
        self._set_limits()
        self._connection.commit()
        try:
            yield
        finally:
            if on_postgresql(self._connection) and not is_behind_pooler(self._connection):
                with suppress(SQLAlchemyError):  # a broken connection has ended its session
                    self._connection.rollback()
                    for name in LIMITS:
                        self._connection.execute(sa.text(f"RESET {name}"))
                    self._connection.commit()

    def _set_limits(self) -> None:
        """For the session, not for the transaction alone: an autocommit block is to have them too. Behind a pooler for
        the transaction, because the session goes to another client afterwards."""
        if not on_postgresql(self._connection):
            return
        local = is_behind_pooler(self._connection)
        for name, seconds in zip(LIMITS, (LOCK_SECONDS, self._statement_seconds), strict=True):
            setting = {"name": name, "value": f"{int(seconds * 1000)}ms", "local": local}
            self._connection.execute(sa.text("SELECT set_config(:name, :value, :local)"), setting)

    def _pause(self, error: DBAPIError, blockers: Blockers) -> None:
        now, who = time.monotonic(), blockers.described() or "another session"
        _end_readers(self._connection, blockers.sessions())
        if self._blocked_since is None:
            self._blocked_since = now
            self._report(f"It waits for {who}, and is tried again for {self._patience_seconds:g} s.")
        elif now - self._blocked_since >= self._patience_seconds:
            raise MigrationBlocked(
                f"migration {self._migration} did not get its lock within {self._patience_seconds:g} s: {who} is in its"
                " way. Wait until that ends, or end it (SELECT pg_terminate_backend(NUMBER)), then migrate again: what"
                " ran before this migration is done"
            ) from error
        time.sleep(random.uniform(*TRY_AGAIN_SECONDS))  # noqa: S311 - spreads tries, protects nothing

    def _too_long(self, cancelled: psycopg.errors.QueryCanceled, blockers: Blockers) -> StatementTooLong:
        waiting = f", which waited for {who}" if (who := blockers.described()) else ""
        return StatementTooLong(
            f"migration {self._migration}: PostgreSQL stopped a statement{waiting}"
            f" ({str(cancelled).splitlines()[0]}). One statement may take {self._statement_seconds:g} s; a migration"
            " that needs more sets statement_timeout_seconds"
        )


def _end_readers(connection: sa.Connection, sessions: Iterable[BlockingSession]) -> None:
    """Ends those of the sessions that are of a role which `leadway-calls readers` made: it may have switched its
    time-outs off, and has been told that it may be cut off."""
    pids = [each.pid for each in sessions]
    if not pids or not on_postgresql(connection):
        return
    if sa.inspect(connection).has_table("readers"):
        connection.execute(_END_READERS, {"these": pids})
    connection.commit()


_END_READERS = sa.text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity JOIN readers ON usename = name WHERE pid = ANY(:these)"
)


def _is_lock_timeout(error: DBAPIError) -> bool:
    """Whether the same migration may succeed in a moment: another session had the lock, or both had half of it."""
    if isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return isinstance(error.orig, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected)


@contextmanager
def _without_cascades(connection: sa.Connection) -> Iterator[None]:
    """SQLite changes a table by copying it and dropping the old one, which would delete what refers to its rows.

    Meanwhile views read a table that is not there, ours and those of others: a renaming is not to look at them.
    """
    if on_postgresql(connection):
        yield
        return
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA foreign_keys=OFF")  # has no effect inside a transaction
    driver.execute("PRAGMA legacy_alter_table=ON")
    try:
        yield
    finally:
        driver.execute("PRAGMA legacy_alter_table=OFF")
        driver.execute("PRAGMA foreign_keys=ON")
