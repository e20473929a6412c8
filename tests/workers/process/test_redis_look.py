"""One look at a real Redis: answering, frozen, away, full of messages, or set to forget."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.services import EmbeddedRedis
from workers.local.embedded_redis import free_port
from workers.process import redis_look


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """One of its own, for it is frozen and set otherwise."""
    with EmbeddedRedis(tmp_path) as server:
        yield server


def test_a_look_tells_the_policy_and_what_waits_in_the_queues(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.lpush("follow_ups", "one", "two")
        client.config_set("maxmemory-policy", "allkeys-lru")
        seen = redis_look.look(server.url)
        assert (seen.trouble, seen.policy) == (None, "allkeys-lru")
        assert seen.queued == {"calls": 0, "follow_ups": 2, "housekeeping": 0}
        client.config_set("maxmemory-policy", "noeviction")
    assert redis_look.look(server.url).policy == "noeviction"


def test_a_frozen_redis_does_not_answer_until_it_thaws(server: EmbeddedRedis) -> None:
    os.kill(server.pid, signal.SIGSTOP)
    try:
        assert redis_look.look(server.url).trouble == "does not answer (TimeoutError)"
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert redis_look.look(server.url).trouble is None


def test_a_user_without_the_right_to_ask_more_sees_that_it_answers(server: EmbeddedRedis) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "guest", "on", ">word", "+ping", "+client", "+hello")
    seen = redis_look.look(f"redis://guest:word@{server.url.partition('@')[2]}")
    assert (seen.trouble, seen.policy) == (None, None)


def test_where_no_redis_is_it_does_not_answer() -> None:
    assert redis_look.look(f"redis://127.0.0.1:{free_port()}/0").trouble == "does not answer (ConnectionError)"
    assert redis_look.look("nonsense").trouble == "has no address that can be read"
