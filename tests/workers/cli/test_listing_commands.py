"""`reconcile` and `backfill` as a person runs them: no worker beside them, interrupted, repeated."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from tests.support.world import World

DAY = 86_400
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""What does not differ between databases; each command takes a second to start."""


@pytest.fixture
def world(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[World]:
    with World(tmp_path, database_url=database_url, redis_url=redis_url) as world:
        world.processes.finish("release")
        yield world


def run(world: World, *words: str) -> tuple[int, str]:
    """Exit status, and what this run printed."""
    name = f"command-{len(list(world.processes.folder.glob('command-*.log')))}"
    world.processes.run(["leadway-calls", *words], name=name)
    return world.processes.wait(name), " ".join(world.processes.log(name).split())


def days_ago(world: World, days: float) -> str:
    from datetime import UTC, datetime, timedelta

    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


def ids(world: World) -> list[str]:
    return sorted(row["call_id"] for row in world.rows("SELECT call_id FROM calls"))


def test_reconcile_takes_in_what_nobody_announced_and_says_what_it_did(world: World) -> None:
    just_ended = world.double.place_call()
    status, printed = run(world, "reconcile")
    assert status == 0, printed
    assert "1 call listed, 1 here" in printed
    assert "complete until" in printed
    assert ids(world) == [just_ended.call_id]
    assert world.statuses("calls") == {"done": 1}

    older = world.double.place_calls(70, over=2 * DAY, ago=600)
    status, printed = run(world, "reconcile", world.double.location_id, "--since", days_ago(world, 3))
    assert status == 0, printed
    assert "71 calls listed, 71 here; 70 had not been announced" in printed
    assert len(ids(world)) == 71
    late = world.rows("SELECT count(*) AS n FROM follow_ups WHERE status = 'pending'")[0]["n"]
    assert late > 0, "found by reconcile, so they get their notes"
    assert older[0].call_id in ids(world)


@on_sqlite
def test_reconcile_works_while_redis_is_away(world: World, tmp_path: Path) -> None:
    call = world.double.place_call()
    world.processes.environment["REDIS_URL"] = "redis://127.0.0.1:1/0"
    status, printed = run(world, "reconcile")
    assert status == 0, printed
    assert ids(world) == [call.call_id]


@on_sqlite
def test_reconcile_tells_why_it_cannot(world: World) -> None:
    world.double.revoke_token()
    status, printed = run(world, "reconcile")
    assert status == 1
    assert "accounts set-token" in printed
    status, printed = run(world, "reconcile", "nobody")
    assert status == 1
    assert "no account 'nobody'" in printed


@on_sqlite
def test_backfill_tells_what_it_takes_before_it_takes_anything(world: World) -> None:
    placed = world.double.place_calls(120, over=20 * DAY, ago=3600)
    begin = days_ago(world, 30)
    status, printed = run(world, "backfill", world.double.location_id, "--from", begin, "--dry-run")
    assert status == 0, printed
    assert "120 calls listed, of which 0 are here already" in printed
    assert "About 4 requests" in printed
    assert ids(world) == []

    status, printed = run(world, "backfill", world.double.location_id, "--from", begin, "--yes")
    assert status == 0, printed
    assert "120 calls listed, 120 here" in printed
    assert ids(world) == sorted(call.call_id for call in placed)
    assert world.scalar("SELECT count(*) FROM follow_ups") == 0
    assert world.scalar("SELECT count(*) FROM calls WHERE origin = 'backfill' AND status = 'done'") == 120
    assert world.scalar("SELECT complete_from < added_at FROM accounts")

    status, printed = run(world, "backfill", world.double.location_id, "--from", begin, "--yes")
    assert status == 2, "it is complete from there on"
    assert "nothing lies between" in printed


@on_sqlite
def test_backfill_keeps_to_half_of_what_the_account_itself_is_allowed(world: World) -> None:
    world.double.place_calls(120, over=20 * DAY, ago=3600)
    status, printed = run(world, "accounts", "set-budget", world.double.location_id, "--per-10-seconds", "10")
    assert status == 0, printed
    status, printed = run(world, "backfill", world.double.location_id, "--from", days_ago(world, 30), "--dry-run")
    assert status == 0, printed
    assert "About 4 requests, 8 s, at 50% of the account's request budget" in printed


def test_an_interrupted_backfill_goes_on_where_it_was(world: World) -> None:
    placed = world.double.place_calls(400, over=20 * DAY, ago=3600)
    words = [
        "backfill",
        world.double.location_id,
        "--from",
        days_ago(world, 30),
        "--to",
        days_ago(world, 0.01),
        "--yes",
    ]
    world.double.fault("list", "delay", seconds=0.3, skip=5)
    world.processes.run(["leadway-calls", *words], name="first")
    eventually(lambda: len(ids(world)) >= 100, timeout=60)
    world.processes._running["first"].process.send_signal(signal.SIGINT)
    assert world.processes.wait("first") == 1
    assert "the same command goes on from here" in world.processes.log("first")
    there = len(ids(world))
    assert there < 400

    world.double.clear_faults()
    world.double.reset_stats()
    status, printed = run(world, *words)
    assert status == 0, printed
    assert "goes on from there" in printed
    assert "400 calls listed, 400 here" in printed
    assert ids(world) == sorted(call.call_id for call in placed)
    pages = len(world.double.truth.requests(kind="list"))
    assert pages <= 2 + (400 - there) // 50 + 3, "what was read is not read again"
