"""What docs/operating/redis.md says about rights is true: the whole system runs with them, and asks for little more."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import redis
import requests

from tests.support.processes import ROOT
from tests.support.redis_servers import RedisServer, debians_redis, wheels_valkey
from tests.support.traffic import Traffic, assert_each_note_once
from tests.support.world import World
from workers.local.embedded_redis import free_port

PASSWORD = "of-the-operators-pages"
REFUSED = {"info", "client|setinfo", "client"}
"""INFO is the doctor's question. By CLIENT redis-py tells its name. Both do without."""


@pytest.mark.parametrize("program", [wheels_valkey, debians_redis], ids=["Valkey", "Redis"])
def test_the_rights_that_are_listed_are_enough(program: Callable[[], Path], sqlite_url: str, tmp_path: Path) -> None:
    [user] = re.findall(r"^user leadway .*$", (ROOT / "docs/operating/redis.md").read_text(), re.MULTILINE)
    flower_port, folder = str(free_port()), tmp_path / "world"
    folder.mkdir()
    with (
        RedisServer(tmp_path / "redis", user, program=program()) as server,
        World(
            folder,
            database_url=sqlite_url,
            redis_url=f"redis://leadway:PASSWORD@127.0.0.1:{server.port}/1",
            settings={"OPS_PASSWORD": PASSWORD, "FLOWER_PORT": flower_port},
        ) as world,
    ):
        world.start("web", "worker", "beat", "flower")
        with Traffic(world, per_second=5) as traffic:
            time.sleep(3)
        world.wait_until_done(calls=len(traffic.calls))
        assert_each_note_once(world, traffic.calls)
        for page in ("/api/workers?refresh=true", "/api/queues/length", "/tasks"):
            answer = requests.get(f"http://127.0.0.1:{flower_port}{page}", auth=("ops", PASSWORD), timeout=30)
            assert answer.status_code == 200, page
        assert "could not look at its memory policy" in world.command("doctor")
        assert world.processes.stop("worker") == 0
        with redis.Redis(port=server.port) as person:
            refused = {each["object"] for each in person.acl_log()}
    assert refused <= REFUSED
