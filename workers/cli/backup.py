"""`leadway-calls backup`: copies the SQLite database while the system runs; for PostgreSQL it tells pg_dump's command.

It does not run pg_dump: that has to be as new as the server, and is often on another machine than this.
"""

import os
import shlex
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import click
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo
from sqlalchemy.exc import DBAPIError

from models.database import Database, libpq_words
from workers.cli.opened import Failure, opened, why
from workers.cli.screen import count, say


@click.command
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def backup(file: Path) -> None:
    """Copies the SQLite database to FILE, which must not exist, while the system runs. Only its owner may read FILE.

    FILE holds the state of one moment, whatever is written meanwhile, and appears when it is complete. Tokens in it are
    encrypted: keep TOKEN_ENCRYPTION_KEYS, or the key file under var/, somewhere else. For PostgreSQL nothing is copied:
    the command tells how to call pg_dump.

    \b
    Examples:
      leadway-calls backup /backups/leadway-calls-2026-03-01.db
    """
    with opened(schema=False) as this:
        if this.database.engine.dialect.name == "postgresql":
            raise Failure(f"PostgreSQL makes its own backups; run: {_pg_dump(this.database.address, file)}")
        calls, size = _copy(this.database, file)
    say(f"{file}: {count(calls, 'call')}, {size / 1e6:,.1f} MB.")


def _copy(database: Database, file: Path) -> tuple[int, int]:
    """The number of calls in the copy, and its bytes. Raises Failure; then there is no FILE, and nothing beside it."""
    if file.exists():
        raise Failure(f"{file} exists, and a backup replaces nothing: choose another name")
    if (journal := file.with_name(f"{file.name}-wal")).exists():
        raise Failure(f"{journal} exists, and SQLite would take it for a part of the backup: choose another name")
    if not sa.inspect(database.engine).has_table("calls"):
        raise Failure("the database has no tables: look at DATABASE_URL, a relative path begins in this folder")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600; VACUUM keeps it
    except OSError as error:
        raise Failure(f"{file.parent} cannot be written to: {error.strerror}") from None
    unfinished = Path(name)
    try:
        with database.reading() as connection:
            connection.execute(sa.text("VACUUM INTO :file"), {"file": name})
        os.fsync(handle)
        with closing(sqlite3.connect(f"{unfinished.absolute().as_uri()}?mode=ro", uri=True)) as copy:
            calls: int = copy.execute("SELECT count(*) FROM calls").fetchone()[0]
        unfinished.rename(file)
        _sync(file.parent)
    except DBAPIError as error:
        raise Failure(f"the backup was not written: {why(error)}") from None
    finally:
        os.close(handle)
        unfinished.unlink(missing_ok=True)
    return calls, file.stat().st_size


def _sync(folder: Path) -> None:
    """Makes the name of a new file outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _pg_dump(url: sa.URL, file: Path) -> str:
    """The command without the password, which pg_dump takes from PGPASSWORD or ~/.pgpass, or asks for."""
    words = libpq_words(url)
    words.pop("password", None)
    return shlex.join(["pg_dump", "--format=custom", f"--file={file}", f"--dbname={make_conninfo(**words)}"])
