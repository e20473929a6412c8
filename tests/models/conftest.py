"""A database with the schema and one account, on SQLite and on PostgreSQL."""

import os
from collections.abc import Iterator

import psycopg
import pytest

from models import accounts
from models.database import WORKER, Database
from tests.conftest import TEMPLATE
from tests.models.rows import LOCATION
from tests.support.services import PostgresServer


@pytest.fixture(scope="session")
def kept_postgresql_url(postgres_server: PostgresServer) -> Iterator[str]:
    name = f"models_{os.getpid()}"
    yield postgres_server.create_database(name, template=TEMPLATE)
    postgres_server.drop_database(name)


@pytest.fixture
def postgresql_url(kept_postgresql_url: str) -> str:
    """One database for all of these tests, emptied before each: making a new one takes a third of a second."""
    with psycopg.connect(kept_postgresql_url, autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = ", ".join(name for (name,) in tables if name != "alembic_version")
        connection.execute(f"TRUNCATE {names} RESTART IDENTITY".encode())
    return kept_postgresql_url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, limits=WORKER)
    with opened.transaction() as session:
        accounts.add(session, LOCATION)
    yield opened
    opened.close()
