"""`leadway-calls doctor` and `status` beside a running system: they judge only what its processes wrote."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import eventually
from tests.support.world import World

NEEDED = {"web", "worker", "beat"}


@pytest.fixture
def running(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    """Web in two processes, a worker and a beat, that have stored calls and written their notes."""
    with World(tmp_path, database_url=database_url, redis_url=redis_url, settings={"WEB_PROCESSES": "2"}) as world:
        world.start("web", "worker", "beat")
        calls = [world.double.place_call(actions=["CALL_TRANSFER"], contact=True) for _ in range(3)]
        assert all(world.double.notify(call).accepted for call in calls)
        world.wait_until_done(calls=3)
        alive = "SELECT count(*) FROM heartbeats WHERE process = 'web'"
        eventually(lambda: world.scalar(alive) == 2, describe="both web processes to be alive")
        yield world


def test_a_healthy_system_is_found_well_until_a_process_dies_or_the_token_is_revoked(running: World) -> None:
    code, printed = _run(running, "doctor")
    assert code == 0, printed
    assert "verdict: " in printed
    assert "0 failed, 0 warnings." in printed
    assert _run(running, "doctor", "--json")[0] == 0
    code, printed = _run(running, "status")
    assert code == 0, printed
    assert "Everything is well." in printed

    running.processes.stop("beat")
    code, printed = _run(running, "doctor")
    assert code == 0, "calls and notes need no beat"
    assert "WARNING  beat_missing: no beat process is alive: " in printed, "who is told to stop takes its row away"
    assert "0 failed, 1 warning." in printed
    code, printed = _run(running, "status")
    assert code == 1, "a person has to start it"
    assert "no beat process is alive: nothing is emptied after its retention time" in " ".join(printed.split())

    running.double.revoke_token()
    code, failed = _failed(running)
    assert (code, set(failed) - {"account_paused"}) == (1, {"API token"})

    running.processes.kill("worker")
    running.processes.kill("web")
    eventually(
        lambda: _failed(running)[1].keys() >= {"web_missing", "worker_missing"},
        timeout=40,
        every=1.0,
        describe=lambda: f"the doctor to miss web and worker; {running.rows('SELECT * FROM heartbeats')}",
    )
    code, failed = _failed(running)
    assert code == 1
    assert all("is alive, the last was heard" in failed[f"{name}_missing"] for name in ("web", "worker"))
    code, printed = _run(running, "status")
    assert code == 1
    assert all(f"no {name} process is alive" in printed for name in NEEDED)


def _failed(world: World) -> tuple[int, dict[str, str]]:
    """The doctor's exit code, and what it tells about each check that failed."""
    code, printed = _run(world, "doctor", "--json")
    checks: list[dict[str, Any]] = json.loads(printed)["checks"]
    return code, {check["name"]: check["told"] for check in checks if check["verdict"] == "failed"}


def _run(world: World, *words: str) -> tuple[int, str]:
    """Exit code and output of one run of `leadway-calls …`."""
    name = "-".join(words)
    said = len(world.processes.log(name)) if (world.processes.folder / f"{name}.log").exists() else 0
    world.processes.run(["leadway-calls", *words], name=name)
    return world.processes.wait(name), world.processes.log(name)[said:]
