"""Sentinels replace the primary: it is killed, or becomes a replica while it runs. The processes go on unaided."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests.support.redis_servers import RedisServer, debians_redis, is_primary, wheels_valkey
from tests.support.traffic import NOTES_OF, Traffic, assert_each_note_once
from tests.support.waiting import eventually
from tests.support.world import World
from workers.dispatch_due import EPOCH_KEY

PASSWORD = "of-redis"
PROCESSES = ("web", "worker", "beat")
GOES_ON_SECONDS = 25.0
"""From the promotion until a call that comes then is done. The worker is back after 1 s; the rest: busy machines."""
PROGRAMS: dict[str, Callable[[], Path]] = {"Valkey": wheels_valkey, "Redis": debians_redis}


class Watched:
    """A primary, its replica, and three Sentinels of which two decide."""

    def __init__(self, folder: Path, program: Path, stack: ExitStack) -> None:
        login = f"requirepass {PASSWORD}", f"masterauth {PASSWORD}", "repl-diskless-sync-delay 0", "appendonly yes"
        self.first = RedisServer(folder / "1", *login, program=program)
        self.second = RedisServer(folder / "2", *login, f"replicaof 127.0.0.1 {self.first.port}", program=program)
        watch = (
            f"sentinel monitor main 127.0.0.1 {self.first.port} 2", f"sentinel auth-pass main {PASSWORD}",
            "sentinel down-after-milliseconds main 1000", "sentinel failover-timeout main 5000",
        )  # fmt: skip
        self.sentinels = [
            RedisServer(folder / f"sentinel-{number}", *watch, program=program, sentinel=True) for number in range(3)
        ]
        for server in (self.first, self.second):
            stack.enter_context(server)
        eventually(lambda: self.told(self.second, "master_link_status") == "up", describe="the replica to follow")
        for server in self.sentinels:
            stack.enter_context(server)
        eventually(self.sees_everybody, timeout=30, describe="the Sentinels to know each other and the replica")

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"sentinel://:{PASSWORD}@{hosts}/0?master=main"

    def sees_everybody(self) -> bool:
        known = [self.ask(each).sentinel_master("main") for each in self.sentinels]
        return all(each["num-other-sentinels"] == 2 and each["num-slaves"] == 1 for each in known)

    def ask(self, sentinel: RedisServer) -> "redis.Redis":
        return redis.Redis(port=sentinel.port, socket_timeout=1)

    def told(self, server: RedisServer, what: str) -> object:
        return redis.Redis(port=server.port, password=PASSWORD, socket_timeout=1).info("replication").get(what)

    def wait_until_primary(self, server: RedisServer) -> None:
        eventually(
            lambda: is_primary(server.port, password=PASSWORD), timeout=30, describe="the Sentinels to promote it"
        )

    def epoch(self, server: RedisServer) -> object:
        return redis.Redis(port=server.port, password=PASSWORD).get(EPOCH_KEY)


@pytest.fixture(params=PROGRAMS)
def watched(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(tmp_path / "redis", PROGRAMS[request.param](), stack)


@pytest.fixture
def world(watched: Watched, postgresql_url: str, tmp_path: Path) -> Iterator[World]:
    folder = tmp_path / "world"
    folder.mkdir()
    with World(folder, database_url=postgresql_url, redis_url=watched.url) as world:
        world.start(*PROCESSES)
        yield world


def pids(world: World) -> dict[str, int]:
    return {name: world.processes.pid(name) for name in PROCESSES if world.processes.is_running(name)}


def goes_on(world: World) -> None:
    """A call that comes now is done within seconds, notes included, however the ones before it fare."""
    call = world.double.place_call(actions=NOTES_OF, contact=True, booked=True)
    assert world.double.notify(call).status == 202
    notes = "SELECT count(*) FROM follow_ups WHERE call_id = :id AND status = 'done'"
    eventually(
        lambda: world.scalar(notes, id=call.call_id) == len(NOTES_OF),
        timeout=GOES_ON_SECONDS,
        describe=lambda: f"a call after the failover to be done: {world.unfinished()}",
    )


def test_the_primary_is_killed_another_is_promoted_and_nothing_is_lost_or_doubled(
    watched: Watched, world: World
) -> None:
    before = pids(world)
    with Traffic(world, per_second=2) as traffic:
        eventually(lambda: len(traffic.calls) > 5)
        epoch = watched.epoch(watched.first)
        watched.first.kill()
        watched.wait_until_primary(watched.second)
        goes_on(world)
    world.wait_until_done(calls=len(traffic.calls) + 1)
    assert epoch is not None
    assert watched.epoch(watched.second) == epoch, "what was replicated keeps its marks, the rest is sent again"
    assert traffic.statuses() == {202}
    assert pids(world) == before
    assert_each_note_once(world, traffic.calls)


def test_a_primary_that_becomes_a_replica_while_it_runs_is_left_and_taken_again(watched: Watched, world: World) -> None:
    before = pids(world)
    with Traffic(world, per_second=2) as traffic:
        eventually(lambda: len(traffic.calls) > 5)
        for promoted in (watched.second, watched.first):
            eventually(lambda: wanted(watched), timeout=30, every=0.2, describe="the Sentinels to start a failover")
            watched.wait_until_primary(promoted)
            goes_on(world)
            eventually(watched.sees_everybody, timeout=30, describe="the former primary to be a replica")
    world.wait_until_done(calls=len(traffic.calls) + 2)
    assert traffic.statuses() == {202}
    assert pids(world) == before
    assert_each_note_once(world, traffic.calls)


def wanted(watched: Watched) -> bool:
    """As a person does before maintenance; they refuse while the last failover is young."""
    try:
        return bool(watched.ask(watched.sentinels[0]).sentinel_failover("main"))
    except redis.ResponseError:
        return False
