"""Twenty connections are enough for the whole system, and who finds none waits for one: no attempt breaks."""

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from migrations.upgrading import migrate
from tests.environments.conftest import StartWorld, announce, assert_all_written_once
from tests.support.services import PostgresServer
from tests.support.world import World

ALLOWED = 20


@pytest.fixture
def limited() -> Iterator[tuple[PostgresServer, str]]:
    """A database whose user may have ALLOWED connections."""
    with PostgresServer() as server:
        url = server.create_database("calls")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE few LOGIN PASSWORD 'word' CONNECTION LIMIT {ALLOWED}".encode())
            connection.execute("GRANT ALL ON SCHEMA public TO few")
            connection.execute("CREATE SCHEMA leadway_v1 AUTHORIZATION few")
        theirs = re.sub(r"//.*@", "//few:word@", url)
        migrate(theirs)
        yield server, theirs


def test_220_calls_are_done_within_twenty_connections(
    start_world: StartWorld, limited: tuple[PostgresServer, str]
) -> None:
    server, url = limited
    world = start_world(url, WEB_PROCESSES="2")
    with _watched(server) as most:
        calls = announce(world, 220)
        assert_all_written_once(world, calls)
    assert 5 < most[0] <= ALLOWED
    _assert_no_attempt_broke(world)
    assert "connections: at most" in world.command("doctor")


def test_while_others_hold_the_connections_everybody_waits_and_nothing_breaks(
    start_world: StartWorld, limited: tuple[PostgresServer, str]
) -> None:
    server, url = limited
    world = start_world(url, WEB_PROCESSES="2")
    calls = announce(world, 20)
    with ExitStack() as others:
        for _ in range(200):
            try:
                others.enter_context(psycopg.connect(url))
            except psycopg.OperationalError:
                break
        with psycopg.connect(server.url(), autocommit=True) as ours:
            ours.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'leadway-calls'"
            )
        with ExitStack() as more:
            for _ in range(200):
                try:
                    more.enter_context(psycopg.connect(url))
                except psycopg.OperationalError:
                    break
            calls += announce(world, 20)
            threading.Event().wait(6)
    assert_all_written_once(world, calls)
    _assert_no_attempt_broke(world)


def _assert_no_attempt_broke(world: World) -> None:
    assert "attempt_raised" not in world.processes.log("worker")
    assert world.rows("SELECT * FROM attempts WHERE outcome IN ('broken', 'aborted')") == []


@contextmanager
def _watched(server: PostgresServer) -> Iterator[list[int]]:
    """The greatest number of connections of the user that was seen during the block."""
    most, over = [0], threading.Event()

    def watch() -> None:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            while not over.wait(0.05):
                row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'few'").fetchone()
                most[0] = max(most[0], row[0] if row else 0)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()
