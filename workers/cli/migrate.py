"""`leadway-calls migrate`: makes the database ready, which every release does before anything else starts."""

import os
import re
import signal
import time
from collections.abc import Mapping

import click
import psycopg
import sqlalchemy as sa
from alembic.util import CommandError
from psycopg import sql
from psycopg.conninfo import make_conninfo
from sqlalchemy.exc import OperationalError

from migrations import is_current
from migrations.running import PATIENCE_SECONDS, MigrationBlocked, StatementTooLong, StopNeeded
from migrations.upgrading import migrate as bring_to_newest
from models.accounts import accounts
from models.database import Database, libpq_words, problem_of
from workers.cli.credentials import checked_secret
from workers.cli.opened import Failure, Opened, opened, why
from workers.cli.screen import say

RECONNECT_SECONDS = 0.5


@click.command
@click.option(
    "--wait", type=click.FloatRange(min=0), default=30, show_default=True, metavar="SECONDS",
    help="How long to wait for a database server that does not answer yet.",
)  # fmt: skip
@click.option(
    "--patience", type=click.FloatRange(min=0), default=PATIENCE_SECONDS, show_default=True, metavar="SECONDS",
    help="How long a migration is tried again that does not get a lock, because another session has it.",
)  # fmt: skip
@click.option("--anyway", is_flag=True, help="Runs what needs a stop though processes are alive: they will fail.")
@click.option(
    "--stay", is_flag=True,
    help="Sleeps when it is done if honcho or foreman started it, for they end all processes when one ends.",
)  # fmt: skip
def migrate(wait: float, patience: float, anyway: bool, stay: bool) -> None:
    """Makes the database ready: creates it if it is missing, brings its tables to the newest schema.

    Also makes the account that the environment names (LEADWAY_LOCATION_ID, LEADWAY_API_TOKEN, LEADWAY_INTAKE_SECRET)
    what the environment says. May be run as often as you like, by several at once.

    Each migration has its own transaction: when one fails, those before it stay, and the next run goes on from there.
    Nothing runs when one of them needs a stop and a web, worker or beat is alive: stop these first.

    \b
    Examples:
      leadway-calls migrate
      DATABASE_URL=postgresql://user:password@host/leadway leadway-calls migrate --wait 60
    """
    with opened(schema=False) as this:
        if this.settings.leadway_location_id is not None:
            this.cipher()  # a release that cannot store the account's token ends before it changes anything
        _wait_for(this.database, seconds=wait)
        _bring_to_newest(this, patience=patience, anyway=anyway)
        _make_the_environments_account(this)
    if stay and _is_under_a_process_manager(os.environ):
        say("Done. This process sleeps, so that the others go on.")
        signal.pause()


def _is_under_a_process_manager(environment: Mapping[str, str]) -> bool:
    """Whether honcho or foreman started this as one of several processes. A platform that waits for the release does
    not (Heroku, which sets DYNO)."""
    names = (environment.get(name, "") for name in ("HONCHO_PROCESS_NAME", "PS"))
    return "DYNO" not in environment and any(name.partition(".")[0] == "release" for name in names)


def _wait_for(database: Database, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    told = False
    while True:
        try:
            with database.engine.connect():
                return
        except OperationalError as error:
            if _create_if_missing(database.address):
                say(f"The database {database.address.database} was created.")
                continue
            on_a_server = database.address.get_backend_name() != "sqlite"
            if not on_a_server or time.monotonic() >= deadline:
                raise
            if not told:
                click.echo(f"Waiting up to {seconds:g} s for the database: {why(error)}", err=True)
            told = True
            time.sleep(RECONNECT_SECONDS)


def _create_if_missing(url: sa.URL) -> bool:
    """Asks the server itself, by way of the database that every PostgreSQL has; False: that is not what is wrong."""
    if url.get_backend_name() != "postgresql" or not url.database:
        return False
    entrance = make_conninfo(**{**libpq_words(url), "dbname": "postgres", "connect_timeout": "5"})
    try:
        with psycopg.connect(entrance, autocommit=True, prepare_threshold=None) as connection:
            known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (url.database,)).fetchone()
            if known is not None:
                return False
            is_utf8 = connection.execute(_TEMPLATE_IS_UTF8).fetchone() == (True,)
            encoded = "" if is_utf8 else " ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}" + encoded).format(sql.Identifier(url.database)))
            except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                pass  # another release was quicker
            except psycopg.errors.InsufficientPrivilege:
                raise Failure(
                    f"the database {url.database} does not exist and this user may not create it: create it, then run"
                    " `leadway-calls migrate` again"
                ) from None
            return True
    except psycopg.OperationalError:
        return False


_TEMPLATE_IS_UTF8 = "SELECT pg_encoding_to_char(encoding) = 'UTF8' FROM pg_database WHERE datname = 'template1'"


def _bring_to_newest(this: Opened, *, patience: float, anyway: bool) -> None:
    with this.database.reading() as connection:
        problem = problem_of(connection, to_migrate=True)
    if problem is not None:
        raise Failure(problem)
    if is_current(this.database):
        say("The schema is the newest; nothing to do.")
        return
    had_one = sa.inspect(this.database.engine).has_table("alembic_version")
    try:
        bring_to_newest(this.settings.database_url, patience_seconds=patience, beside_processes=anyway, report=say)
    except StopNeeded as error:
        raise Failure(f"{error}. With --anyway it runs beside them, and they fail until they are replaced") from None
    except (MigrationBlocked, StatementTooLong) as error:
        raise Failure(str(error)) from None
    except CommandError as error:
        unknown = re.search(r"Can't locate revision identified by '(\w+)'", str(error))
        if unknown is None:
            raise
        raise Failure(
            f"the database has a newer schema ({unknown[1]}) than this version knows: install the newer version"
        ) from None
    say("The schema was brought to the newest version." if had_one else "The tables were created.")


def _make_the_environments_account(this: Opened) -> None:
    settings = this.settings
    location_id = settings.leadway_location_id
    if location_id is None:
        say("LEADWAY_LOCATION_ID is not set: accounts come from `leadway-calls accounts add`.")
        return
    if settings.leadway_intake_secret is not None:  # warns about what URLs cannot carry
        checked_secret(settings.leadway_intake_secret.get_secret_value(), settings, source="LEADWAY_INTAKE_SECRET")
    cipher = this.cipher()
    with this.database.reading() as connection:
        known = accounts.is_served(connection, location_id)
    this.database.transact(lambda connection: accounts.upsert_from_settings(connection, settings, cipher=cipher))
    say(f"The account {location_id} {'is as the environment says' if known else 'was added from the environment'}.")
