"""`make outages`: the database is away for ten minutes while 50 notifications a second come in.

python -m tests.outages [HOW ...] [--seconds 600] [--per-second 50]

HOW, all without one:
  stopped   PostgreSQL is ended as by a crash, and started again
  frozen    PostgreSQL and all its sessions stand still, connections stay open
  locked    SQLite: another program holds the write lock of the database

Web with two processes, a worker and beat run meanwhile; one call in ten wants a note. It counts what was answered other
than 202, calls lost, notes missing and notes too many: each must be 0. Ends with 1 if one is not.
"""

import argparse
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil
import sqlalchemy as sa

from tests.leadway_double.nouns import PlacedCall
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World, notes_due, notes_written

BEFORE_SECONDS, AFTER_SECONDS = 5.0, 10.0
IN_TEN = 10
SENDERS = 48
PATIENCE_SECONDS = 900.0
SETTINGS = {
    "LEADWAY_REQUESTS_PER_10_SECONDS": "100000", "LEADWAY_LEASE_SECONDS": "60", "LEADWAY_RETRY_SECONDS": "5",
    "LEADWAY_SETTLE_SECONDS": "60", "LOG_LEVEL": "WARNING",
}  # fmt: skip


def main() -> int:
    words = argparse.ArgumentParser(
        prog="python -m tests.outages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("how", nargs="*", help=", ".join(HOWS))
    words.add_argument("--seconds", type=float, default=600.0)
    words.add_argument("--per-second", type=float, default=50.0)
    asked = words.parse_args()
    good = True
    for how in asked.how or HOWS:
        with tempfile.TemporaryDirectory(prefix="leadway-outage-") as folder:
            good &= _play(how, Path(folder), seconds=asked.seconds, per_second=asked.per_second)
    return 0 if good else 1


def _play(how: str, folder: Path, *, seconds: float, per_second: float) -> bool:
    with EmbeddedRedis(folder / "redis") as redis, PostgresServer(durable=True) as postgres:
        on_sqlite = how == "locked"
        url = f"sqlite:///{folder}/calls.db" if on_sqlite else postgres.create_database("outage")
        with World(folder, database_url=url, redis_url=redis.url, settings=SETTINGS) as world:
            world.double.set_rate_limit(per_window=None, announced=100_000)
            world.start("web", "worker", "beat")
            sent = _Sent(world)
            with ThreadPoolExecutor(SENDERS) as senders:
                sending = senders.submit(sent.send, BEFORE_SECONDS + seconds + AFTER_SECONDS, per_second, senders)
                time.sleep(BEFORE_SECONDS)
                with HOWS[how](folder, postgres):
                    time.sleep(seconds)
                back_at = time.monotonic()
                sending.result()
            calls = sent.calls
            eventually(
                lambda: _stored(world) >= len(calls), timeout=PATIENCE_SECONDS, every=1.0,
                describe=f"{len(calls)} calls to be stored",
            )  # fmt: skip
            world.wait_until_done(calls=len(calls), timeout=PATIENCE_SECONDS)
            took = time.monotonic() - back_at
            due, written = Counter(notes_due(calls)), Counter(notes_written(world))
            lost = len(calls) - _stored(world)
            missing, too_many = (due - written).total(), (written - due).total()
    refused = sent.statuses.total() - sent.statuses[202]
    slowest = 1000 * max(sent.times)
    print(
        f"{how}: {seconds:.0f} s away, {len(calls)} notifications, {per_second:.0f} a second: {dict(sent.statuses)},"
        f" slowest answer {slowest:.0f} ms; {lost} calls lost; {due.total()} notes due, {missing} missing,"
        f" {too_many} too many; all done {took:.0f} s after the database was back",
        flush=True,
    )
    return not (refused or lost or missing or too_many)


class _Sent:
    """Notifications that were sent, and how they were answered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.calls: list[PlacedCall] = []
        self.statuses: Counter[int] = Counter()
        self.times: list[float] = []

    def send(self, seconds: float, per_second: float, senders: ThreadPoolExecutor) -> None:
        began, answers = time.monotonic(), []
        for number in range(int(seconds * per_second)):
            time.sleep(max(0.0, began + number / per_second - time.monotonic()))
            wants_note = number % IN_TEN == 0
            call = self._world.double.place_call(
                actions=["CALL_TRANSFER"] if wants_note else ["SMS"], contact=f"contact-{number}"
            )
            self.calls.append(call)
            answers.append(senders.submit(self._one, call))
        for each in answers:
            each.result()

    def _one(self, call: PlacedCall) -> None:
        began = time.monotonic()
        answer = self._world.double.notify(call, wait=False)
        assert answer.wait(60)
        self.times.append(time.monotonic() - began)
        self.statuses.update(each.status or 0 for each in answer.attempts)


def _stored(world: World) -> int:
    with suppress(sa.exc.SQLAlchemyError):
        return int(world.scalar("SELECT count(*) FROM calls"))
    return 0


@contextmanager
def _stopped(_folder: Path, postgres: PostgresServer) -> Iterator[None]:
    postgres.stop(signal.SIGQUIT)
    try:
        yield
    finally:
        postgres.start()


@contextmanager
def _frozen(_folder: Path, postgres: PostgresServer) -> Iterator[None]:
    assert postgres.process is not None
    server = psutil.Process(postgres.process.pid)
    server.suspend()  # first, so that it makes no new session
    held = [server, *server.children(recursive=True)]
    for process in held[1:]:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(held):
            with suppress(psutil.NoSuchProcess):
                process.resume()


@contextmanager
def _locked(folder: Path, _postgres: PostgresServer) -> Iterator[None]:
    other = sqlite3.connect(folder / "calls.db", isolation_level=None, timeout=60)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.rollback()
        other.close()


HOWS: dict[str, Callable[[Path, PostgresServer], AbstractContextManager[None]]] = {
    "stopped": _stopped,
    "frozen": _frozen,
    "locked": _locked,
}


if __name__ == "__main__":
    sys.exit(main())
