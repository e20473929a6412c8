"""Two deployments on one database, each with a Redis of its own: what one has in hand the other leaves alone."""

from pathlib import Path

from tests.leadway_double.nouns import PlacedCall
from tests.support.services import EmbeddedRedis
from tests.support.waiting import eventually
from tests.support.world import World, notes_due, notes_written
from workers.local.embedded_redis import free_port


def test_two_deployments_with_a_redis_each_write_every_note_once(
    postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    with (
        EmbeddedRedis(tmp_path / "redis-2") as other_redis,
        World(tmp_path, database_url=postgresql_url, redis_url=redis_url) as world,
    ):
        world.start("web", "worker")
        port = str(free_port())
        other = {"REDIS_URL": other_redis.url, "PORT": port}
        with world.another("web", environment=other), world.another("worker", environment=other):
            other_url = f"http://127.0.0.1:{port}/webhooks/leadway"
            calls: list[PlacedCall] = []

            def both_have_worked() -> bool:
                """On a busy machine the second worker starts when the first has done everything."""
                actions = ["CALL_TRANSFER", "APPOINTMENT_BOOKING"]
                for number, call in enumerate(world.double.place_calls(60, actions=actions, contact=True, booked=True)):
                    assert world.double.notify(call, url=other_url if number % 2 else None).accepted
                    calls.append(call)
                world.wait_until_done(calls=len(calls), timeout=90)
                workers = "SELECT count(DISTINCT worker) FROM attempts WHERE outcome = 'done' AND kind = 'call'"
                return bool(world.scalar(workers) == 2)

            eventually(both_have_worked, timeout=60, describe="both to work")
            assert notes_written(world) == notes_due(calls)
