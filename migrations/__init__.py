"""Brings a database to the newest schema: what `leadway-calls migrate` and every test call."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from models.database import COMMAND, Database


def migrate(database_url: str, *, revision: str = "head") -> None:
    """Upgrades, or downgrades to an older revision ("base": nothing left). Safe to be run by several at once."""
    database = Database(database_url, limits=COMMAND)
    try:
        with database.engine.connect() as connection, _without_cascades(connection):
            config = _config()
            config.attributes["connection"] = connection
            script = ScriptDirectory.from_config(config)
            older = _is_older(script, MigrationContext.configure(connection).get_current_revision(), revision)
            connection.rollback()
            (command.downgrade if older else command.upgrade)(config, revision)
    finally:
        database.close()


def is_current(database: Database) -> bool:
    """Whether the database has the schema that this code expects."""
    with database.reading() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    return present == ScriptDirectory.from_config(_config()).get_current_head()


@contextmanager
def _without_cascades(connection: sa.Connection) -> Iterator[None]:
    """SQLite changes a table by copying it and dropping the old one, which would delete what refers to its rows."""
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA foreign_keys=OFF")  # has no effect inside a transaction
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def _is_older(script: ScriptDirectory, present: str | None, wanted: str) -> bool:
    if present is None or wanted == "head":
        return False
    return wanted == "base" or wanted in {each.revision for each in script.iterate_revisions(present, "base")} - {
        present
    }
