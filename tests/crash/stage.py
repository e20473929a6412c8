"""The stage of the crash tests: real processes with their own Redis and database, and everything that can befall them.

Points of a call's way (`models.failpoints`) are armed by files, so a process can be held exactly there.
"""

import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.leadway_double.nouns import PlacedCall
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World

PROCESSES = ("web", "worker", "beat")
LEASE_SECONDS = 3.0
SETTLE_SECONDS = 1.5
GOES_ON_WITHIN = 1.0
QUICK = {
    "LEADWAY_LEASE_SECONDS": str(LEASE_SECONDS),
    "LEADWAY_SETTLE_SECONDS": str(SETTLE_SECONDS),
    "LEADWAY_RETRY_SECONDS": "0.1",
    "LOG_LEVEL": "WARNING",
}


class Stage:
    """`with Stage(folder, "postgresql") as stage:` – web, worker and beat are running and are kept running."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder
        self._database = database
        self._stack = ExitStack()
        self._points = folder / "points"
        self._watching = threading.Event()
        self._guard = threading.Lock()
        self.postgres: PostgresServer | None = None
        self.redis: EmbeddedRedis
        self.world: World

    def __enter__(self) -> Self:
        self._points.mkdir(parents=True)
        self.redis = self._stack.enter_context(EmbeddedRedis(self._folder / "redis"))
        self.world = self._stack.enter_context(
            World(
                self._folder,
                database_url=self._database_url(),
                redis_url=self.redis.url,
                settings={**QUICK, "FAILPOINTS_FOLDER": str(self._points)},
            )
        )
        self.world.double.set_repeats([0.2] * 10 + [1.0] * 600, timeout=2.0)  # the vendor, too, repeats for hours
        self.world.start(*PROCESSES)
        threading.Thread(target=self._keep_running, name="supervisor", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._watching.set()
        with self._guard:
            self._stack.__exit__(kind, error, at)

    # Holding a process at a point

    def arm(self, point: str) -> None:
        for old in self._points.glob(f"{point}.*"):
            old.unlink()
        (self._points / f"{point}.armed").touch()

    def wait_until_reached(self, point: str, *, timeout: float = 20.0) -> int:
        """Returns the pid of the process that holds there."""
        reached = self._points / f"{point}.reached"
        eventually(reached.exists, timeout=timeout, describe=f"a process to reach {point}")
        return int(reached.read_text())

    def was_reached(self, point: str) -> bool:
        return (self._points / f"{point}.reached").exists()

    def let_go(self, point: str) -> None:
        """Returns when it has gone on, so that the point may be armed again; who was killed never does."""
        (self._points / f"{point}.armed").unlink(missing_ok=True)
        (self._points / f"{point}.go").touch()
        deadline = time.monotonic() + GOES_ON_WITHIN
        while self.was_reached(point) and time.monotonic() < deadline:
            time.sleep(0.01)

    # What can befall them

    def kill_pid(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def kill(self, name: str) -> None:
        """kill -9 of a process with all its children; the supervisor starts it again."""
        with self._guard:
            self.world.processes.kill(name)

    def freeze(self, pid: int, seconds: float) -> None:
        """It sleeps longer than its lease, then goes on as if nothing had happened."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)

    def flush_redis(self) -> None:
        import redis

        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()

    def restart_redis(self, *, empty: bool = False) -> None:
        self.redis.kill()
        if empty:
            for file in (self._folder / "redis").rglob("*.aof*"):
                file.unlink()
        time.sleep(0.3)
        self.redis.start()

    def restart_database(self) -> None:
        """PostgreSQL ends at once and starts again. SQLite has no server: somebody holds its write lock instead."""
        if self.postgres is not None:
            self.postgres.stop(signal.SIGQUIT)
            time.sleep(0.2)
            self.postgres.start()
            return
        file = self.world.database_url.removeprefix("sqlite:///")
        with sqlite3.connect(file, isolation_level=None, timeout=0.5) as connection:
            with suppress(sqlite3.OperationalError):  # the held process has the lock: then that is the lock
                connection.execute("BEGIN IMMEDIATE")
            time.sleep(1.5)
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    # The truth

    def wait_for_peace(self, calls: list[PlacedCall], *, timeout: float = 60.0) -> None:
        """Until each of these calls is done and owes nothing any more."""
        wanted = {call.call_id for call in calls}

        def at_peace() -> bool:
            done = {row["call_id"] for row in self.world.rows("SELECT call_id FROM calls WHERE status = 'done'")}
            owing = {
                row["call_id"]
                for row in self.world.rows("SELECT call_id FROM follow_ups WHERE status NOT IN ('done', 'skipped')")
            }
            return wanted <= done and not wanted & owing

        eventually(at_peace, timeout=timeout, every=0.05, describe=lambda: f"peace: {self.world.unfinished()}")

    def _database_url(self) -> str:
        if self._database == "sqlite":
            return f"sqlite:///{self._folder / 'leadway-calls.db'}"
        self.postgres = self._stack.enter_context(PostgresServer())
        return self.postgres.create_database("leadway")

    def _keep_running(self) -> None:
        """What a platform does: whoever ended is started again."""
        while not self._watching.wait(0.1):
            with self._guard:
                if self._watching.is_set():
                    return
                for name in PROCESSES:
                    if not self.world.processes.is_running(name):
                        self.world.processes.restart(name)


def quietly(action: Callable[[], object]) -> None:
    """Does it, and never mind that somebody else was quicker."""
    with suppress(ProcessLookupError, FileNotFoundError):
        action()
