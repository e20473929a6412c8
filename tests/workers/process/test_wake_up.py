"""Wake-ups beside a Redis that is there, refuses, is frozen, silent, full, or has nobody who listens."""

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
from tests.support.worker import forget_connections
from workers.app import app, connect_for_wake_ups
from workers.process.wake_up import Waker, send_wake_up
from workers.telemetry import metrics

QUEUE = "housekeeping"


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A Redis that may be killed and frozen: nobody else uses it."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own_client(own_redis: EmbeddedRedis, sqlite_url: str) -> Iterator[redis.Redis]:
    """The Redis of the wake-ups, empty; the app is pointed at it as in a web process."""
    with _pointed_at(own_redis.url, sqlite_url), redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.stop()


def test_a_wake_up_puts_the_dispatchers_message_into_redis(own_client: redis.Redis, waker: Waker) -> None:
    waker.wake()

    [message] = eventually(lambda: own_client.lrange(QUEUE, 0, -1))
    headers = json.loads(message)["headers"]
    assert (headers["task"], headers["expires"]) == ("due.dispatch", None)


def test_while_a_wake_up_waits_no_other_is_added_however_many_ask(own_client: redis.Redis, waker: Waker) -> None:
    waker.wake()
    eventually(lambda: own_client.llen(QUEUE))
    for _ in range(3):
        send_wake_up()
        waker.wake()
    assert own_client.llen(QUEUE) == 1
    own_client.delete(QUEUE)
    send_wake_up()
    assert own_client.llen(QUEUE) == 1


def test_a_killed_redis_costs_nobody_time_and_is_woken_again_when_it_is_back(
    own_client: redis.Redis, waker: Waker, own_redis: EmbeddedRedis
) -> None:
    waker.wake()
    eventually(lambda: own_client.llen(QUEUE))
    own_redis.kill()
    try:
        _assert_failures(waker)
    finally:
        own_redis.start()
    _assert_wakes_again(waker, own_client)


def test_a_frozen_redis_costs_nobody_time_and_is_woken_again_when_it_thaws(
    own_client: redis.Redis, waker: Waker, own_redis: EmbeddedRedis
) -> None:
    waker.wake()
    eventually(lambda: own_client.llen(QUEUE))
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        _assert_failures(waker)
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    _assert_wakes_again(waker, own_client)


def test_a_redis_that_accepts_and_never_answers_costs_nobody_time(sqlite_url: str, waker: Waker) -> None:
    black_hole = socket.create_server(("127.0.0.1", 0))
    with black_hole, _pointed_at(f"redis://127.0.0.1:{black_hole.getsockname()[1]}/0", sqlite_url):
        _assert_failures(waker)
        waker.stop()


def test_a_redis_that_refuses_to_write_ends_no_thread(own_client: redis.Redis, waker: Waker) -> None:
    own_client.config_set("maxmemory", 1)
    try:
        _assert_failures(waker)
    finally:
        own_client.config_set("maxmemory", 0)
    _assert_wakes_again(waker, own_client)


def test_a_waker_that_never_woke_anybody_has_no_thread_and_stops() -> None:
    before = threading.active_count()
    waker = Waker()
    assert threading.active_count() == before
    waker.stop()


def _assert_failures(waker: Waker) -> None:
    """Wake-ups fail twice, are counted, and keep one thread."""
    before, threads = _failures(), _wakers()

    def failed_twice() -> bool:
        waker.wake()
        return _failures() >= before + 2

    eventually(failed_twice, describe="two wake-ups that failed")
    assert _wakers() <= threads + 1


def _assert_wakes_again(waker: Waker, client: redis.Redis) -> None:
    def woken() -> bool:
        waker.wake()
        return bool(client.llen(QUEUE))

    eventually(lambda: client.delete(QUEUE) is not None)
    eventually(woken, describe="wake-ups to arrive again")


def _failures() -> float:
    return float(next(iter(metrics.WAKE_UP_FAILURES.collect())).samples[0].value)


def _wakers() -> int:
    return sum(thread.name == send_wake_up.__name__ for thread in threading.enumerate())


@contextmanager
def _pointed_at(redis_url: str, database_url: str) -> Iterator[None]:
    """As a new web process would be: without connections from before."""
    before = {name: app.conf[name] for name in ("broker_url", "broker_transport_options", "broker_pool_limit")}
    connect_for_wake_ups(Settings(database_url=database_url, redis_url=redis_url))
    forget_connections()
    yield
    app.conf.update(before)
    forget_connections()
