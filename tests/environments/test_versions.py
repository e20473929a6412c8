"""The oldest PostgreSQL that is promised and the newest that wheels bring."""

import psycopg
import pytest

from tests.environments.conftest import StartWorld, announce, assert_all_written_once
from tests.support.services import PostgresServer


@pytest.mark.parametrize("version", [15, 18])
def test_calls_become_their_notes_on_postgresql(start_world: StartWorld, version: int) -> None:
    with PostgresServer(version=version) as server:
        with psycopg.connect(server.url()) as connection:
            assert connection.info.server_version // 10000 == version
        world = start_world(server.create_database("calls"))
        calls = announce(world, 20)
        assert_all_written_once(world, calls)
