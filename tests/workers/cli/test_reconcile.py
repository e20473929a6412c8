"""`leadway-calls reconcile` as a person runs it: no worker beside it, Redis away, or unable to."""

from pathlib import Path

from tests.support.rows import on_sqlite
from tests.support.world import World
from tests.workers.cli.conftest import call_ids, days_ago, run_alone

DAY = 86_400


def test_reconcile_takes_in_what_nobody_announced_and_says_what_it_did(world: World) -> None:
    just_ended = world.double.place_call()
    status, printed = run_alone(world, "reconcile")
    assert status == 0, printed
    assert "1 call listed, 1 here" in printed
    assert "complete until" in printed
    assert call_ids(world) == [just_ended.call_id]
    assert world.call_statuses() == {"complete": 1}

    older = world.double.place_calls(70, over=2 * DAY, ago=600)
    status, printed = run_alone(world, "reconcile", world.double.location_id, "--since", days_ago(world, 3))
    assert status == 0, printed
    assert "71 calls listed, 71 here; 70 had not been announced" in printed
    assert len(call_ids(world)) == 71
    late = world.rows("SELECT count(*) AS n FROM follow_ups WHERE status = 'pending'")[0]["n"]
    assert late > 0, "found by reconcile, so they get their notes"
    assert older[0].call_id in call_ids(world)


@on_sqlite
def test_reconcile_works_while_redis_is_away(world: World, tmp_path: Path) -> None:
    call = world.double.place_call()
    world.processes.environment["REDIS_URL"] = "redis://127.0.0.1:1/0"
    status, printed = run_alone(world, "reconcile")
    assert status == 0, printed
    assert call_ids(world) == [call.call_id]


@on_sqlite
def test_reconcile_tells_why_it_cannot(world: World) -> None:
    world.double.revoke_token()
    status, printed = run_alone(world, "reconcile")
    assert status == 1
    assert "accounts set-token" in printed
    status, printed = run_alone(world, "reconcile", "nobody")
    assert status == 1
    assert "no account 'nobody'" in printed
