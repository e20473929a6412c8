"""The database goes away under the receiver, in every way that it can: the sender is told to repeat, and soon."""

import contextlib
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
import sqlalchemy as sa
from werkzeug.test import TestResponse

from migrations.upgrading import migrate
from models.database import inbox_file
from tests.support.services import PostgresServer
from tests.support.waiting import eventually
from tests.support.worker import forget_connections
from tests.webhook.conftest import Intake
from webhook.deadline import DeadlinePool
from webhook.rejection_counter import WRITE_SECONDS, RejectionCounter
from workers.local.embedded_redis import free_port

CROWD = 20


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that may be stopped and frozen: nobody else uses it."""
    with PostgresServer() as server:
        migrate(server.url())
        yield server


@pytest.fixture
def intake_on_own_postgres(own_postgres: PostgresServer, redis_url: str) -> Iterator[Intake]:
    with Intake(own_postgres.url(), redis_url, patient=False) as intake:
        yield intake


@pytest.fixture
def intake_on_sqlite(sqlite_url: str, redis_url: str) -> Iterator[Intake]:
    with Intake(sqlite_url, redis_url, patient=False) as intake:
        yield intake


def test_a_stopped_postgresql_is_answered_429_and_comes_back_by_itself(
    intake_on_own_postgres: Intake, own_postgres: PostgresServer
) -> None:
    intake = intake_on_own_postgres
    _is_accepted(intake)
    own_postgres.stop(signal.SIGQUIT)
    try:
        _assert_all_are_asked_to_repeat(_crowd(intake))
        assert intake.app.test_client().get("/readyz").status_code == 503
        assert intake.app.test_client().get("/livez").status_code == 200
        assert b"leadway_database_up 0.0" in intake.app.test_client().get("/metrics").data
    finally:
        own_postgres.start()
    _is_accepted(intake)


def test_a_frozen_postgresql_is_answered_429_and_every_thread_comes_back(
    intake_on_own_postgres: Intake, own_postgres: PostgresServer
) -> None:
    intake = intake_on_own_postgres
    _crowd(intake)  # so that there are open connections to hang on
    message = intake.message()
    threads = threading.active_count()
    with _frozen(own_postgres):
        _assert_all_are_asked_to_repeat(_crowd(intake))
        for _ in range(2):
            assert intake.app.test_client().get("/readyz").status_code == 503
            assert b"leadway_database_up 0.0" in intake.app.test_client().get("/metrics").data
        _assert_all_are_asked_to_repeat([intake.post(message)])
        assert threading.active_count() <= threads + intake.settings.web_threads + 4

    _is_accepted(intake)
    eventually(lambda: intake.app.test_client().get("/readyz").status_code == 200, describe="ready again")
    _is_accepted(intake)


def test_a_sqlite_that_is_locked_for_long_is_answered_429_and_comes_back(intake_on_sqlite: Intake) -> None:
    intake = intake_on_sqlite
    with _locked(intake):
        _assert_all_are_asked_to_repeat(_crowd(intake))
    _is_accepted(intake)


def test_a_full_disk_is_answered_429_and_nothing_is_half_written(intake_on_sqlite: Intake) -> None:
    intake = intake_on_sqlite
    large = b'{"callId": "call-%d", "x": "' + b"x" * 100_000 + b'"}'
    writer = intake.receiver.writer
    with _no_page_more(writer._looking._database.engine), _no_page_more(writer._inbox._database.engine):
        writer._inbox._drop()  # connections from before the limit
        writer._looking._drop()
        _assert_all_are_asked_to_repeat([intake.send(large % number) for number in range(3)])
        writer._inbox._drop()
        writer._looking._drop()
    assert intake.rows("inbox") == []
    eventually(lambda: intake.send(large % 1).status_code == 202)


def test_without_redis_notifications_are_taken_in_all_the_same(sqlite_url: str) -> None:
    with Intake(sqlite_url, f"redis://127.0.0.1:{free_port()}/0") as intake:
        forget_connections()  # no connection from before
        for _ in range(5):
            assert intake.post(intake.message()).get_json() == {"status": "accepted"}
        assert intake.app.test_client().get("/readyz").status_code == 200
    forget_connections()


def test_a_database_without_the_schema_is_answered_429_and_told_by_readyz(
    empty_database_url: str, redis_url: str
) -> None:
    with Intake(empty_database_url, redis_url) as intake:
        if intake.database.inbox is intake.database:  # SQLite's inbox is a file of its own, and takes it
            _assert_all_are_asked_to_repeat([intake.post(intake.message())])
        answer = intake.app.test_client().get("/readyz")
        assert answer.status_code == 503
        assert "leadway-calls migrate" in answer.get_json()["problem"]

        migrate(empty_database_url)

        assert intake.app.test_client().get("/readyz").status_code == 200
        assert intake.post(intake.message()).get_json()["reason"] == "location_not_served"


def test_refusals_that_cannot_be_written_keep_one_thread_waiting_and_no_more(
    intake_on_own_postgres: Intake, own_postgres: PostgresServer
) -> None:
    intake = intake_on_own_postgres
    _crowd(intake)
    counter = intake.receiver.rejection_counter
    with _frozen(own_postgres):
        intake.send(b"{}", {})
        [writing] = _timers(counter)
        until = time.monotonic() + 2.5 * WRITE_SECONDS
        while time.monotonic() < until:
            intake.send(b"{}", {})
            assert _timers(counter) == [writing]

    eventually(lambda: not _timers(counter), describe="what came meanwhile to be written too")
    assert intake.rows("rejection_counts")


def _timers(counter: RejectionCounter) -> list[threading.Timer]:
    """Its own only: what an earlier test left is not counted."""
    return [
        each for each in threading.enumerate() if isinstance(each, threading.Timer) and each.function == counter.write
    ]


def test_work_that_takes_too_long_is_left_behind_and_while_all_threads_hang_nothing_is_begun() -> None:
    may_end, begun = threading.Event(), []

    def hang() -> None:
        begun.append(1)
        may_end.wait(30)

    in_time = DeadlinePool(2, seconds=0.05, name="test")
    for _ in range(5):
        with pytest.raises(TimeoutError):
            in_time.run(hang)
    assert len(begun) == 2

    may_end.set()
    assert eventually(lambda: in_time.run(lambda: "done")) == "done"


def _is_accepted(intake: Intake) -> None:
    message = intake.message()
    eventually(lambda: intake.post(message).status_code == 202, describe="a notification is taken in")


def _crowd(intake: Intake) -> list[TestResponse]:
    messages = [intake.message() for _ in range(CROWD)]
    with ThreadPoolExecutor(CROWD) as senders:
        return list(senders.map(intake.post, messages))


def _assert_all_are_asked_to_repeat(answers: list[TestResponse]) -> None:
    assert {(answer.status_code, answer.get_json()["status"]) for answer in answers} == {(429, "refused")}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)


@contextlib.contextmanager
def _frozen(server: PostgresServer) -> Iterator[None]:
    assert server.process is not None
    postmaster = psutil.Process(server.process.pid)
    postmaster.suspend()
    held = [postmaster, *postmaster.children(recursive=True)]
    for process in held[1:]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in reversed(held):
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGCONT)


@contextlib.contextmanager
def _locked(intake: Intake) -> Iterator[None]:
    other = sqlite3.connect(inbox_file(sa.make_url(intake.settings.database_url)), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


@contextlib.contextmanager
def _no_page_more(engine: sa.Engine) -> Iterator[None]:
    """SQLite says "database or disk is full" where its file may not grow, as it does where it cannot."""

    def limit(connection: sqlite3.Connection, *_: object) -> None:
        [pages] = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    engine.dispose()
    sa.event.listen(engine, "connect", limit)
    try:
        yield
    finally:
        sa.event.remove(engine, "connect", limit)
        engine.dispose()
