"""Engines for PostgreSQL: what holds on each connection, behind a pooler too, and which errors end a connection.

What a transaction needs (limits, `synchronous_commit`, UTC, the URL's own options) is asked for at the start of each
connection. A pooler that lends a server's connection for one transaction has no such start: it refuses the request, or
drops it. Then each transaction begins with it, in the same round trip as its BEGIN (docs/decisions/0111).
"""

import time
from datetime import timedelta
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.sql import Literal
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from models.database.address import Address, address_of, startup
from models.database.limits import Limits

PING_AFTER_SECONDS = 0.05
"""A pooled connection that was idle for longer is tested before its use. A restart of the database takes longer than
this, so no transaction begins on a connection from before a restart."""
SLOT_PAUSE_SECONDS = 0.2
GONE = {"25006", "57P01", "57P02", "57P03"}
"""A server that became read-only, for another one took over; one that shuts down, crashed, or starts up."""
NO_SLOT = ("too many clients", "too many connections", "connection slots are reserved", "no more connections allowed")
"""PostgreSQL's and PgBouncer's words: a refused connection has no SQLSTATE to look at."""
REFUSED_AT_START = "unsupported startup parameter"
_POOLED = "pooled"


def is_behind_pooler(connection: Connection) -> bool:
    """Whether each transaction may have another session of the server."""
    return _POOLED in connection.info


def postgresql_engine(url: sa.URL, limits: Limits) -> sa.Engine:
    """Raises UnusableDatabase for a URL with parameters that PostgreSQL does not know."""
    address = address_of(url)
    engine = sa.create_engine(
        address.url,
        pool_size=limits.kept,
        max_overflow=limits.pool - limits.kept,
        pool_timeout=limits.slot,
        pool_use_lifo=True,
        hide_parameters=True,
        pool_pre_ping=not limits.retries,
        use_native_hstore=False,  # to look for its type takes a round trip
        connect_args={
            "connect_timeout": limits.connect,
            "client_encoding": "utf8",
            "application_name": address.application,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
    )
    _connect_as_the_server_allows(engine, address, limits)
    if limits.retries:
        _ping_after_idling(engine)

    @sa.event.listens_for(engine, "handle_error")
    def sort(context: sa.engine.ExceptionContext) -> None:
        """Drops all connections to a server that is no primary any more, and keeps only the first line of an error:
        those after it (DETAIL, CONTEXT) quote keys, JSON and whole rows."""
        if isinstance(context.original_exception, psycopg.Error) and context.original_exception.sqlstate in GONE:
            context.is_disconnect = True
        for error in (context.original_exception, context.sqlalchemy_exception):
            if isinstance(error, DBAPIError | psycopg.Error) and error.args:
                error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])

    return engine


def _connect_as_the_server_allows(engine: sa.Engine, address: Address, limits: Limits) -> None:
    """A pooler is known by the URL, by its refusal, or because what was asked for at the start does not hold."""
    parameters = {
        **address.options,
        "statement_timeout": str(int(limits.statement * 1000)),
        "lock_timeout": str(int(limits.lock * 1000)),
        "idle_in_transaction_session_timeout": "60000",
        "timezone": "UTC",
        "synchronous_commit": "on",
    }
    is_pooled: bool | None = address.is_pooled or None
    """None: it is not known yet."""

    @sa.event.listens_for(engine, "do_connect")
    def connect(dialect: sa.Dialect, _record: object, words: Any, named: dict[str, Any]) -> Any:
        nonlocal is_pooled
        until = time.monotonic() + limits.slot
        while True:
            try:
                return dialect.connect(*words, **named, **({} if is_pooled else {"options": startup(parameters)}))
            except psycopg.OperationalError as error:
                told = str(error)
                if REFUSED_AT_START in told and not is_pooled:
                    is_pooled = True
                    continue
                if not any(each in told for each in NO_SLOT) or time.monotonic() >= until:
                    raise
            time.sleep(SLOT_PAUSE_SECONDS)

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: "psycopg.Connection[Any]", record: Any) -> None:
        nonlocal is_pooled
        if is_pooled is None:
            is_pooled = not _holds(connection, limits)
        if is_pooled:
            connection.prepare_threshold = None
            connection.autocommit = True  # BEGIN is sent below
            record.info[_POOLED] = True

    begin = "BEGIN; " + _set_for_the_transaction(parameters)

    @sa.event.listens_for(engine, "begin")
    def ask_for_the_transaction(connection: Connection) -> None:
        if is_behind_pooler(connection):
            connection.exec_driver_sql(begin)


def _holds(connection: "psycopg.Connection[Any]", limits: Limits) -> bool:
    row = connection.execute("SELECT current_setting('statement_timeout')::interval", prepare=False).fetchone()
    connection.rollback()
    return row is not None and row[0] == timedelta(milliseconds=int(limits.statement * 1000))


def _set_for_the_transaction(parameters: dict[str, str]) -> str:
    calls = (
        f"set_config({Literal(name).as_string()}, {Literal(value).as_string()}, true)"
        for name, value in parameters.items()
    )
    return f"SELECT {', '.join(calls)}".replace("%", "%%")


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
