"""Flower shows attempts as they ended: what failed is a failed task, named by what happened, under a readable id."""

from pathlib import Path
from typing import Any

import requests

from tests.support.rows import on_sqlite
from tests.support.waiting import eventually
from tests.support.world import World
from workers.local.embedded_redis import free_port

PASSWORD = "a password for the pages"
LATER = 20.0


@on_sqlite
def test_flower_shows_a_failed_attempt_by_its_kind_and_the_one_after_it_as_done(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    port = free_port()
    settings = {"OPS_PASSWORD": PASSWORD, "FLOWER_PORT": str(port), "LEADWAY_LIST_FETCH": "off"}
    with World(tmp_path, database_url=database_url, redis_url=redis_url, settings=settings) as world:
        world.start("web", "worker")
        world.processes.start("flower")
        eventually(lambda: shown(port) is not None, timeout=LATER, describe="Flower to answer")
        world.double.fault("fetch", "status", status=500, times=1)
        world.double.fault("create_note", "do_then_reset", times=1)
        call = world.double.place_call(actions=["CALL_TRANSFER"], contact=True)
        assert world.double.notify(call).accepted
        world.wait_until_done(calls=1)
        [row] = world.rows("SELECT follow_up_id FROM follow_ups")

        def ended() -> bool:
            fetches, notes = of(port, call.call_id), of(port, row["follow_up_id"])
            return (
                fetches == [("FAILURE", "Outage()"), ("SUCCESS", None)]
                and ("FAILURE", "Unclear()") in notes
                and notes[-1] == ("SUCCESS", None)
            )

        eventually(ended, timeout=LATER, describe=lambda: str(shown(port)))
        assert {task["state"] for task in (shown(port) or {}).values()} == {"SUCCESS", "FAILURE"}
        assert "Outage" not in world.processes.log("worker").replace('"outage"', ""), "no traceback of it"

        told = requests.get(f"http://127.0.0.1:{port}/", auth=("ops", PASSWORD), timeout=10)
        assert told.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
        assert requests.get(f"http://127.0.0.1:{port}/", timeout=10).status_code == 401


def of(port: int, subject: str) -> list[tuple[str, str | None]]:
    """State and exception of the attempts at one thing, in order."""
    tasks = [task for name, task in (shown(port) or {}).items() if name.startswith(f"{subject}.")]
    return [(task["state"], task["exception"]) for task in sorted(tasks, key=lambda task: float(task["received"]))]


def shown(port: int) -> dict[str, Any] | None:
    """The tasks that Flower shows, by their ids; None: it is not there yet."""
    try:
        answer = requests.get(f"http://127.0.0.1:{port}/api/tasks", auth=("ops", PASSWORD), timeout=10)
    except requests.ConnectionError:
        return None
    answer.raise_for_status()
    tasks: dict[str, Any] = answer.json()
    return tasks
