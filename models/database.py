"""The connection to the database: transactions, deadlines of statements, the database's clock, column types.

There are two databases: PostgreSQL, and SQLite (WAL, full sync, writes begun immediately). Statements are SQLAlchemy
Core on plain connections (docs/decisions/0001).

SQLite has one writer at a time for each file. So a table that nobody may wait for has a file of its own there: it is
read as any other table, beside them, and written through `Database.inbox` (docs/decisions/0090).
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.functions import FunctionElement

from models.settings.places import make_private_file, make_usable

T = TypeVar("T")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

OWN_FILE = "own_file_on_sqlite"
"""A table whose `info` has this key is in a file of its own on SQLite."""

Json = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An instant: `timestamptz` on PostgreSQL, `YYYY-MM-DD HH:MM:SS.ffffff` in UTC on SQLite; aware in Python."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        in_utc = value.astimezone(UTC)
        return in_utc if dialect.name == "postgresql" else in_utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


class moment(FunctionElement[datetime]):  # noqa: N801 - reads as the SQL function that it is
    """The database's time `seconds` from now, before now if negative: the one clock of leases and due times."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, seconds: float | sa.ColumnElement[Any] = 0) -> None:
        super().__init__(seconds if isinstance(seconds, sa.ColumnElement) else sa.literal(float(seconds), sa.Double))


@compiles(moment, "postgresql")
def _moment_in_postgresql(element: moment, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"(statement_timestamp() + make_interval(secs => CAST({seconds} AS double precision)))"


@compiles(moment, "sqlite")
def _moment_in_sqlite(element: moment, compiler: Any, **options: Any) -> str:
    seconds = compiler.process(element.clauses, **options)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+.3f seconds', {seconds}))"


def now(connection: Connection) -> datetime:
    """The time by the database's clock."""
    at: datetime = connection.execute(sa.select(moment())).scalar_one()
    return at


@dataclass(frozen=True)
class Limits:
    """How long a process waits for the database, in seconds, and how often it repeats a transaction that broke."""

    connect: int
    lock: float
    statement: float
    retries: int
    pool: int
    busy: float = 30.0
    """For the write lock of a SQLite file."""


WEB = Limits(connect=2, lock=0.6, statement=0.7, retries=0, pool=10, busy=0.6)
RECEIPTS = Limits(connect=2, lock=0.3, statement=0.7, retries=0, pool=2, busy=0.3)
"""Of the one thread that writes receipts down."""
LOOKING = Limits(connect=2, lock=0.05, statement=0.25, retries=0, pool=2, busy=0.05)
"""Of the same with a look that may as well be left out."""
WORKER = Limits(connect=2, lock=3.0, statement=5.0, retries=8, pool=40)
GROUPED = Limits(connect=2, lock=0.3, statement=5.0, retries=1, pool=1)
"""Of transactions in which others wait too. A lock that is not had soon is waited for by who needs it."""
COMMAND = Limits(connect=5, lock=30.0, statement=300.0, retries=2, pool=4)
RETRY_PAUSE_SECONDS = 0.3
PING_AFTER_SECONDS = 0.05
"""A pooled connection that was idle for longer is tested before its use. A restart of the database takes longer than
this, so no transaction begins on a connection from before a restart."""


class WriterTimeout(SQLAlchemyError):
    """A thread waited too long for the other writers of its process. SQLite only."""


class Database:
    """An engine and the ways to use it: `transaction` and `transact` to write, `reading` to read."""

    def __init__(self, url: str, *, limits: Limits = WORKER, greet: Callable[[Connection], None] | None = None) -> None:
        """`greet`: called with each new connection before its first transaction; it commits by itself."""
        self.limits = limits
        self._greet = greet
        parsed = sa.make_url(url)
        self.engine = engine_for(parsed, limits)
        self._autocommit = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer = threading.Lock() if is_sqlite else None
        self.inbox = Database(own_file_url(inbox_file(parsed)), limits=limits) if _has_inbox_file(parsed) else self
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
        """A connection for reading. Each statement is a transaction of its own, so no writer waits for a lock of it."""
        with self._autocommit.connect() as connection:
            yield connection

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
        return Database(self.engine.url.render_as_string(hide_password=False), limits=GROUPED, greet=self._greet)

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
            return work(self._open())
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
            self._drop()
        try:
            return work(self._open())
        except DBAPIError:
            self._drop()  # else the next statement would be refused as part of a broken transaction
            raise

    def close(self) -> None:
        self._drop()
        self._database.close()

    def _open(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.engine.execution_options(isolation_level="AUTOCOMMIT").connect()
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def insert(connection: Connection, table: sa.Table) -> Any:
    """An INSERT of the connection's dialect, for its `on_conflict_…` clauses."""
    dialect = connection.dialect.name
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def columns_of(table: sa.Table, row_type: type) -> tuple[sa.Column[Any], ...]:
    """The columns of `table` that a dataclass names, in the order of its fields: `row_type(*row)` is a selected row."""
    return tuple(table.c[field.name] for field in fields(row_type))


def earlier_of(connection: Connection, first: Any, second: Any) -> Any:
    """The earlier of two times; the second one where the first is null."""
    earlier = sa.func.least if on_postgresql(connection) else sa.func.min
    return earlier(sa.func.coalesce(first, second), second)


def on_postgresql(connection: Connection) -> bool:
    return connection.dialect.name == "postgresql"


def _is_transient(error: DBAPIError | WriterTimeout) -> bool:
    """Whether the same transaction may succeed in a moment: lost connection, restart, lock, deadlock."""
    if isinstance(error, WriterTimeout):
        return True
    return error.connection_invalidated or isinstance(error, OperationalError)


def is_of_one_row(error: Exception) -> bool:
    """Whether the values of a row are to blame, in the database or on the way there, not the database's state."""
    return isinstance(error, DataError | IntegrityError) or not isinstance(error, DBAPIError)


def engine_for(url: sa.URL, limits: Limits) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, limits)
    options = (
        f"-c statement_timeout={int(limits.statement * 1000)} -c lock_timeout={int(limits.lock * 1000)}"
        " -c timezone=UTC -c synchronous_commit=on -c idle_in_transaction_session_timeout=60000"
    )
    engine = sa.create_engine(
        url,
        pool_size=limits.pool,
        max_overflow=4,
        pool_timeout=limits.statement,
        pool_use_lifo=True,
        hide_parameters=True,
        pool_pre_ping=not limits.retries,
        connect_args={
            "connect_timeout": limits.connect,
            "options": options,
            "application_name": "leadway-calls",
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )

    if limits.retries:
        _ping_after_idling(engine)

    @sa.event.listens_for(engine, "handle_error")
    def quote_no_values(context: sa.engine.ExceptionContext) -> None:
        """Keeps only the first line of an error: those after it (DETAIL, CONTEXT) quote keys, JSON and whole rows."""
        for error in (context.original_exception, context.sqlalchemy_exception):
            if isinstance(error, DBAPIError | psycopg.Error) and error.args:
                error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])

    return engine


def _write_ahead(cursor: sqlite3.Cursor, *, seconds: float) -> None:
    """Sets the WAL mode. The first connections to a new file all change its mode, and SQLite's busy time-out does not
    apply to that: so this waits by itself."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _ping_after_idling(engine: sa.Engine) -> None:
    """Tests a pooled connection before its use if it was idle; testing each time would double the round trips.

    For processes that repeat a broken transaction. The web process, which has only one try, tests each time
    (`pool_pre_ping`).
    """

    @sa.event.listens_for(engine, "checkin")
    def note_use(_connection: object, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    @sa.event.listens_for(engine, "checkout")
    def ping(connection: Any, record: Any, _proxy: object) -> None:
        if time.monotonic() - record.info.get("used_at", time.monotonic()) < PING_AFTER_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.dbapi.Error:  # type: ignore[union-attr]
            raise sa.exc.InvalidatePoolError from None


def inbox_file(url: sa.URL) -> Path:
    """The file beside a SQLite database that holds its inbox: `leadway-calls.db` has `leadway-calls-inbox.db`."""
    database = Path(str(url.database))
    return database.with_name(f"{database.stem}-inbox{database.suffix}")


def _database_of(inbox_file: Path) -> Path:
    return inbox_file.with_name(f"{inbox_file.stem.removesuffix('-inbox')}{inbox_file.suffix}")


def own_file_url(file: Path) -> str:
    """Of a SQLite file that holds the tables with a file of their own, and nothing else."""
    return sa.URL.create("sqlite", database=str(file), query={_OWN: "1"}).render_as_string()


_OWN = "own_file"


def _has_inbox_file(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite" and _OWN not in url.query


def _make_own_file(file: Path, *, seconds: float) -> None:
    """Creates it with its tables, or finds it.

    A file that exists is opened by SQLite alone: to close any other handle of it would end the locks that this process'
    connections have on it (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    make_private_file(file)
    with closing(sqlite3.connect(file, isolation_level=None, timeout=seconds)) as connection:
        _write_ahead(connection.cursor(), seconds=seconds)
        for table in (each for each in metadata.tables.values() if OWN_FILE in each.info):
            ddls: list[CreateTable | CreateIndex] = [CreateTable(table, if_not_exists=True), *_indexes(table)]
            for ddl in ddls:
                connection.execute(str(ddl.compile(dialect=sqlite.dialect())))


def _indexes(table: sa.Table) -> list[CreateIndex]:
    return [CreateIndex(each, if_not_exists=True) for each in sorted(table.indexes, key=lambda index: str(index.name))]


def _sqlite_engine(url: sa.URL, limits: Limits) -> sa.Engine:
    file, is_own = Path(str(url.database)), _OWN in url.query
    url = url.difference_update_query([_OWN])
    make_usable(file.parent, setting="DATABASE_URL")
    engine = sa.create_engine(
        url,
        pool_size=limits.pool,
        max_overflow=4,
        pool_timeout=limits.busy,
        hide_parameters=True,
        connect_args={"uri": True},
    )

    @sa.event.listens_for(engine, "do_connect")
    def make_own_file(*_: object) -> None:
        with suppress(OSError):  # SQLite says what is wrong
            make_private_file(file)
            _make_own_file(file if is_own else inbox_file(url), seconds=limits.busy)

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        cursor = connection.cursor()
        for pragma in (f"busy_timeout={int(limits.busy * 1000)}", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        _write_ahead(cursor, seconds=limits.busy)
        # Read-only: else BEGIN IMMEDIATE would take its write lock too, and receipts would wait for workers.
        if not is_own:
            cursor.execute("ATTACH ? AS own_files", [f"{inbox_file(url).absolute().as_uri()}?mode=ro"])
        elif (beside := _database_of(file)) != file and beside.exists():
            cursor.execute("ATTACH ? AS beside", [f"{beside.absolute().as_uri()}?mode=ro"])
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin_immediately(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
