"""What every test may ask for: a real Redis, a real SQLite and PostgreSQL with the schema, each empty and its own.

Three harnesses stand on them: rows in a database (`tests.support.rows`), a worker in this process
(`tests.support.worker`), and the whole system as processes (`tests.support.world`).
"""

import itertools
import logging
import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis as redis_client
import sqlalchemy as sa
import structlog
import structlog.testing
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from migrations.upgrading import migrate
from models.accounts import accounts
from models.database import WORKER, Database, Limits, connections, inbox_file
from models.settings import Secret, Settings
from models.settings.places import make_private_file
from tests.leadway_double.double import LeadwayDouble
from tests.support import rows
from tests.support.rows import ENCRYPTION_KEY
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.worker import RETRY_SECONDS, SETTLE_SECONDS, AtWork, connect_anew

_numbers = itertools.count(1)

# How quick an example is says something about the machine, and ours may be busy.
hypothesis_settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("unhurried")

TEMPLATE = "leadway_template"


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Whoever sets up logs, as commands do, does it for the test alone."""
    root, ours = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**ours)
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="session")
def shared_engines() -> Iterator[Collection[sa.Engine]]:
    """One engine for one database, whoever opens it: an engine remembers the statements that it has compiled."""
    made: dict[tuple[sa.URL, Limits], sa.Engine] = {}
    make = connections.engine_for

    def once(url: sa.URL, limits: Limits) -> sa.Engine:
        if (url, limits) not in made:
            made[url, limits] = make(url, limits)
        return made[url, limits]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "engine_for", once)
        yield made.values()


@pytest.fixture
def engines_at_rest(shared_engines: Collection[sa.Engine]) -> None:
    """No connection of the test before is left: its database is emptied next."""
    for engine in shared_engines:
        engine.dispose()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """The tests' own Redis; never the one of REDIS_URL, which may be somebody's."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """An empty Redis."""
    with redis_client.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for all tests of this process, with the schema in a template that databases are copied from."""
    with PostgresServer() as server:
        migrate(server.create_database(TEMPLATE))
        yield server


@pytest.fixture(scope="session")
def kept_postgresql_url(postgres_server: PostgresServer) -> str:
    return postgres_server.create_database("kept", template=TEMPLATE)


@pytest.fixture
def postgresql_url(kept_postgresql_url: str, engines_at_rest: None) -> str:
    """One PostgreSQL database with the schema, emptied before each test: a new one takes a third of a second, and
    TRUNCATE four times as long as DELETE. Who changes the schema takes `empty_database_url`."""
    with psycopg.connect(kept_postgresql_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = [name for (name,) in tables if name not in ("alembic_version", "lives")]
        empty = f"LOCK TABLE {', '.join(names)};"  # whoever still writes has written all of it, or nothing
        empty += "".join(f"DELETE FROM {name};" for name in names) + "DELETE FROM lives WHERE number > 0;"
        connection.execute(f"SET session_replication_role = replica; {empty}".encode())  # in any order
        connection.execute("SELECT setval(sequencename::regclass, 1, false) FROM pg_sequences")
    return kept_postgresql_url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def kept_sqlite_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("database") / "leadway-calls.db"


@pytest.fixture
def sqlite_url(sqlite_template: Path, kept_sqlite_file: Path, engines_at_rest: None) -> str:
    """An empty SQLite database with the schema: one file, and each test begins with a copy of the template in it."""
    inbox_of_it = inbox_file(sa.make_url(f"sqlite:///{kept_sqlite_file}"))
    for file in (kept_sqlite_file, inbox_of_it):
        make_private_file(file)  # as they are made
    with closing(sqlite3.connect(sqlite_template)) as template, closing(sqlite3.connect(kept_sqlite_file)) as kept:
        kept.execute("PRAGMA synchronous = OFF")
        template.backup(kept)
        kept.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with closing(sqlite3.connect(inbox_of_it)) as inbox:
        inbox.executescript("PRAGMA synchronous = OFF; DROP TABLE IF EXISTS inbox; VACUUM;")
    return f"sqlite:///{kept_sqlite_file}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs twice, on SQLite and on PostgreSQL, unless it is marked `on_sqlite`."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def unserved(database_url: str) -> Iterator[Database]:
    """A database with the schema and no account."""
    opened = Database(database_url, limits=WORKER)
    yield opened
    opened.close()


@pytest.fixture
def database(unserved: Database) -> Database:
    """A database with the schema that serves LOCATION, without credentials."""
    rows.write(unserved, accounts.add, rows.LOCATION)
    return unserved


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The same without the schema: for the tests of the migrations."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = f"empty_{os.getpid()}_{next(_numbers)}"
    yield server.create_database(name)
    server.drop_database(name)


@pytest.fixture
def double() -> Iterator[LeadwayDouble]:
    with LeadwayDouble() as started:
        started.set_rate_limit(per_window=None, announced=3000)
        yield started


@pytest.fixture
def at_work(
    database_url: str, redis_url: str, double: LeadwayDouble, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[AtWork]:
    """A worker with its one account. Its times are those of production; tests move them instead of waiting."""
    monkeypatch.chdir(tmp_path)  # no .env of the developer's
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        leadway_api_url=double.url,
        leadway_location_id=double.location_id,
        leadway_api_token=Secret(double.token),
        leadway_time_zone="America/New_York",
        leadway_settle_seconds=SETTLE_SECONDS,
        leadway_retry_seconds=RETRY_SECONDS,
        leadway_lease_seconds=20,
        leadway_requests_per_10_seconds=3000,
        token_encryption_keys=(Secret(ENCRYPTION_KEY),),
        chosen=frozenset({"redis_url", "leadway_time_zone"}),
    )
    connect_anew(settings)
    worker = AtWork(settings, double)
    worker.database.transact(
        lambda connection: accounts.upsert_from_settings(connection, settings, cipher=worker.this.cipher)
    )
    with structlog.testing.capture_logs() as worker.said:
        yield worker
    worker.this.close()
    for event in worker.said:  # shown if the test failed
        print(event)
