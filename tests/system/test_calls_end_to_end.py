"""From outside: notifications go in over HTTP, rows and notes come out. Nothing of ours is imported."""

from itertools import cycle
from pathlib import Path

from tests.leadway_double.notifications import Dialect, Proof
from tests.support.world import World, notes_due, notes_written

WAYS = [
    (Dialect.FLAT, Proof.ED25519),
    (Dialect.FLAT, Proof.RSA),
    (Dialect.FLAT_UNTYPED, Proof.ED25519),
    (Dialect.DATA, Proof.ED25519),
    (Dialect.WORKFLOW, Proof.SECRET_PATH),
    (Dialect.WORKFLOW, Proof.SECRET_HEADER),
    (Dialect.THIN, Proof.SECRET_PATH),
    (Dialect.THIN, Proof.SECRET_HEADER),
    (Dialect.CALL_COMPLETED, Proof.SECRET_PATH),
]


def test_200_calls_of_all_dialects_become_200_rows_with_their_actions_and_exactly_the_notes_due(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=database_url, redis_url=redis_url) as world:
        world.processes.finish("release")
        world.start("web", "worker", "beat")
        calls = world.double.place_calls(180) + world.double.place_calls(20, trial=True)

        for call, (dialect, proof) in zip(calls, cycle(WAYS), strict=False):
            delivery = world.double.notify(call, dialect=dialect, proof=proof)
            assert delivery.status == 202, (dialect, proof, delivery)
        for call in calls[::10]:
            assert world.double.notify(call, dialect=Dialect.THIN).status == 202
        world.wait_until_done(calls=len(calls), timeout=100)

        assert world.call_statuses() == {"complete": 200}
        assert {row["call_id"] for row in world.rows("SELECT call_id FROM calls")} == {call.call_id for call in calls}
        assert _stored_actions(world) == {call.call_id: list(call.action_types) for call in calls if call.action_types}
        due = {call_id: number for call_id, number in notes_due(calls).items() if number}
        assert notes_written(world) == due
        assert world.follow_up_statuses().get("done") == sum(due.values())
        assert world.double.stats()["refused"] == 0


def _stored_actions(world: World) -> dict[str, list[str]]:
    stored: dict[str, list[str]] = {}
    for row in world.rows("SELECT call_id, action_type FROM call_actions ORDER BY call_id, position"):
        stored.setdefault(row["call_id"], []).append(row["action_type"])
    return stored
