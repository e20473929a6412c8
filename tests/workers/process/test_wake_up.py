"""The bell beside a Redis that is there, refuses, is frozen, silent, full, or has nobody who listens."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from models.settings import Settings
from tests.support.services import EmbeddedRedis
from tests.support.waiting import eventually
from workers.app import app, connect_bell
from workers.process.wake_up import RINGS_IN_STORE, Bell, send_ring
from workers.telemetry import metrics

QUEUE = "housekeeping"


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A Redis that may be killed and frozen: nobody else uses it."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def ringing(own_redis: EmbeddedRedis, sqlite_url: str) -> Iterator[redis.Redis]:
    """The bell's Redis, empty; the app is pointed at it as in a web process."""
    with _pointed_at(own_redis.url, sqlite_url), redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def bell() -> Iterator[Bell]:
    bell = Bell()
    yield bell
    bell.stop()


def test_a_ring_puts_the_dispatchers_message_into_redis(ringing: redis.Redis, bell: Bell) -> None:
    bell.ring()

    [message] = eventually(lambda: ringing.lrange(QUEUE, 0, -1))
    headers = json.loads(message)["headers"]
    assert headers["task"] == "due.dispatch"
    assert headers["expires"] is not None


def test_however_many_ring_at_once_few_messages_are_sent(ringing: redis.Redis, bell: Bell) -> None:
    for _ in range(1000):
        bell.ring()
    eventually(lambda: ringing.llen(QUEUE))

    assert ringing.llen(QUEUE) < 20


def test_a_ring_during_a_ring_is_followed_by_one_more() -> None:
    begun, may_end, rings = threading.Event(), threading.Event(), []

    def send() -> None:
        rings.append(1)
        begun.set()
        may_end.wait(10)

    bell = Bell(send)
    bell.ring()
    assert begun.wait(10)
    for _ in range(5):
        bell.ring()
    may_end.set()
    eventually(lambda: len(rings) == 2)
    bell.stop()
    assert len(rings) == 2


def test_while_nobody_listens_messages_do_not_pile_up(ringing: redis.Redis) -> None:
    for _ in range(RINGS_IN_STORE + 30):
        send_ring()

    assert ringing.llen(QUEUE) == RINGS_IN_STORE


def test_a_killed_redis_costs_nobody_time_and_rings_again_when_it_is_back(
    ringing: redis.Redis, bell: Bell, own_redis: EmbeddedRedis
) -> None:
    bell.ring()
    eventually(lambda: ringing.llen(QUEUE))
    own_redis.kill()
    try:
        _assert_silence(bell)
    finally:
        own_redis.start()
    _assert_rings_again(bell, ringing)


def test_a_frozen_redis_costs_nobody_time_and_rings_again_when_it_thaws(
    ringing: redis.Redis, bell: Bell, own_redis: EmbeddedRedis
) -> None:
    bell.ring()
    eventually(lambda: ringing.llen(QUEUE))
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        _assert_silence(bell)
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    _assert_rings_again(bell, ringing)


def test_a_redis_that_accepts_and_never_answers_costs_nobody_time(sqlite_url: str, bell: Bell) -> None:
    black_hole = socket.create_server(("127.0.0.1", 0))
    with black_hole, _pointed_at(f"redis://127.0.0.1:{black_hole.getsockname()[1]}/0", sqlite_url):
        _assert_silence(bell)
        bell.stop()


def test_a_redis_that_refuses_to_write_ends_no_thread(ringing: redis.Redis, bell: Bell) -> None:
    ringing.config_set("maxmemory", 1)
    try:
        _assert_silence(bell)
    finally:
        ringing.config_set("maxmemory", 0)
    _assert_rings_again(bell, ringing)


def test_a_bell_that_was_never_rung_has_no_thread_and_stops() -> None:
    before = threading.active_count()
    bell = Bell()
    assert threading.active_count() == before
    bell.stop()


def _assert_silence(bell: Bell) -> None:
    """Rings fail twice, are counted, and keep one thread."""
    before, threads = _failures(), _bells()

    def failed_twice() -> bool:
        bell.ring()
        return _failures() >= before + 2

    eventually(failed_twice, describe="two rings that failed")
    assert _bells() <= threads + 1


def _assert_rings_again(bell: Bell, client: redis.Redis) -> None:
    def rung() -> bool:
        bell.ring()
        return bool(client.llen(QUEUE))

    eventually(lambda: client.delete(QUEUE) is not None)
    eventually(rung, describe="the bell to ring again")


def _failures() -> float:
    return float(next(iter(metrics.BELL_FAILURES.collect())).samples[0].value)


def _bells() -> int:
    """Of this test's own bell and of the process's other one, which attempts ring."""
    return sum(thread.name == "bell" for thread in threading.enumerate())


@contextmanager
def _pointed_at(redis_url: str, database_url: str) -> Iterator[None]:
    """As a new web process would be: without connections from before."""
    before = {name: app.conf[name] for name in ("broker_url", "broker_transport_options", "broker_pool_limit")}
    connect_bell(Settings(database_url=database_url, redis_url=redis_url))
    app._after_fork()
    yield
    app.conf.update(before)
    app._after_fork()
