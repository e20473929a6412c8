"""Without beat everything but its schedule goes on: workers dispatch, list and heal pauses by themselves."""

from pathlib import Path

from tests.support.waiting import eventually
from tests.support.world import World, notes_due, notes_written
from tests.system.test_outages import HOUR, change, was_complete_until, world_time


def test_without_beat_calls_are_stored_and_noted_whether_told_of_listed_tried_again_or_paused(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=database_url, redis_url=redis_url) as world:
        was_complete_until(world, seconds_ago=HOUR)
        double = world.double
        listed = double.place_call(actions=["CALL_TRANSFER"], contact=True, ago=300)
        world.start("web", "worker")
        world.wait_until_done(calls=1)

        double.fault("fetch", "status", status=500, times=1)
        tried_again = double.place_call(actions=["CALL_TRANSFER"], contact=True)
        assert double.notify(tried_again).accepted
        world.wait_until_done(calls=2)

        double.revoke_token()
        paused = double.place_call(actions=["CALL_TRANSFER"], contact=True)
        assert double.notify(paused).accepted
        eventually(lambda: world.rows("SELECT * FROM pauses"), describe="the account to be paused")
        double.restore_token()
        change(world, "UPDATE pauses SET next_probe_at = :t", t=world_time(world, -1))
        world.wait_until_done(calls=3)

        assert notes_written(world) == notes_due([listed, tried_again, paused])
        sent = world.rows("SELECT DISTINCT process FROM heartbeats ORDER BY process")
        assert [row["process"] for row in sent] == ["web", "worker"]
