"""Wake-ups beside a Redis that is there, refuses, is frozen, silent, full, or has nobody who listens."""

import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
import redis

from tests.support.services import EmbeddedRedis
from tests.support.waiting import eventually
from workers.process.ticks import Tick, ticking
from workers.process.wake_up import WAKE_UPS, Waker, WakeUpListener
from workers.telemetry import metrics


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    """A Redis that may be killed and frozen: nobody else uses it."""
    with EmbeddedRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own_client(own_redis: EmbeddedRedis) -> Iterator[redis.Redis]:
    """The Redis of the wake-ups, empty."""
    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def waker(own_redis: EmbeddedRedis) -> Iterator[Waker]:
    waker = Waker(own_redis.url)
    yield waker
    waker.stop()


def test_a_wake_up_sets_the_event_of_one_worker_that_waits(
    own_client: redis.Redis, own_redis: EmbeddedRedis, waker: Waker
) -> None:
    events = [threading.Event(), threading.Event()]
    listeners = [WakeUpListener(own_redis.url, woken=event) for event in events]
    with ticking(*(Tick(each.wait_for_wake_up, seconds=0.0, pause_seconds=0.01) for each in listeners)):
        eventually(lambda: own_client.info("clients")["blocked_clients"] == 2)
        waker.wake()
        eventually(lambda: any(event.is_set() for event in events))
        eventually(lambda: own_client.info("clients")["blocked_clients"] == 2)
        assert sum(event.is_set() for event in events) == 1
        assert own_client.llen(WAKE_UPS) == 0


def test_a_wake_up_waits_for_a_worker_and_many_are_one(
    own_client: redis.Redis, own_redis: EmbeddedRedis, waker: Waker
) -> None:
    for _ in range(3):
        waker.send_wake_up()
    assert own_client.llen(WAKE_UPS) == 1
    woken = threading.Event()
    WakeUpListener(own_redis.url, woken=woken).wait_for_wake_up()
    assert woken.is_set()
    assert own_client.llen(WAKE_UPS) == 0


def test_a_listener_hears_again_after_its_redis_was_killed(
    own_client: redis.Redis, own_redis: EmbeddedRedis, waker: Waker
) -> None:
    woken = threading.Event()
    listener = WakeUpListener(own_redis.url, woken=woken)
    with ticking(Tick(listener.wait_for_wake_up, seconds=0.0, pause_seconds=0.01)):
        eventually(lambda: own_client.info("clients")["blocked_clients"] == 1)
        own_redis.kill()
        own_redis.start()

        def heard() -> bool:
            waker.wake()
            return woken.is_set()

        eventually(heard, describe="the listener to hear a wake-up")


def test_a_killed_redis_costs_nobody_time_and_is_woken_again_when_it_is_back(
    own_client: redis.Redis, waker: Waker, own_redis: EmbeddedRedis
) -> None:
    waker.wake()
    eventually(lambda: own_client.llen(WAKE_UPS))
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
    eventually(lambda: own_client.llen(WAKE_UPS))
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        _assert_failures(waker)
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    _assert_wakes_again(waker, own_client)


def test_a_redis_that_accepts_and_never_answers_costs_nobody_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as black_hole:
        waker = Waker(f"redis://127.0.0.1:{black_hole.getsockname()[1]}/0")
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
    waker = Waker("redis://127.0.0.1:1/0")
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
        return bool(client.llen(WAKE_UPS))

    eventually(lambda: client.delete(WAKE_UPS) is not None)
    eventually(woken, describe="wake-ups to arrive again")


def _failures() -> float:
    return float(next(iter(metrics.WAKE_UP_FAILURES.collect())).samples[0].value)


def _wakers() -> int:
    return sum(thread.name == Waker.send_wake_up.__name__ for thread in threading.enumerate())
