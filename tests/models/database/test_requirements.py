"""A PostgreSQL on which this system cannot be run is told in one sentence; how each process tells it is tested in
tests/environments."""

import os
import re
from collections.abc import Iterator

import psycopg
import pytest

from models.database import UnusableDatabase, refuse_unusable_database
from tests.support.services import PostgresServer
from tests.support.slow_line import SlowLine


@pytest.fixture
def name() -> str:
    return f"unusable_{os.getpid()}"


@pytest.fixture
def server(postgres_server: PostgresServer, name: str) -> Iterator[PostgresServer]:
    yield postgres_server
    postgres_server.drop_database(name)
    execute(postgres_server.url(), f"DROP ROLE IF EXISTS {name}")


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_another_encoding_than_utf8_is_told(server: PostgresServer, name: str, encoding: str) -> None:
    made = f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    execute(server.url(), made)
    with pytest.raises(UnusableDatabase, match=f"in {encoding}, .* create one with ENCODING 'UTF8' TEMPLATE template0"):
        refuse_unusable_database(server.url(name))


def test_too_old_a_server_is_told(postgresql_url: str, postgres_server: PostgresServer) -> None:
    def say_14(data: bytes) -> bytes:
        return re.sub(rb"(server_version\x00)\d\d", rb"\g<1>14", data)

    with (
        SlowLine(postgres_server.port, rewrite=say_14) as line,
        pytest.raises(UnusableDatabase, match="PostgreSQL 14, and 15 or later is needed: upgrade it"),
    ):
        refuse_unusable_database(postgresql_url.replace(f":{postgres_server.port}/", f":{line.port}/"))
    refuse_unusable_database(postgresql_url)


def test_a_missing_right_is_told_with_the_statements_that_give_it(
    server: PostgresServer, postgresql_url: str, name: str
) -> None:
    execute(postgresql_url, f"CREATE ROLE {name} LOGIN PASSWORD 'word'")
    theirs = re.sub(r"//.*@", f"//{name}:word@", postgresql_url)
    try:
        with pytest.raises(UnusableDatabase, match=r"none of the schemas of search_path \(elsewhere\) is there"):
            refuse_unusable_database(f"{theirs}?options=-csearch_path%3Delsewhere")
        with pytest.raises(UnusableDatabase, match="may not write the tables of the schema public") as raised:
            refuse_unusable_database(theirs)
        execute(postgresql_url, *re.findall(r"GRANT [^;]+", str(raised.value)))
        refuse_unusable_database(theirs)
    finally:
        execute(postgresql_url, f"DROP OWNED BY {name}")
