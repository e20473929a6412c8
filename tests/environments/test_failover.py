"""Another server takes over: connections to the old one are dropped, and everything goes on by itself."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from migrations.upgrading import migrate
from tests.environments.conftest import StartWorld
from tests.support.services import PostgresServer
from tests.support.slow_line import SlowLine
from tests.support.traffic import Traffic, assert_each_note_once
from tests.support.waiting import eventually

PER_SECOND = 4.0


@pytest.fixture
def pair() -> Iterator[tuple[PostgresServer, PostgresServer]]:
    """A primary with the schema, and a standby that follows it and confirms each commit."""
    with ExitStack() as stack:
        primary, standby = PostgresServer(), PostgresServer()
        stack.enter_context(primary)
        migrate(primary.create_database("calls"))
        standby.create_standby_of(primary)
        stack.push(standby.__exit__)
        _execute(primary, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        eventually(
            lambda: "sync" in _first(primary, "SELECT coalesce(max(sync_state), '') FROM pg_stat_replication"),
            describe="the standby to confirm commits",
        )
        yield primary, standby


def test_when_the_primary_dies_the_promoted_standby_is_found_by_the_urls_hosts(
    start_world: StartWorld, pair: tuple[PostgresServer, PostgresServer]
) -> None:
    primary, standby = pair
    url = primary.url("calls").replace(f":{primary.port}/", f":{primary.port},127.0.0.1:{standby.port}/")
    world = start_world(url)
    with Traffic(world, per_second=PER_SECOND) as traffic:
        eventually(lambda: len(traffic.calls) > 4, describe="some calls under way")
        primary.stop(signal.SIGQUIT)
        _promote(standby)
        before = len(traffic.calls)
        eventually(lambda: len(traffic.calls) > before + 20, describe="calls afterwards")
    world.wait_until_done(calls=len(traffic.calls), timeout=90)
    assert_each_note_once(world, traffic.calls)
    assert traffic.statuses() == {202}


def test_when_a_primary_becomes_read_only_its_connections_are_left_for_the_new_one(
    start_world: StartWorld, pair: tuple[PostgresServer, PostgresServer]
) -> None:
    """The address of a managed database leads to the new primary, and the old one lives on: nobody is cut off."""
    primary, standby = pair
    with SlowLine(primary.port) as line:
        world = start_world(primary.url("calls").replace(f":{primary.port}/", f":{line.port}/"))
        with Traffic(world, per_second=PER_SECOND) as traffic:
            eventually(lambda: len(traffic.calls) > 4, describe="some calls under way")
            _execute(primary, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
            eventually(lambda: _first(primary, "SHOW default_transaction_read_only") == "on")
            line.target_port = standby.port
            _promote(standby)
            world.disconnect()
            before = len(traffic.calls)
            eventually(lambda: len(traffic.calls) > before + 20, describe="calls afterwards")
        world.wait_until_done(calls=len(traffic.calls), timeout=90)
        assert_each_note_once(world, traffic.calls)
        assert traffic.statuses() == {202}
        hearts = world.rows("SELECT process FROM heartbeats WHERE beat_at > now() - interval '10 seconds'")
        assert {each["process"] for each in hearts} == {"web", "worker", "beat"}


def test_a_server_that_is_read_only_for_a_while_is_written_to_again_soon(
    start_world: StartWorld, pair: tuple[PostgresServer, PostgresServer]
) -> None:
    primary, _ = pair
    world = start_world(primary.url("calls"))
    with Traffic(world, per_second=PER_SECOND) as traffic:
        eventually(lambda: len(traffic.calls) > 4, describe="some calls under way")
        _execute(primary, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        threading.Event().wait(5)
        _execute(
            primary,
            "SET default_transaction_read_only = off",
            "ALTER SYSTEM RESET default_transaction_read_only",
            "SELECT pg_reload_conf()",
        )
    world.wait_until_done(calls=len(traffic.calls), timeout=60)
    assert_each_note_once(world, traffic.calls)
    assert traffic.statuses() == {202}


def _promote(standby: PostgresServer) -> None:
    standby.promote()
    _execute(standby, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")


def _execute(server: PostgresServer, *statements: str) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _first(server: PostgresServer, query: str) -> str:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        return str((connection.execute(query.encode()).fetchone() or [""])[0])
