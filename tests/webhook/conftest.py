"""The application on a real database and Redis, with one account, and the Leadway double that writes to it."""

import contextlib
import io
import logging
import os
from collections.abc import Iterator

import psycopg
import pytest

from models.schema import metadata
from tests.conftest import TEMPLATE
from tests.support.services import PostgresServer
from tests.webhook.intake import Intake
from workers.logs import set_up_logs


@pytest.fixture(scope="session")
def kept_postgresql_url(postgres_server: PostgresServer) -> Iterator[str]:
    name = f"webhook_{os.getpid()}"
    yield postgres_server.create_database(name, template=TEMPLATE)
    postgres_server.drop_database(name)


@pytest.fixture
def postgresql_url(kept_postgresql_url: str) -> str:
    """One database for all of these tests, emptied before each: making a new one takes a third of a second."""
    with psycopg.connect(kept_postgresql_url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {', '.join(metadata.tables)} RESTART IDENTITY")
    return kept_postgresql_url


@pytest.fixture
def intake(database_url: str, redis_url: str) -> Iterator[Intake]:
    with Intake(database_url, redis_url) as intake:
        yield intake


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    """What the process logs, every level, as in production: JSON, one object per line."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        set_up_logs(level="DEBUG", form="json")
    yield written
    root.handlers[:], root.level = handlers, level
