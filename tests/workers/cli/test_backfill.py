"""`leadway-calls backfill` as a person runs it: told before, repeated, interrupted."""

import os
import signal

from tests.support.rows import on_sqlite
from tests.support.waiting import eventually
from tests.support.world import World
from tests.workers.cli.conftest import call_ids, days_ago, run_alone

DAY = 86_400


@on_sqlite
def test_backfill_tells_what_it_takes_before_it_takes_anything(world: World) -> None:
    placed = world.double.place_calls(120, over=20 * DAY, ago=3600, actions=["CALL_TRANSFER"])
    begin = days_ago(world, 30)
    status, printed = run_alone(world, "backfill", world.double.location_id, "--from", begin, "--dry-run")
    assert status == 0, printed
    assert "120 calls listed, of which 0 are here already" in printed
    assert "About 4 requests" in printed
    assert call_ids(world) == []

    status, printed = run_alone(world, "backfill", world.double.location_id, "--from", begin, "--yes")
    assert status == 0, printed
    assert "120 calls listed, 120 here" in printed
    assert call_ids(world) == sorted(call.call_id for call in placed)
    assert world.scalar("SELECT count(*) FROM follow_ups") == 0
    assert world.scalar("SELECT count(*) FROM calls WHERE origin = 'backfill'") == 120
    assert world.call_statuses() == {"complete": 120}
    assert world.scalar("SELECT complete_from < added_at FROM accounts")

    status, printed = run_alone(world, "backfill", world.double.location_id, "--from", begin, "--yes")
    assert status == 2, "it is complete from there on"
    assert "nothing lies between" in printed


@on_sqlite
def test_backfill_keeps_to_half_of_what_the_account_itself_is_allowed(world: World) -> None:
    world.double.place_calls(120, over=20 * DAY, ago=3600, actions=["CALL_TRANSFER"])
    status, printed = run_alone(world, "accounts", "set-budget", world.double.location_id, "--per-10-seconds", "10")
    assert status == 0, printed
    begin = days_ago(world, 30)
    status, printed = run_alone(world, "backfill", world.double.location_id, "--from", begin, "--dry-run")
    assert status == 0, printed
    assert "About 4 requests, 8 s, at 50% of the account's request budget" in printed


def test_an_interrupted_backfill_goes_on_where_it_was(world: World) -> None:
    placed = world.double.place_calls(400, over=20 * DAY, ago=3600, actions=["CALL_TRANSFER"])
    between = ("--from", days_ago(world, 30), "--to", days_ago(world, 0.01))
    words = ["backfill", world.double.location_id, *between, "--yes"]
    world.double.fault("list", "delay", seconds=0.3, skip=5)
    world.processes.run(["leadway-calls", *words], name="first")
    eventually(lambda: len(call_ids(world)) >= 100, timeout=60)
    os.kill(world.processes.pid("first"), signal.SIGINT)
    assert world.processes.wait("first") == 1
    assert "the same command goes on from here" in world.processes.log("first")
    there = len(call_ids(world))
    assert there < 400

    world.double.clear_faults()
    world.double.reset_stats()
    status, printed = run_alone(world, *words)
    assert status == 0, printed
    assert "goes on from there" in printed
    assert "400 calls listed, 400 here" in printed
    assert call_ids(world) == sorted(call.call_id for call in placed)
    pages = len(world.double.truth.requests(kind="list"))
    assert pages <= 2 + (400 - there) // 50 + 3, "what was read is not read again"
