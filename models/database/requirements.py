"""What a PostgreSQL must be for this system: version, encoding, rights. Each shortfall is one sentence."""

from contextlib import closing
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from models.database.address import UnusableDatabase
from models.database.columns import on_postgresql
from models.database.connections import Database
from models.database.limits import WEB

OLDEST_SERVER = 15
READ_CONTRACT = "leadway_v1"
"""The schema of the views that readers are promised."""


def refuse_unusable_database(url: str) -> None:
    """At the start of a process. Raises UnusableDatabase; nothing for a database that is away, which may come later."""
    with closing(Database(url, limits=WEB)) as database:  # says itself what is wrong with the folder of a SQLite file
        if database.address.get_backend_name() == "sqlite":
            return
        try:
            with database.reading() as connection:
                problem = problem_of(connection)
        except SQLAlchemyError:
            return
    if problem is not None:
        raise UnusableDatabase(problem)


def problem_of(connection: Connection, *, to_migrate: bool = False) -> str | None:
    """Why the database cannot be used, and what to do; None: it can. `to_migrate`: its tables are to be changed."""
    if not on_postgresql(connection):
        return None
    driver: Any = connection.connection.driver_connection
    version = driver.info.server_version // 10000
    if version < OLDEST_SERVER:
        return f"the server is PostgreSQL {version}, and {OLDEST_SERVER} or later is needed: upgrade it"
    row = connection.execute(_ASKED).one()
    if row.encoding != "UTF8":
        return (
            f"the database is in {row.encoding}, which cannot hold every letter: create one with ENCODING 'UTF8'"
            " TEMPLATE template0, and name that in DATABASE_URL"
        )
    if row.schema is None:
        return (
            f"none of the schemas of search_path ({row.search_path}) is there, or this user may not use it: create it,"
            f" or GRANT USAGE ON SCHEMA … TO {row.user}"
        )
    if to_migrate and not row.may_create:
        return (
            f"the user {row.user} may not create tables in the schema {row.schema}: let its owner run"
            f" GRANT USAGE, CREATE ON SCHEMA {row.schema} TO {row.user}"
        )
    if to_migrate and not row.may_make_views:
        return (
            f"the user {row.user} may not create the schema {READ_CONTRACT}, where the views for readers are: let the"
            f" owner of the database run CREATE SCHEMA {READ_CONTRACT} AUTHORIZATION {row.user}"
        )
    if row.may_write is False:
        return (
            f"the user {row.user} may not write the tables of the schema {row.schema}: connect as the user that"
            f" migrated, or let that one run GRANT ALL ON ALL TABLES IN SCHEMA {row.schema} TO {row.user};"
            f" GRANT ALL ON ALL SEQUENCES IN SCHEMA {row.schema} TO {row.user}"
        )
    return None


_ASKED = sa.text(
    """SELECT getdatabaseencoding() AS encoding,
              current_setting('search_path') AS search_path, current_schema() AS schema,
              quote_ident(current_user) AS "user", has_schema_privilege(current_schema(), 'CREATE') AS may_create,
              coalesce(has_schema_privilege(to_regnamespace(:read_contract), 'CREATE'),
                       has_database_privilege(current_database(), 'CREATE')) AS may_make_views,
              (SELECT bool_and(has_table_privilege(to_regclass('work'), needed))
               FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS needed) AS may_write"""
).bindparams(read_contract=READ_CONTRACT)
"""`may_write` is null while there is no such table."""
