"""Ways to use a database: transactions that are repeated when a connection broke, reading, one kept connection."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from models.database.address import parsed
from models.database.limits import GROUPED, WORKER, Limits
from models.database.postgresql import is_behind_pooler, postgresql_engine
from models.database.sqlite import has_inbox_file, inbox_file, own_file_url, sqlite_engine

T = TypeVar("T")

RETRY_PAUSE_SECONDS = 0.3


class WriterTimeout(SQLAlchemyError):
    """A thread waited too long for the other writers of its process. SQLite only."""


class Database:
    """An engine and the ways to use it: `transaction` and `transact` to write, `reading` to read."""

    def __init__(self, url: str, *, limits: Limits = WORKER, greet: Callable[[Connection], None] | None = None) -> None:
        """`greet`: called with each new connection before its first transaction; it commits by itself."""
        self.limits = limits
        self._url, self._greet = url, greet
        self.address = parsed(url)
        self.engine = engine_for(self.address, limits)
        is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer = threading.Lock() if is_sqlite else None
        own_file = own_file_url(inbox_file(self.address)) if has_inbox_file(self.address) else None
        self.inbox = Database(own_file, limits=limits) if own_file else self
        """Where the inbox is written: this database on PostgreSQL; on SQLite a file of its own, with its own writer."""

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction, committed at the end of the block. On SQLite it has the write lock from its beginning.

        Raises SQLAlchemyError. SQLite lets writers poll for its lock, which is unfair among many. So the threads of a
        process queue for a lock of their own, and only one of them polls.
        """
        with self.unprepared() as connection:
            if self._greet is not None and not connection.info.get("greeted"):
                self._greet(connection)
                connection.info["greeted"] = True
            with connection.begin():
                yield connection

    @contextmanager
    def unprepared(self) -> Iterator[Connection]:
        """A connection for `greet`, which begins and commits by itself."""
        with self._only_writer(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def _only_writer(self) -> Iterator[None]:
        if self._writer is None:
            yield
            return
        if not self._writer.acquire(timeout=self.limits.busy):
            raise WriterTimeout("the other writers of this process did not end in time")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading. Each statement is a transaction of its own, so no writer waits for a lock of it.

        Behind a pooler the block is one transaction, because only a transaction has limits there.
        """
        with self.engine.connect() as connection:
            if is_behind_pooler(connection):
                with connection.begin():
                    yield connection
            else:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in a transaction, and all of it again when the connection broke or a lock was not had in time.

        Tries `limits.retries` times more, then raises SQLAlchemyError. `work` must be idempotent, by unique keys or a
        fence in its WHERE: a commit whose answer was lost runs again.
        """
        for attempt in range(self.limits.retries + 1):
            try:
                with self.transaction() as connection:
                    return work(connection)
            except (DBAPIError, WriterTimeout) as error:
                if attempt == self.limits.retries or not _is_transient(error):
                    raise
                time.sleep(RETRY_PAUSE_SECONDS)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def may_repeat(self, error: Exception) -> bool:
        """Whether `transact` would run again what raised this."""
        return isinstance(error, DBAPIError | WriterTimeout) and _is_transient(error)

    def for_groups(self) -> "Database":
        """The same with GROUPED's limits. On SQLite this one, because its writers take turns."""
        if self._writer is not None:
            return self
        return Database(self._url, limits=GROUPED, greet=self._greet)

    def close(self) -> None:
        self.engine.dispose()
        if self.inbox is not self:
            self.inbox.close()


class KeptConnection:
    """One connection for one thread that writes or looks again and again: a pool would cost as much as its statements.

    Each statement is a transaction of its own. A connection that broke is opened anew, and what broke is repeated once:
    it may be from before a restart.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def run(self, work: Callable[[Connection], T]) -> T:
        """`work` executes one statement, and must be idempotent. Raises SQLAlchemyError."""
        try:
            return self._run_once(work)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._drop()
        try:
            return self._run_once(work)
        except DBAPIError:
            self._drop()  # else the next statement would be refused as part of a broken transaction
            raise

    def close(self) -> None:
        self._drop()
        self._database.close()

    def _run_once(self, work: Callable[[Connection], T]) -> T:
        connection = self._open()
        if not is_behind_pooler(connection):
            return work(connection)
        with connection.begin():  # without one nothing would say how long it may take, nor that its commit is durable
            return work(connection)

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.engine.connect()
            if not is_behind_pooler(self._connection):
                self._connection = self._connection.execution_options(isolation_level="AUTOCOMMIT")
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _is_transient(error: DBAPIError | WriterTimeout) -> bool:
    """Whether the same transaction may succeed in a moment: lost connection, restart, lock, deadlock."""
    if isinstance(error, WriterTimeout):
        return True
    return error.connection_invalidated or isinstance(error, OperationalError)


def is_of_one_row(error: Exception) -> bool:
    """Whether the values of a row are to blame, in the database or on the way there, not the database's state."""
    return isinstance(error, DataError | IntegrityError) or not isinstance(error, DBAPIError)


def engine_for(url: sa.URL, limits: Limits) -> sa.Engine:
    return sqlite_engine(url, limits) if url.get_backend_name() == "sqlite" else postgresql_engine(url, limits)
