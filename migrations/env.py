"""What Alembic runs for each of its commands: connects, then compares or migrates (`migrations/running.py`)."""

import sys
from collections.abc import Iterable
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.operations import MigrationScript
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError

from migrations.running import PATIENCE_SECONDS, Run, connection_to, one_at_a_time
from models.database import OWN_FILE, UtcDateTime, on_postgresql
from models.schema import metadata
from models.settings import SettingsError, read_settings


def without_models(kind: str, thing: Any, autogen: AutogenContext) -> str | Literal[False]:
    """A migration does not import the models: they move on, it stays."""
    if kind == "type" and isinstance(thing, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


def next_number(migration_context: MigrationContext, _revision: Any, directives: Iterable[MigrationScript]) -> None:
    """Migrations are numbered 0001, 0002, … instead of named by a hash."""
    newest = context.script.get_current_head()
    for each in directives:
        each.rev_id = f"{int(newest or 0) + 1:04}"


def database_url() -> str:
    given = context.config.attributes.get("database_url")
    try:
        return given or read_settings().database_url
    except SettingsError as error:
        raise CommandError(str(error)) from None


def run_command() -> None:
    if context.is_offline_mode():
        raise CommandError("--sql is not offered: some migrations look at the database before they change it")
    attributes = context.config.attributes
    report = attributes.get("report", lambda line: sys.stderr.write(f"{line}\n"))
    with connection_to(database_url()) as connection:
        run = Run(
            connection,
            report=report,
            patience_seconds=attributes.get("patience_seconds", PATIENCE_SECONDS),
            beside_processes=attributes.get("beside_processes", False),
        )
        in_own_files = not on_postgresql(connection)  # SQLite's inbox is made where it is opened
        options: dict[str, Any] = {
            "connection": connection,
            "target_metadata": metadata,
            "include_object": lambda thing, *_: not (in_own_files and OWN_FILE in thing.info),
            "include_name": lambda name, _kind, _parents: name != "fence_counter",  # SQLite's, no table of metadata
            "render_item": without_models,
            "process_revision_directives": next_number,
            "render_as_batch": True,  # what was written from a PostgreSQL database runs on SQLite too
            "transactional_ddl": True,  # SQLite's is too, but Alembic takes care of drivers that end the transaction
            "transaction_per_migration": True,
        }
        context.configure(**options)
        context.configure(**options, fn=run.limited(context.get_context().opts["fn"]))
        if context.get_context().opts.get("dont_mutate"):  # `alembic current`
            context.run_migrations()
            return
        with one_at_a_time(connection, report=report):
            run.until_done(context.run_migrations)


run_command()
