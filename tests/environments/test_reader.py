"""READER_DATABASE_URL: pages and commands that only read ask a replica, and go on when the primary is away."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
import requests

from migrations.upgrading import migrate
from tests.environments.conftest import StartWorld, announce, assert_all_written_once
from tests.support.services import PostgresServer
from tests.support.waiting import eventually

PASSWORD = "a-password-of-tests"


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    with ExitStack() as stack:
        primary, replica = PostgresServer(), PostgresServer()
        stack.enter_context(primary)
        migrate(primary.create_database("calls"))
        replica.create_standby_of(primary)
        stack.push(replica.__exit__)
        yield primary, replica


def test_pages_and_reading_commands_ask_the_replica(
    start_world: StartWorld, pair: tuple[PostgresServer, PostgresServer]
) -> None:
    primary, replica = pair
    world = start_world(primary.url("calls"), READER_DATABASE_URL=replica.url("calls"), OPS_PASSWORD=PASSWORD)
    [call] = calls = announce(world, 1)
    assert_all_written_once(world, calls)
    assert "reader: it is a copy of the database and keeps up" in world.command("doctor", name="doctor")
    assert "connections" in world.processes.log("doctor")

    location = world.double.location_id

    def page() -> requests.Response:
        return requests.get(f"{world.base_url}/ops/calls/{location}/{call.call_id}", auth=("ops", PASSWORD), timeout=5)

    eventually(lambda: page().ok, describe="the page of the call")
    with psycopg.connect(replica.url("calls")) as connection:
        seen = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'leadway-calls'")
        assert seen.fetchone() != (0,)
    primary.stop(signal.SIGQUIT)
    assert page().ok
    assert call.call_id in world.command("call", call.call_id, name="call")


def test_a_reader_that_is_no_copy_is_told(
    start_world: StartWorld, postgresql_url: str, pair: tuple[PostgresServer, PostgresServer]
) -> None:
    primary, _ = pair
    world = start_world(primary.url("calls"), READER_DATABASE_URL=postgresql_url)
    assert "reader: it is no copy of the database" in world.command("doctor")
