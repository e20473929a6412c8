"""What the processes log: JSON line by line, to their last one, and a call can be followed by its id."""

import json
from pathlib import Path
from typing import Any

from tests.support.rows import on_sqlite
from tests.support.world import World


@on_sqlite
def test_every_line_is_json_and_a_calls_id_leads_from_its_log_to_its_note(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=database_url, redis_url=redis_url) as world:
        world.start("web", "worker", "beat")
        world.double.fault("fetch", "status", status=500, times=1)
        world.double.fault("create_note", "do_then_reset", times=1)
        call = world.double.place_call(actions=["CALL_TRANSFER"], contact=True)
        assert world.double.notify(call).accepted
        world.wait_until_done(calls=1)
        for name in ("web", "worker", "beat"):
            assert world.processes.stop(name) == 0
        lines = {name: [json.loads(line) for line in log_of(world, name)] for name in ("web", "worker", "beat")}
    said = " ".join(str(each["event"]) for each in lines["worker"])
    assert "Warm shutdown" in said, "Celery's words at the end, too"
    ended = [
        each for each in lines["worker"] if each["event"] == "attempt_ended" and each.get("call_id") == call.call_id
    ]
    assert [(each["work"], each["outcome"]) for each in ended] == [
        ("call", "outage"), ("call", "settled"), ("follow_up", "unclear"), ("follow_up", "adopted")
    ]  # fmt: skip
    [unclear] = named(lines["worker"], "follow_up_became_unclear")
    assert unclear["call_id"] == call.call_id
    assert unclear["follow_up_id"] == ended[-1]["follow_up_id"]


def log_of(world: World, name: str) -> list[str]:
    return [line for line in world.processes.log(name).splitlines() if line]


def named(lines: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [each for each in lines if each["event"] == event]
