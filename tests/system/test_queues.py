"""Whatever lies in the queues, and whoever asks a worker not to look: work goes on, or a person is told."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from celery import Celery

from tests.support.rows import on_sqlite
from tests.support.waiting import eventually
from tests.support.world import World, notes_due, notes_written
from workers.app import QUEUES


def message(**changed: object) -> bytes:
    """A message as Celery sends it, but for what is changed."""
    body = base64.b64encode(json.dumps([["loc_demo", "call-1"], {}, {}]).encode()).decode()
    properties = {
        "correlation_id": "1", "delivery_mode": 2, "delivery_tag": "1", "priority": 0, "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "calls"},
    }  # fmt: skip
    usual = {
        "body": body, "content-type": "application/json", "content-encoding": "utf-8",
        "headers": {"lang": "py", "task": "calls.fetch", "id": "1", "root_id": "1", "argsrepr": "", "kwargsrepr": ""},
        "properties": properties,
    }  # fmt: skip
    return json.dumps({**usual, **changed}).encode()


GARBAGE = {
    "no JSON": b"garbage", "nothing": b"", "an empty object": b"{}", "null": b"null", "a number": b"17",
    "a list": b"[]", "a text": b'"text"', "bytes": b"\xff\xfe\x00", "no headers": message(headers=None),
    "headers that are a text": message(headers="text"), "headers without a task": message(headers={}),
    "an unknown task": message(headers={"task": "nobody.knows", "id": "1"}),
    "no properties": message(properties={}), "properties that are null": message(properties=None),
    "an unknown encoding": message(properties={"body_encoding": "rot13", "delivery_tag": "1", "delivery_info": {}}),
    "a body that is no base64": message(body="***"), "a body that is a number": message(body=1),
    "pickle": message(**{"content-type": "application/x-python-serialize"}),
    "an unknown charset": message(**{"content-encoding": "klingon"}),
    "arguments that are no list": message(body=base64.b64encode(b'"text"').decode()),
    "too many arguments": message(body=base64.b64encode(b'[["a", "b", "c", "d"], {}, {}]').decode()),
    "an ETA that is no time": message(headers={"task": "calls.fetch", "id": "1", "eta": "tomorrow"}),
    "an end that is no time": message(headers={"task": "calls.fetch", "id": "1", "expires": "tomorrow"}),
}  # fmt: skip


@on_sqlite
def test_whatever_lies_in_the_queues_ends_no_worker_and_holds_nothing_up(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=database_url, redis_url=redis_url) as world, broker(redis_url) as messages:
        world.start("web", "worker")
        pid = world.processes.pid("worker")
        for name, garbage in GARBAGE.items():
            for queue in QUEUES:
                messages.lpush(queue, garbage)
            eventually(
                lambda: not any(messages.llen(queue) for queue in QUEUES), timeout=20, describe=f"queues without {name}"
            )
            assert world.processes.is_running("worker"), name
        call = world.double.place_call(actions=["CALL_TRANSFER"], contact=True)
        assert world.double.notify(call).accepted
        world.wait_until_done(calls=1)
        assert notes_written(world) == notes_due([call])
        assert world.processes.pid("worker") == pid


@on_sqlite
def test_remote_control_cannot_make_a_worker_look_alive_and_do_nothing_but_flower_sees_it(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=database_url, redis_url=redis_url) as world:
        world.start("web", "worker")
        celery = Celery(broker=redis_url)
        asked = eventually(lambda: celery.control.ping(timeout=1), timeout=30, describe="the worker to answer a ping")
        assert len(asked) == 1
        for queue in QUEUES:
            celery.control.cancel_consumer(queue)
        celery.control.shutdown()
        celery.control.pool_shrink(31)
        assert len(celery.control.inspect(timeout=2).active_queues() or {}) == 1  # it has seen what came before
        call = world.double.place_call(actions=["CALL_TRANSFER"], contact=True)
        assert world.double.notify(call).accepted
        world.wait_until_done(calls=1)
        [row] = world.rows("SELECT queues FROM heartbeats WHERE process = 'worker'")
        assert row["queues"] == ",".join(sorted(QUEUES))
        celery.close()


@contextmanager
def broker(url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(url) as client:
        yield client
