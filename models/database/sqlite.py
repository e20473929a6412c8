"""Engines for SQLite: WAL, full sync, writes begun immediately, and a file beside it for what nobody may wait for."""

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from models.database.columns import OWN_FILE, metadata
from models.database.limits import Limits
from models.settings.places import make_private_file, make_usable


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


def has_inbox_file(url: sa.URL) -> bool:
    return url.get_backend_name() == "sqlite" and _OWN not in url.query


def sqlite_engine(url: sa.URL, limits: Limits) -> sa.Engine:
    file, is_own = Path(str(url.database)), _OWN in url.query
    url = url.difference_update_query([_OWN])
    make_usable(file.parent, setting="DATABASE_URL")
    engine = sa.create_engine(
        url,
        pool_size=limits.pool,
        max_overflow=-1,  # a connection is a file handle of this process
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
