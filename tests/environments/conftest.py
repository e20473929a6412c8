"""What the environments share. These tests are run by `make environments`: some need programs that no wheel brings."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.leadway_double.nouns import PlacedCall
from tests.support.traffic import NOTES_OF, assert_each_note_once
from tests.support.world import World

StartWorld = Callable[..., World]


@pytest.fixture
def start_world(tmp_path: Path, redis_url: str) -> Iterator[StartWorld]:
    """Migrates a database and starts web, worker and beat on it."""
    started: list[World] = []

    def start(database_url: str, **settings: str) -> World:
        world = World(tmp_path, database_url=database_url, redis_url=redis_url, settings=settings)
        world.__enter__()
        started.append(world)
        world.processes.finish("release")
        world.start("web", "worker", "beat")
        return world

    yield start
    for world in started:
        for process in ("web", "worker", "beat"):  # shown if the test failed
            print(f"--- {process}\n{world.processes.log(process)[-6000:]}")
        world.__exit__(None, None, None)


def announce(world: World, number: int) -> list[PlacedCall]:
    """So many calls end, each owes two notes, and each notification is answered 202."""
    calls = [world.double.place_call(actions=NOTES_OF, contact=True, booked=True) for _ in range(number)]
    deliveries = [world.double.notify(call, wait=False) for call in calls]
    for delivery in deliveries:
        assert delivery.wait(60)
    assert {attempt.status for delivery in deliveries for attempt in delivery.attempts} == {202}, "nothing is refused"
    return calls


def assert_all_written_once(world: World, calls: Sequence[PlacedCall], *, timeout: float = 90.0) -> None:
    began_at = time.monotonic()
    world.wait_until_done(calls=len(calls), timeout=timeout)
    print(f"{len(calls)} calls were done {time.monotonic() - began_at:.1f} s after the last notification")
    assert_each_note_once(world, list(calls))
    assert world.call_statuses() == {"complete": len(calls)}
