"""A database with the schema and one account, on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest

from models.accounts import accounts
from models.database import WORKER, Database
from tests.models.rows import LOCATION


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url, limits=WORKER)
    with opened.transaction() as connection:
        accounts.add(connection, LOCATION)
    yield opened
    opened.close()
