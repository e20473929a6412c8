"""Behind PgBouncer in transaction mode everything works: by the URL, by the setting, and found out by itself."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from migrations.upgrading import migrate
from models.database import COMMAND, RECEIPTS, WORKER, Database, KeptConnection
from tests.environments.conftest import StartWorld, announce, assert_all_written_once
from tests.support.pgbouncer import Pgbouncer
from tests.support.processes import Processes
from tests.support.services import PostgresServer

LOOK = sa.text(
    "SELECT current_setting('statement_timeout'), current_setting('lock_timeout'),"
    " current_setting('synchronous_commit'), current_setting('TimeZone')"
)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as started:
        with psycopg.connect(started.url(), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET synchronous_commit = off")
            connection.execute("ALTER SYSTEM SET timezone = 'Asia/Tokyo'")
            connection.execute("SELECT pg_reload_conf()")
        yield started


@pytest.fixture(params=["refuses what it does not know", "drops what it does not know"])
def pooler(server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Pgbouncer]:
    dropped = {"ignore_startup_parameters": "options"} if request.param.startswith("drops") else {}
    with Pgbouncer(server, **dropped) as started:
        yield started


@pytest.mark.parametrize("said", ["", "?pgbouncer=true"])
def test_limits_durability_and_utc_hold_in_each_transaction(pooler: Pgbouncer, said: str) -> None:
    wanted = ("5s", "3s", "on", "UTC")
    with closing(Database(pooler.url("postgres") + said, limits=WORKER)) as database:
        for _ in range(3):
            with database.reading() as connection:
                assert tuple(connection.execute(LOOK).one()) == wanted
            assert database.transact(lambda connection: tuple(connection.execute(LOOK).one())) == wanted
    kept = KeptConnection(Database(pooler.url("postgres") + said, limits=RECEIPTS))
    for _ in range(3):
        assert kept.run(lambda connection: tuple(connection.execute(LOOK).one())) == ("700ms", "300ms", "on", "UTC")
    kept.close()


def test_nothing_of_ours_stays_in_a_session_that_goes_to_somebody_else(server: PostgresServer) -> None:
    with Pgbouncer(server, default_pool_size=1) as pooler:
        with closing(Database(pooler.url("postgres"), limits=WORKER)) as database, database.reading() as connection:
            connection.execute(LOOK).one()
        with psycopg.connect(pooler.url("postgres"), autocommit=True) as other:
            assert other.execute(str(LOOK)).fetchone() == ("0", "0", "off", "Asia/Tokyo")


def test_the_urls_own_options_hold_too(pooler: Pgbouncer, server: PostgresServer) -> None:
    url = server.create_database(f"elsewhere{pooler.port}")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA leadway")
    pooled = f"{pooler.url(f'elsewhere{pooler.port}')}?options=-csearch_path%3Dleadway"
    migrate(pooled)
    with psycopg.connect(url) as connection:
        schemas = connection.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE tablename IN ('work', 'calls')")
        assert schemas.fetchall() == [("leadway",)]
        found = connection.execute("SELECT DISTINCT schemaname FROM pg_indexes WHERE schemaname <> 'pg_catalog'")
        assert found.fetchall() == [("leadway",)]


def test_two_that_migrate_at_once_take_turns(pooler: Pgbouncer, server: PostgresServer, tmp_path: Path) -> None:
    name = f"turns{pooler.port}"
    server.create_database(name)
    with Processes(tmp_path, {"DATABASE_URL": pooler.url(name)}) as processes:
        for each in ("one", "other"):
            processes.run(["leadway-calls", "migrate"], name=each)
        assert [processes.wait(each) for each in ("one", "other")] == [0, 0]
        assert sum("Migrating to 0001" in processes.log(each) for each in ("one", "other")) == 1
    with closing(Database(pooler.url(name), limits=COMMAND)) as database, database.reading() as connection:
        assert sa.inspect(connection).has_table("work")
        held = connection.execute(sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"))
        assert held.scalar_one() == 0


@pytest.mark.parametrize("told", ["by itself", "by the URL", "by the setting"])
def test_50_notifications_become_their_notes(server: PostgresServer, start_world: StartWorld, told: str) -> None:
    name = f"calls_{told.replace(' ', '_')}".lower()
    server.create_database(name)
    with Pgbouncer(server) as pooler:
        url = pooler.url(name) + ("?pgbouncer=true" if told == "by the URL" else "")
        settings = {"DATABASE_POOLER": "transaction"} if told == "by the setting" else {}
        world = start_world(url, **settings)
        calls = announce(world, 50)
        assert_all_written_once(world, calls)
        assert "a pooler in transaction mode shares them out" in world.command("doctor")
        for process in ("web", "worker", "beat"):
            log = world.processes.log(process)
            assert "Traceback" not in log, log
            assert "prepared statement" not in log
