"""One process's clock is 5 s ahead of all others', or behind: everything goes on, and the clock is told.

`make test-clocks ARGS="--clock apart"` runs it, for it needs the library that is preloaded.
"""

import os
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from tests.support.world import World, notes_due, notes_written
from tests.system.test_outages import HOUR, was_complete_until

LIBRARY = os.environ["SHIFTED_CLOCK_LIBRARY"]
LINES = ("web", "worker", "beat")
APART = "clocks differ from the database's"


@pytest.mark.parametrize("seconds", [5, -5], ids=["ahead", "behind"])
@pytest.mark.parametrize("apart", LINES)
def test_with_one_clock_apart_calls_are_stored_listed_and_noted_and_the_clock_is_told(
    apart: str, seconds: int, postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    """On PostgreSQL: SQLite's clock is that of the process that asks it, on the one host that there is."""
    with World(tmp_path, database_url=postgresql_url, redis_url=redis_url) as world:
        was_complete_until(world, seconds_ago=HOUR)
        double = world.double
        calls = [double.place_call(actions=["CALL_TRANSFER"], contact=True, ago=300)]
        for line in LINES:
            shifted = {"LD_PRELOAD": LIBRARY, "CLOCK_SHIFT": str(seconds)} if line == apart else {}
            world.processes.start(line, environment=shifted)
        world.wait_for_web()
        world.wait_for_worker()
        world.wait_until_done(calls=1)
        for _ in range(3):
            calls.append(double.place_call(actions=["CALL_TRANSFER"], contact=True))
            assert double.notify(calls[-1]).accepted
        double.fault("fetch", "status", status=500, times=1)
        world.wait_until_done(calls=4)
        assert notes_written(world) == notes_due(calls)
        told = eventually(lambda: _told(world), timeout=15, describe="the clock to be told")
        assert f"{apart}-" in told
        assert f"{abs(seconds)}.0 s {'ahead' if seconds > 0 else 'behind'}" in told


def _told(world: World) -> str:
    """What `status` says of clocks."""
    world.processes.run(["leadway-calls", "status"], name="status")
    eventually(lambda: not world.processes.is_running("status"), timeout=30, describe="status to end")
    said = " ".join(world.processes.log("status").split())
    return said[said.index(APART) :] if APART in said else ""
