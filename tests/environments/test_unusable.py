"""A database that cannot be used is told in one sentence by `migrate`, `doctor` and the start of each process."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from models.database import refuse_unusable_database
from tests.support.processes import Processes
from tests.support.rows import ENCRYPTION_KEY
from tests.support.services import PostgresServer

TELLING = ("release", "web", "worker", "beat", "doctor")


@pytest.fixture(scope="module")
def ascii_server() -> Iterator[PostgresServer]:
    with PostgresServer(encoding="SQL_ASCII") as started:
        yield started


def told_by_each(folder: Path, **environment: str) -> dict[str, str]:
    with Processes(folder, {"TOKEN_ENCRYPTION_KEYS": ENCRYPTION_KEY, **environment}) as processes:
        for line in TELLING[:-1]:
            processes.start(line)
        processes.run(["leadway-calls", "doctor"], name="doctor")
        assert {line for line in TELLING if processes.wait(line) == 0} == set()
        return {line: " ".join(processes.log(line).replace("→", "").split()) for line in TELLING}


def test_another_encoding_is_told_by_all(ascii_server: PostgresServer, redis_url: str, tmp_path: Path) -> None:
    found = told_by_each(tmp_path, DATABASE_URL=ascii_server.url(), REDIS_URL=redis_url)
    for line, told in found.items():
        assert "the database is in SQL_ASCII, which cannot hold every letter" in told, line
        assert "create one with ENCODING 'UTF8' TEMPLATE template0" in told, line
        assert "Traceback" not in told, line


def test_an_unknown_parameter_is_told_by_all(redis_url: str, tmp_path: Path) -> None:
    url = "postgresql://someone:a-password@127.0.0.1:1/calls?schema=mine"
    for line, told in told_by_each(tmp_path, DATABASE_URL=url, REDIS_URL=redis_url).items():
        assert "parameters that PostgreSQL does not know (schema): take them out" in told, line
        assert "options=-csearch_path%3DNAME" in told, line
        assert "Traceback" not in told, line
        assert "a-password" not in told, line


def test_who_may_not_create_tables_is_told_the_grant(ascii_server: PostgresServer, tmp_path: Path) -> None:
    with Processes(tmp_path, {"DATABASE_URL": ascii_server.url("owned")}) as processes:
        processes.run(["leadway-calls", "migrate"], name="own")
        assert processes.wait("own") == 0, processes.log("own")
        refuse_unusable_database(ascii_server.url("owned"))

        with psycopg.connect(ascii_server.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE somebody LOGIN PASSWORD 'word'")
            connection.execute("CREATE DATABASE bare ENCODING 'UTF8' TEMPLATE template0")
        bare = ascii_server.url("bare")
        theirs = re.sub(r"//.*@", "//somebody:word@", bare)
        processes.run(["leadway-calls", "migrate"], name="theirs", environment={"DATABASE_URL": theirs})
        assert processes.wait("theirs") == 1
        told = " ".join(processes.log("theirs").split())
        grant = "GRANT USAGE, CREATE ON SCHEMA public TO somebody"
        assert grant in told
        with psycopg.connect(bare, autocommit=True) as connection:
            connection.execute(grant)
        processes.run(["leadway-calls", "migrate"], name="views", environment={"DATABASE_URL": theirs})
        assert processes.wait("views") == 1
        grant = "CREATE SCHEMA leadway_v1 AUTHORIZATION somebody"
        assert grant in " ".join(processes.log("views").split())
        with psycopg.connect(bare, autocommit=True) as connection:
            connection.execute(grant)
        processes.run(["leadway-calls", "migrate"], name="granted", environment={"DATABASE_URL": theirs})
        assert processes.wait("granted") == 0, processes.log("granted")
