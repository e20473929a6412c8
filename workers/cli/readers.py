"""`leadway-calls readers`: roles of PostgreSQL that see the views of the read contract, and nothing else."""

import re
import secrets
from typing import Any

import click
import psycopg
from psycopg import sql
from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from migrations import views
from models.database import on_postgresql
from models.reports import readers as known_readers
from workers.cli.acting import dry_run_option, json_option, show_json
from workers.cli.credentials import checked_location, line_from_stdin, prompted
from workers.cli.opened import WRONG_USAGE, Failure, Opened, opened, served_account
from workers.cli.screen import count, say, show_table, when

ROLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
SHORTEST_PASSWORD = 16
MOST_CONNECTIONS = 5
SETTINGS = {
    "statement_timeout": "5min", "idle_in_transaction_session_timeout": "1min", "idle_session_timeout": "1h",
    "lock_timeout": "1s", "default_transaction_read_only": "on", "search_path": views.SCHEMA,
}  # fmt: skip
"""Of each session of a reader. A session may set others: so a migration ends the readers that are in its way."""


@click.group()
def readers() -> None:
    """The roles of PostgreSQL that may read leadway_v1, and nothing else."""


@readers.command()
@click.argument("name")
@click.option("--without-words", is_flag=True, help="Without summaries, transcripts, numbers, extracted data, notes.")
@click.option("--location", "locations", multiple=True, metavar="LOCATION", help="Only this account; may be repeated.")
@click.option("--password-stdin", is_flag=True, help="Read the password as a line from standard input.")
@click.option("--prompt", is_flag=True, help="Ask for the password. [default: one is made, and shown once]")
@dry_run_option
def add(
    name: str, without_words: bool, locations: tuple[str, ...], password_stdin: bool, prompt: bool, dry_run: bool
) -> None:
    """Makes a role NAME that can log in and sees the views of leadway_v1 only.

    Its statements end after 5 minutes, its idle transactions after 1 minute, and it has at most 5 connections. A
    migration that it is in the way of ends its sessions.

    \b
    Examples:
      leadway-calls readers add analyst
      leadway-calls readers add client_madrid --location ve9EPM428h8vShlRW1KT --without-words
    """
    if not ROLE_NAME.fullmatch(name):
        raise Failure("NAME: small letters, digits and _, a letter first, at most 63", exit_code=WRONG_USAGE)
    with opened(dry_run=dry_run) as this:
        _refuse_sqlite(this)
        with this.database.reading() as connection:
            for location in locations:
                served_account(connection, checked_location(location))
        password = _password(from_stdin=password_stdin, prompt=prompt)

        def make(connection: Connection) -> None:
            _make_role(connection, name, password)
            known_readers.add(connection, name, with_words=not without_words, locations=locations)
            views.grant(connection, name, with_words=not without_words)
            _refuse_more_than_views(connection, name)

        _as_whoever_may(this, make)
        say(f"{name} may read leadway_v1{' without words' if without_words else ''}"
            f"{' of ' + count(len(set(locations)), 'account') if locations else ''}.")  # fmt: skip
        if not (password_stdin or prompt or dry_run):
            say("Its password, shown only now:")
            click.echo(f"\n  {password}\n")


@readers.command("list")
@json_option
def list_readers(in_json: bool) -> None:
    """Shows who may read what.

    \b
    Example:
      leadway-calls readers list
    """
    with opened() as this:
        _refuse_sqlite(this)
        with this.database.reading() as connection:
            found = known_readers.every(connection)
        if in_json:
            names = ("name", "with_words", "added_at", "locations")
            show_json({"readers": [{name: getattr(each, name) for name in names} for each in found]})
            return
        if not found:
            say("No readers. Add one: `leadway-calls readers add NAME`.")
            return
        rows = [
            (
                each.name, "yes" if each.with_words else "no", when(each.added_at),
                "all" if each.locations is None else ", ".join(each.locations),
            )
            for each in found
        ]  # fmt: skip
        show_table(("name", "words", "added", "accounts"), rows)


@readers.command()
@click.argument("name")
@dry_run_option
def remove(name: str, dry_run: bool) -> None:
    """Ends the sessions of a reader and drops its role.

    \b
    Example:
      leadway-calls readers remove analyst
    """
    with opened(dry_run=dry_run) as this:
        _refuse_sqlite(this)

        def drop(connection: Connection) -> bool:
            if not known_readers.remove(connection, name):
                return False
            if connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).first():
                connection.exec_driver_sql(f'ALTER ROLE "{name}" NOLOGIN')
                connection.exec_driver_sql(f'REVOKE ALL ON ALL TABLES IN SCHEMA {views.SCHEMA} FROM "{name}"')
                connection.exec_driver_sql(f'REVOKE ALL ON SCHEMA {views.SCHEMA} FROM "{name}"')
                end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s"
                connection.exec_driver_sql(end, (name,))
                connection.exec_driver_sql(f'DROP ROLE "{name}"')
            return True

        if not _as_whoever_may(this, drop):
            raise Failure(f"no reader {name!r}: `leadway-calls readers list` names them")
        say(f"{name} is removed.")


def _refuse_sqlite(this: Opened) -> None:
    if this.database.engine.dialect.name != "postgresql":
        raise Failure("SQLite has no roles: whoever can read the file reads all of it. Readers need PostgreSQL.")


def _password(*, from_stdin: bool, prompt: bool) -> str:
    if not (from_stdin or prompt):
        return secrets.token_urlsafe(24)
    password = line_from_stdin("password") if from_stdin else prompted("Password")
    if len(password) < SHORTEST_PASSWORD:
        raise Failure(f"the password needs at least {SHORTEST_PASSWORD} characters", exit_code=WRONG_USAGE)
    return password


def _make_role(connection: Connection, name: str, password: str) -> None:
    """The server gets the password's SCRAM verifier, which a log of its statements may show."""
    assert on_postgresql(connection)
    driver: Any = connection.connection.driver_connection
    verifier = driver.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    role, secret = sql.Identifier(name), sql.Literal(verifier)
    attributes = sql.SQL("LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION CONNECTION LIMIT {}")
    statements = [
        sql.SQL("CREATE ROLE {} {} PASSWORD {}").format(role, attributes.format(MOST_CONNECTIONS), secret),
        *(
            sql.SQL("ALTER ROLE {} SET {} TO {}").format(role, sql.Identifier(setting), sql.Literal(value))
            for setting, value in SETTINGS.items()
        ),
        # So that a migration of ours may end its sessions. Before PostgreSQL 16 a member inherits anyway.
        sql.SQL("GRANT {} TO CURRENT_USER").format(role)
        + sql.SQL(" WITH INHERIT TRUE" if driver.info.server_version >= 160000 else ""),
    ]
    for statement in statements:
        connection.exec_driver_sql(statement.as_string(driver).replace("%", "%%"))


def _refuse_more_than_views(connection: Connection, name: str) -> None:
    """What everybody may do in this database (PUBLIC), the new role may, too."""
    more = connection.exec_driver_sql(_MORE_THAN_VIEWS, {"role": name, "schema": views.SCHEMA}).scalars().all()
    if more:
        raise Failure(f"every role may use {', '.join(more)} in this database: revoke that from PUBLIC first")


_MORE_THAN_VIEWS = """
SELECT 'table ' || c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT IN (%(schema)s, 'pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'pg_toast%%' AND n.nspname NOT LIKE 'pg_temp%%'
  AND has_schema_privilege(%(role)s, n.oid, 'USAGE')
  AND (has_any_column_privilege(%(role)s, c.oid, 'SELECT, INSERT, UPDATE')
       OR has_table_privilege(%(role)s, c.oid, 'DELETE, TRUNCATE'))
UNION ALL
SELECT 'CREATE in schema ' || quote_ident(nspname) FROM pg_namespace
WHERE nspname NOT LIKE 'pg_%%' AND has_schema_privilege(%(role)s, oid, 'CREATE')
"""


def _as_whoever_may(this: Opened, change: Any) -> Any:
    try:
        return this.database.transact(change)
    except ProgrammingError as error:
        if isinstance(error.orig, psycopg.errors.DuplicateObject):
            raise Failure("a role of this name exists: choose another one, or `leadway-calls readers remove`") from None
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise Failure(
                "the role of DATABASE_URL may not make or drop roles: let an administrator run"
                " ALTER ROLE … CREATEROLE for it, or run this command as one"
            ) from None
        raise
