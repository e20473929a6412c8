"""Redis is killed, emptied, frozen, unreachable or silently cut off: the answer stays 202, and work resumes by itself
in the very processes that were running all along."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import redis

from tests.crash.stage import PROCESSES, Stage
from tests.support.black_hole import BlackHoleProxy
from tests.support.traffic import NOTES_OF, Traffic, assert_each_note_once
from tests.support.waiting import eventually

CONSUMES_AGAIN_SECONDS = 15.0
NOTICED_WITHIN_SECONDS = 30.0
IN_HAND_SECONDS = 2.0
"""After that a cut-off worker has ended what it had taken before."""


def test_a_worker_with_an_attempt_in_hand_outlives_a_restart_of_redis_and_takes_new_work(
    stage_on_postgresql: Stage,
) -> None:
    """Guards the pinned versions: Celery 5.7.0 ends here, when something is in hand and a slot is free."""
    stage, world = stage_on_postgresql, stage_on_postgresql.world
    before = _pids(stage)
    stage.arm("call_fetched")
    held, new = (world.double.place_call(actions=NOTES_OF, contact=True, booked=True) for _ in range(2))
    world.double.notify(held, wait=False)
    stage.wait_until_reached("call_fetched")
    with _redis_away(stage):
        assert world.double.notify(new).status == 202
        time.sleep(2)

    stage.wait_for_peace([new], timeout=CONSUMES_AGAIN_SECONDS)

    stage.let_go("call_fetched")
    stage.wait_for_peace([held])
    assert _pids(stage) == before
    assert_each_note_once(world, [held, new])


def test_no_message_is_acknowledged_because_one_that_meets_a_lost_connection_ends_the_worker(
    stage_on_postgresql: Stage,
) -> None:
    """Seen in 4 of 70 restarts of Redis under ten calls a second: kombu then acknowledges through a closed channel."""
    stage = stage_on_postgresql
    call = stage.world.double.place_call(actions=NOTES_OF, contact=True, booked=True)
    with redis.Redis.from_url(stage.redis.url) as client:
        client.config_resetstat()
        assert stage.world.double.notify(call).accepted
        stage.wait_for_peace([call])
        commands = client.info("commandstats")
        assert not client.exists("unacked", "unacked_index"), "nothing is kept to be acknowledged"
    assert "cmdstat_brpop" in commands
    assert "cmdstat_hdel" not in commands, "acknowledging takes the message out of a hash"


def test_redis_is_emptied_again_and_again_and_nothing_is_lost(stage_on_postgresql: Stage) -> None:
    stage = stage_on_postgresql
    before = _pids(stage)
    with Traffic(stage.world, per_second=5) as traffic:
        for number in range(1, 7):
            eventually(lambda: len(traffic.calls) >= 3 * number, every=0.005)  # noqa: B023 - asked at once
            stage.flush_redis()
    stage.wait_for_peace(traffic.calls)
    assert _pids(stage) == before
    assert traffic.statuses() == {202}
    assert_each_note_once(stage.world, traffic.calls)


def test_while_redis_is_away_every_notification_is_answered_202_and_all_is_done_when_it_is_back(
    stage_on_postgresql: Stage,
) -> None:
    stage = stage_on_postgresql
    before = _pids(stage)
    with Traffic(stage.world, per_second=6) as traffic, _redis_away(stage):
        time.sleep(8)
    stage.wait_for_peace(traffic.calls, timeout=60)
    assert _pids(stage) == before
    assert traffic.statuses() == {202}
    assert len(traffic.answers) == len(traffic.calls)
    assert_each_note_once(stage.world, traffic.calls)


def test_while_redis_is_frozen_every_notification_is_answered_202_and_all_is_done_when_it_thaws(
    stage_on_postgresql: Stage,
) -> None:
    stage = stage_on_postgresql
    before = _pids(stage)
    with Traffic(stage.world, per_second=5) as traffic:
        stage.freeze(stage.redis.pid, 5)
    stage.wait_for_peace(traffic.calls)
    assert _pids(stage) == before
    assert traffic.statuses() == {202}
    assert len(traffic.answers) == len(traffic.calls)
    assert_each_note_once(stage.world, traffic.calls)


def test_a_worker_notices_that_its_connections_are_dead_though_nobody_closed_them(stage_on_postgresql: Stage) -> None:
    """Guards the socket options: with kombu's own defaults it stays deaf for minutes."""
    stage, world = stage_on_postgresql, stage_on_postgresql.world
    url = stage.redis.url
    port = urlsplit(url).port
    assert port is not None
    with (
        BlackHoleProxy(port) as proxy,
        stage.world.another("worker", environment={"REDIS_URL": url.replace(f":{port}/", f":{proxy.port}/")}) as name,
        Traffic(world, per_second=5) as traffic,
    ):
        eventually(lambda: _attempts_by(stage, name), describe="the second worker to be at work")
        pid = world.processes.pid("worker-2")

        assert proxy.swallow() > 0

        time.sleep(IN_HAND_SECONDS)
        before = _attempts_by(stage, name)
        eventually(
            lambda: _attempts_by(stage, name) > before,
            timeout=NOTICED_WITHIN_SECONDS,
            describe="the second worker to take something again",
        )
        assert world.processes.is_running("worker-2")
        assert world.processes.pid("worker-2") == pid
    stage.wait_for_peace(traffic.calls)
    assert_each_note_once(world, traffic.calls)


def _attempts_by(stage: Stage, worker: str) -> int:
    number: int = stage.world.scalar("SELECT count(*) FROM attempts WHERE worker = :worker", worker=worker)
    return number


def _pids(stage: Stage) -> dict[str, int]:
    return {name: stage.world.processes.pid(name) for name in PROCESSES}


@contextmanager
def _redis_away(stage: Stage) -> Iterator[None]:
    stage.redis.kill()
    try:
        yield
    finally:
        stage.redis.start()
