"""The verdict of a running system turns when Leadway or Redis fails, or a process dies or freezes, and turns back."""

import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import requests

from tests.support.rows import on_postgresql, on_sqlite
from tests.support.services import EmbeddedRedis
from tests.support.waiting import eventually
from tests.support.world import World


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """One of its own, for it is frozen."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with EmbeddedRedis(folder) as server:
        yield server


@pytest.fixture
def world(database_url: str, redis: EmbeddedRedis, tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, database_url=database_url, redis_url=redis.url) as world:
        world.start("web", "worker", "beat")
        until(world, set())
        yield world


def until(world: World, rules: Collection[str], *, without: Collection[str] = ()) -> dict[str, str]:
    """Waits until each of these rules has a finding, and none of those `without` has; without any, until all is well.
    Returns what is told."""

    seen: dict[str, str] = {}

    def told() -> dict[str, str] | None:
        answer = requests.get(f"{world.base_url}/readyz?verbose", timeout=10).json()
        found = {each["rule"]: each["told"] for each in answer["findings"]}
        seen.clear()
        seen.update(found)
        is_so = found.keys() >= set(rules) and not found.keys() & set(without) and (rules or without or not found)
        return found or {"fine": answer["verdict"]} if is_so else None

    return eventually(told, timeout=45, every=0.2, describe=lambda: f"{sorted(rules) or 'fine'}, found {seen}")


def check(world: World) -> tuple[int, str]:
    """`leadway-calls status --check`: exit status, and what it printed."""
    name = f"check-{len(list(world.processes.folder.glob('check-*.log')))}"
    world.processes.run(["leadway-calls", "status", "--check"], name=name)
    return world.processes.wait(name), world.processes.log(name)


@on_sqlite
def test_leadway_that_answers_500_turns_the_verdict_until_it_answers_again(world: World) -> None:
    assert check(world) == (0, "")
    world.double.fault("fetch", "status", status=500, times=10_000)
    world.double.fault("list", "status", status=500, times=10_000)
    for call in world.double.place_calls(6, contact=True, actions=["CALL_TRANSFER"]):
        assert world.double.notify(call).accepted
    told = until(world, {"breaker_open"})
    assert "outages in a row since 20" in told["breaker_open"]
    code, printed = check(world)
    assert (code, "warning breaker_open: " in printed) == (1, True)
    world.double.clear_faults()
    until(world, set())
    world.wait_until_done(calls=6)
    assert check(world) == (0, "")


@on_postgresql
def test_a_redis_that_freezes_turns_the_verdict_until_it_thaws(world: World, redis: EmbeddedRedis) -> None:
    os.kill(redis.pid, signal.SIGSTOP)
    try:
        told = until(world, {"redis_unreachable"})
        assert "does not answer" in told["redis_unreachable"]
        code, printed = check(world)
        assert (code, printed.startswith("critical redis_unreachable: ")) == (1, True)
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    until(world, set())


@on_postgresql  # where a frozen process holds up no other one
def test_a_worker_that_freezes_turns_the_verdict_until_one_is_alive(world: World) -> None:
    pid = world.processes.pid("worker")
    os.kill(pid, signal.SIGSTOP)
    try:
        until(world, {"worker_missing"})
        with world.another("worker"):
            until(world, set())  # for another one was started in its place
        until(world, {"worker_missing"})
    finally:
        os.kill(pid, signal.SIGCONT)
    until(world, set(), without={"worker_missing"})
