"""The database is 100 ms away: everything works, and nothing is refused."""

import pytest

from migrations.upgrading import migrate
from tests.environments.conftest import StartWorld, announce, assert_all_written_once
from tests.support.pgbouncer import Pgbouncer
from tests.support.services import PostgresServer
from tests.support.slow_line import SlowLine


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pooled", [False, True], ids=["direct", "behind a pooler"])
def test_a_round_trip_of_100_ms_refuses_and_loses_nothing(start_world: StartWorld, pooled: bool) -> None:
    with PostgresServer() as server, Pgbouncer(server) as pooler:
        migrate(server.create_database("calls"))  # from near: its statements are many
        far, port = (pooler.url("calls"), pooler.port) if pooled else (server.url("calls"), server.port)
        with SlowLine(port, seconds=0.05) as line:
            world = start_world(far.replace(f":{port}/", f":{line.port}/"), LEADWAY_LEASE_SECONDS="60")
            calls = announce(world, 10)
            assert_all_written_once(world, calls, timeout=150)
            assert world.answers("/readyz")
            assert "needs a person" not in world.command("status").lower()
