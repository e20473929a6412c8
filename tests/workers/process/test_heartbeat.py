"""The heartbeat: a row while the block runs, none afterwards, and a database that is away or hangs stops nothing."""

import threading
import time
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from models.database import WEB, WORKER, Database
from models.work import heartbeats
from tests.support.black_hole import BlackHoleProxy
from tests.support.rows import read
from tests.support.waiting import eventually
from workers.local.embedded_redis import free_port
from workers.process import heartbeat
from workers.process.celery_patches import ConsumedQueues
from workers.process.heartbeat import heartbeating


def test_a_process_has_a_row_while_it_runs_and_none_when_it_has_ended(database_url: str) -> None:
    database = Database(database_url, limits=WORKER)
    with heartbeating(database, "worker-1@here", process="worker", slots=32):
        eventually(lambda: _alive(database) == ["worker-1@here"])
        [beating] = read(database, heartbeats.all_of)
    schema = read(database, lambda connection: connection.execute(sa.text("SELECT * FROM alembic_version")).scalar())
    assert beating.version == f"{metadata.version('leadway-calls')}+{schema}"
    assert _alive(database) == []
    database.close()


def test_the_row_is_written_again_and_again(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.05)
    database = Database(sqlite_url, limits=WORKER)
    with heartbeating(database, "beat-1@here", process="beat"):
        first = eventually(lambda: _beat_at(database))
        eventually(lambda: _beat_at(database) > first)
    database.close()


def test_a_process_runs_and_ends_in_time_without_a_database() -> None:
    database = Database(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing", limits=WORKER)
    since = time.monotonic()
    with heartbeating(database, "web-1@here", process="web"):
        entered = time.monotonic()
    assert entered - since < 1
    assert time.monotonic() - entered < heartbeat.LEAVE_SECONDS + 1


def test_a_process_ends_in_time_while_the_database_hangs_and_its_row_grows_old(postgresql_url: str) -> None:
    url = sa.make_url(postgresql_url.replace("postgresql://", "postgresql+psycopg://"))
    assert url.port is not None
    eyes = Database(url.render_as_string(hide_password=False), limits=WORKER)
    with BlackHoleProxy(url.port) as proxy:
        hung = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        database = Database(hung, limits=WEB)
        with heartbeating(database, "web-1@here", process="web"):
            eventually(lambda: _alive(eyes) == ["web-1@here"])
            assert proxy.swallow() == 1
            since = time.monotonic()
        assert time.monotonic() - since < heartbeat.LEAVE_SECONDS + 1
    assert _alive(eyes) == ["web-1@here"]
    eyes.close()


def test_an_error_that_nobody_expected_ends_no_heartbeat(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that had ended silently would let a process that serves look dead."""
    monkeypatch.setattr(heartbeats, "BEAT_SECONDS", 0.05)
    database = Database(sqlite_url, limits=WORKER)
    beat, failed = heartbeats.beat, threading.Event()

    def failing_once(*words: Any, **named: Any) -> None:
        if not failed.is_set():
            failed.set()
            raise MemoryError
        beat(*words, **named)

    monkeypatch.setattr(heartbeats, "beat", failing_once)
    with capture_logs() as logs, heartbeating(database, "worker-1@here", process="worker"):
        assert failed.wait(10)
        eventually(lambda: _alive(database) == ["worker-1@here"])
    assert [(each["event"], each["error"]) for each in logs] == [("heartbeat_missed", "MemoryError")]
    assert _alive(database) == []
    database.close()


def _alive(database: Database) -> list[str]:
    with database.reading() as connection:
        return [each.name for each in heartbeats.all_of(connection) if each.is_alive]


def _beat_at(database: Database) -> object:
    with database.reading() as connection:
        return connection.execute(sa.select(heartbeats.heartbeats_table.c.beat_at)).scalar_one()


def test_a_worker_that_starts_tells_no_queues_and_one_that_never_takes_any_tells_that(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    takes = SimpleNamespace(queues=[SimpleNamespace(name="calls")], consuming_from=lambda _queue: True)
    worker = SimpleNamespace(consumer=SimpleNamespace(task_consumer=None))
    queues, never = ConsumedQueues(), ConsumedQueues()
    assert (queues.told(None), queues.told(worker)) == (None, None)
    worker.consumer.task_consumer = takes
    assert queues.told(worker) == "calls"
    worker.consumer.task_consumer = None
    assert queues.told(worker) == "", "it has taken before"
    assert never.told(worker) is None
    monkeypatch.setattr("workers.process.celery_patches.STARTING_SECONDS", 0.0)
    assert never.told(worker) == ""
