"""The database stops, freezes or is locked, and nothing is refused; it is full; afterwards all is there once."""

import os
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
import pytest

from tests.crash.stage import PROCESSES, Stage
from tests.leadway_double.nouns import PlacedCall
from tests.support.services import PostgresServer
from tests.support.traffic import NOTES_OF, Traffic, assert_each_note_once
from tests.support.waiting import eventually

AWAY_SECONDS = 5.0
PER_SECOND = 5.0
NO_ROOM = 64 * 1024
"""Bytes beyond which no file may grow: a journal that holds a few calls is larger."""


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_while_postgresql_is_away_the_journal_takes_everything_and_then_it_is_there_once(
    stage_on_postgresql: Stage, how: str
) -> None:
    stage = stage_on_postgresql
    assert stage.postgres is not None
    away = {"stopped": _stopped, "frozen": _frozen}[how]
    before = _pids(stage)
    with Traffic(stage.world, per_second=PER_SECOND) as traffic:
        eventually(lambda: len(traffic.calls) > 3, describe="some calls under way")
        with away(stage.postgres):
            time.sleep(AWAY_SECONDS)
    _assert_everything_once(stage, traffic, statuses={202})
    assert _pids(stage) == before


def test_a_note_whose_database_restarts_before_it_is_written_down_is_not_written_again(
    stage_on_postgresql: Stage,
) -> None:
    stage, world = stage_on_postgresql, stage_on_postgresql.world
    call = _placed(stage)
    stage.arm("note_answered")
    assert world.double.notify(call).accepted
    stage.wait_until_reached("note_answered")
    stage.restart_database()
    stage.let_go("note_answered")
    stage.wait_for_peace([call])
    assert_each_note_once(world, [call])


def test_while_sqlite_is_locked_its_inbox_takes_everything_and_then_it_is_there_once(
    stage_on_sqlite: Stage,
) -> None:
    stage = stage_on_sqlite
    before = _pids(stage)
    with Traffic(stage.world, per_second=PER_SECOND) as traffic:
        eventually(lambda: len(traffic.calls) > 3, describe="some calls under way")
        with _locked(stage):
            time.sleep(3)
    _assert_everything_once(stage, traffic, statuses={202})
    assert _pids(stage) == before


def test_while_the_disk_is_full_senders_are_asked_to_repeat_and_then_everything_is_there_once(
    stage_on_sqlite: Stage,
) -> None:
    stage = stage_on_sqlite
    before = _pids(stage)
    with Traffic(stage.world, per_second=PER_SECOND) as traffic:
        eventually(lambda: len(traffic.calls) > 3, describe="some calls under way")
        with _disk_full(stage):
            eventually(lambda: 429 in traffic.statuses(), describe="a sender to be asked to repeat")
            time.sleep(2)
    _assert_everything_once(stage, traffic, statuses={202, 429})
    assert _pids(stage) == before


def _assert_everything_once(stage: Stage, traffic: Traffic, *, statuses: set[int]) -> None:
    stage.wait_for_peace(traffic.calls)
    assert traffic.statuses() == statuses
    assert_each_note_once(stage.world, traffic.calls)


def _placed(stage: Stage) -> PlacedCall:
    return stage.world.double.place_call(actions=NOTES_OF, contact=True, booked=True)


def _pids(stage: Stage) -> dict[str, int]:
    return {name: stage.world.processes.pid(name) for name in PROCESSES}


@contextmanager
def _stopped(postgres: PostgresServer) -> Iterator[None]:
    postgres.stop(signal.SIGQUIT)
    try:
        yield
    finally:
        postgres.start()


@contextmanager
def _frozen(postgres: PostgresServer) -> Iterator[None]:
    """The server and every backend: connections stay open, and nobody answers."""
    assert postgres.process is not None
    server = psutil.Process(postgres.process.pid)
    server.suspend()
    held = [server, *server.children(recursive=True)]
    for process in held[1:]:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in reversed(held):
            with suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGCONT)


@contextmanager
def _locked(stage: Stage) -> Iterator[None]:
    file = stage.world.database_url.removeprefix("sqlite:///")
    other = sqlite3.connect(file, isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


@contextmanager
def _disk_full(stage: Stage) -> Iterator[None]:
    """No process may make a file larger, as if there were no room: needs neither root nor a disk of our own."""
    mains = [psutil.Process(pid) for pid in _pids(stage).values()]
    processes = [each for main in mains for each in (main, *main.children(recursive=True))]
    before = {process.pid: resource.prlimit(process.pid, resource.RLIMIT_FSIZE) for process in processes}
    for pid, (_soft, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (NO_ROOM, hard))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
