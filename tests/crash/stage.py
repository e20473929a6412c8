"""The stage of the crash tests: real processes with their own Redis and database, and everything that can befall them.

With two workers the second takes over what the first one holds when it is killed or frozen.
"""

import json
import os
import signal
import sqlite3
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

import psutil
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from models.accounts import accounts, oauth_grants
from models.accounts.token_encryption import TokenCipher
from models.database import COMMAND, Database
from tests.crash.points import Points
from tests.leadway_double.nouns import PlacedCall
from tests.leadway_double.oauth import App
from tests.support.copies import Copy
from tests.support.processes import ROOT
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World

T = TypeVar("T")

PROCESSES = ("web", "worker", "beat")
LEASE_SECONDS = 3.0
SETTLE_SECONDS = 1.5
STILL_CLOCK = Path(__file__).parent / "still_clock"
IS_OF_CALL = """
(kind = 'call' AND subject = :id
 OR kind = 'follow_up' AND subject IN (SELECT follow_up_id FROM follow_ups WHERE call_id = :id))
"""
"""Of a row of `attempts`."""
COMPLETE = """
SELECT call_id FROM calls c
WHERE NOT EXISTS (SELECT 1 FROM inbox i WHERE i.call_id = c.call_id)
  AND NOT EXISTS (SELECT 1 FROM work w
                  WHERE w.kind = 'call' AND w.location_id = c.location_id AND w.subject = c.call_id)
  AND NOT EXISTS (SELECT 1 FROM notifications n
                  WHERE n.status = 'unresolved' AND n.location_id = c.location_id AND n.contact_id = c.contact_id)
  AND NOT EXISTS (SELECT 1 FROM follow_ups f JOIN work w ON w.kind = 'follow_up' AND w.subject = f.follow_up_id
                  WHERE f.location_id = c.location_id AND f.call_id = c.call_id)
"""
WHERE_THE_CODE_IS = "import models, webhook, workers; print(*models.__path__, *webhook.__path__, *workers.__path__)"
QUICK = {
    "LEADWAY_LEASE_SECONDS": str(LEASE_SECONDS),
    "LEADWAY_SETTLE_SECONDS": str(SETTLE_SECONDS),
    "LEADWAY_RETRY_SECONDS": "0.1",
    "LOG_LEVEL": "WARNING",
}


class Stage(Points):
    """`with Stage(folder, "postgresql") as stage:` – web, worker and beat are running and are kept running.

    `two_workers`: a second one, `worker2`, runs beside the first; both log each attempt, and their clocks can be
    turned back.
    """

    def __init__(self, folder: Path, database: str, *, two_workers: bool = False) -> None:
        super().__init__(folder / "points")
        self._folder = folder
        self._database = database
        self.workers = ("worker", "worker2") if two_workers else ("worker",)
        self._stack = ExitStack()
        self._watching = threading.Event()
        self._guard = threading.Lock()
        self._apps: dict[str, App] = {}
        self.postgres: PostgresServer | None = None
        self.redis: EmbeddedRedis
        self.world: World

    def __enter__(self) -> Self:
        self.points.mkdir(parents=True)
        self.redis = self._stack.enter_context(EmbeddedRedis(self._folder / "redis"))
        self.world = self._stack.enter_context(
            World(
                self._folder,
                database_url=self._database_url(),
                redis_url=self.redis.url,
                settings={**QUICK, "FAILPOINTS_FOLDER": str(self.points)},
            )
        )
        self.world.double.set_repeats([0.2] * 10 + [1.0] * 600, timeout=2.0)  # the vendor, too, repeats for hours
        if len(self.workers) == 1:
            self.world.start(*PROCESSES)
        else:
            self._start_with_two_workers()
        threading.Thread(target=self._keep_running, name="supervisor", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._watching.set()
        with self._guard:
            self._stack.__exit__(kind, error, at)

    # What can befall them

    def kill_pid(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def kill(self, name: str) -> None:
        """kill -9 of a process with all its children; the supervisor starts it again."""
        with self._guard:
            self.world.processes.kill(name)

    def kill_workers(self) -> None:
        """All of them at once, as when their host dies: the work waits until the supervisor has started another."""
        with self._guard:
            for name in self.workers:
                self.world.processes.kill(name)

    def freeze(self, pid: int, seconds: float) -> None:
        """A server that says nothing for this long. A worker is frozen until others have finished: see `Frozen`."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)

    def turn_clock_back(self, pid: int, seconds: float) -> None:
        """The process's monotonic clock did not count these seconds: see `still_clock`."""
        with (self.points / f"{pid}.clock").open("r+b") as file:
            [before] = struct.unpack("d", file.read(8))
            file.seek(0)
            file.write(struct.pack("d", before + seconds))

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

    @contextmanager
    def locked_inbox(self) -> Iterator[None]:
        """Nothing can be written into the inbox, as while a migration changes it. PostgreSQL only."""
        database = Database(self.world.database_url, limits=COMMAND)
        with closing(database), suppress(SQLAlchemyError), database.transaction() as connection:
            connection.execute(sa.text("LOCK TABLE inbox IN ACCESS EXCLUSIVE MODE"))
            yield

    def copy_database(self) -> Copy:
        """A backup as it is at this moment: all processes are killed for it, and started again."""
        return self._while_all_are_down(lambda: Copy(self.world.database_url, self._folder))

    def restore_database(self, copy: Copy) -> None:
        """All processes are killed, the database is what it was at the copy, and all are started again."""
        self._while_all_are_down(copy.restore)
        copy.drop()

    def _while_all_are_down(self, act: Callable[[], T]) -> T:
        with self._guard:
            for name in (*PROCESSES, *self.workers[1:]):
                self.world.processes.kill(name)
            self.world.disconnect()
            done = act()
            for name in (*PROCESSES, *self.workers[1:]):
                self.world.processes.restart(name)
            return done

    # What people do

    def tells_the_log(self, call: PlacedCall) -> bool:
        """Whether the stored call has the words and as many actions as Leadway's log has at last."""
        log = json.loads(call.versions[-1][1])
        query = """
            SELECT (SELECT count(*) FROM call_actions a WHERE a.call_id = c.call_id) AS actions, summary, transcript
            FROM calls c WHERE call_id = :id"""
        stored = [tuple(row.values()) for row in self.world.rows(query, id=call.call_id)]
        return stored == [(len(log["executedCallActions"]), log["summary"], log["transcript"])]

    def write(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        """Calls a function of the models in a transaction of its own, as a command does."""
        database = Database(self.world.database_url, limits=COMMAND)
        try:
            return database.transact(lambda connection: function(connection, *arguments, **named))
        finally:
            database.close()

    def install_app(self) -> str:
        """A location of its own, whose tokens an app of Leadway's marketplace renews. Returns its id."""
        location_id = f"location{uuid4().hex}"
        self.world.double.add_location(location_id, time_zone="UTC")
        self._apps[location_id] = self.world.double.install_app(location_id, client_id=f"app-{location_id}")
        return location_id

    def connect(self, location_id: str) -> None:
        """Adds the account of such a location. It has no access token yet, so a refresh is due."""
        app, cipher = self._apps[location_id], TokenCipher([self.world.processes.environment["TOKEN_ENCRYPTION_KEYS"]])
        self.write(accounts.add, location_id)
        self.write(
            oauth_grants.set_grant, location_id, client_id=app.client_id, client_secret=app.client_secret,
            refresh_token=app.refresh_token, cipher=cipher,
        )  # fmt: skip

    # Who does what

    def worker_of(self, pid: int) -> str | None:
        """The worker that is this process; None: it is none, or is not running any more."""
        processes = self.world.processes
        with self._guard:
            return next((name for name in self.workers if processes.pid(name) == pid), None)

    def worker_at(self, client_port: int) -> int:
        """The pid of the worker whose request comes from this port."""
        for name in self.workers:
            pid = self.world.processes.pid(name)
            if any(each.laddr.port == client_port for each in psutil.Process(pid).net_connections("tcp")):
                return pid
        raise AssertionError(f"no worker has a connection from port {client_port}")

    # The truth

    def leases_lost(self, call: PlacedCall) -> int:
        """How often another attempt has taken over the call or a follow-up of it."""
        query = f"SELECT count(*) FROM attempts WHERE outcome = 'lease_lost' AND {IS_OF_CALL}"
        return int(self.world.scalar(query, id=call.call_id))

    def in_hand(self, worker: str) -> int:
        """Attempts for which this worker holds the lease. Not refreshes, which an attempt may make beside its own."""
        query = "SELECT count(*) FROM work WHERE lease_until IS NOT NULL AND running_on = :worker AND kind <> 'grant'"
        return int(self.world.scalar(query, worker=worker))

    def seconds_unclear(self, call: PlacedCall) -> float:
        """How long ago the outcome of the call's follow-up became unclear; -1: it is not."""
        [row] = self.world.rows("SELECT unclear_since FROM follow_ups WHERE call_id = :id", id=call.call_id)
        since = row["unclear_since"]
        if since is None:
            return -1.0
        at = datetime.fromisoformat(since) if isinstance(since, str) else since
        return time.time() - (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()

    def wait_for_peace(self, calls: list[PlacedCall], *, timeout: float = 60.0) -> None:
        """Until each of these calls is complete, as `complete` says."""
        eventually(
            lambda: self.is_at_peace(calls),
            timeout=timeout,
            every=0.05,
            describe=lambda: f"peace: {self.world.unfinished()}",
        )

    def is_at_peace(self, calls: list[PlacedCall]) -> bool:
        return {call.call_id for call in calls} <= self.complete()

    def complete(self) -> set[str]:
        """The ids of stored calls of which nothing is to be taken in, resolved, read or sent, in one snapshot."""
        return {row["call_id"] for row in self.world.rows(COMPLETE)}

    def _start_with_two_workers(self) -> None:
        environment = {
            "LOG_LEVEL": "INFO",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(STILL_CLOCK))),
            "STILL_CLOCKS_FOLDER": str(self.points),
        }
        self.world.start("web", "beat")
        for name in self.workers:
            self.world.processes.start("worker", name=name, environment=environment)
        alive = "SELECT count(*) FROM heartbeats WHERE process = 'worker'"
        eventually(lambda: self.world.scalar(alive) >= len(self.workers), timeout=30, describe="workers to be alive")
        self._look_whose_code_runs(environment)

    def _look_whose_code_runs(self, environment: dict[str, str]) -> None:
        """These tests may stand in a copy, and an installed package points to the original."""
        processes = self.world.processes
        processes.run([sys.executable, "-c", WHERE_THE_CODE_IS], name="whose_code", environment=environment)
        processes.wait("whose_code")
        wanted = " ".join(str(ROOT / package) for package in ("models", "webhook", "workers"))
        assert processes.log("whose_code").strip() == wanted, processes.log("whose_code")

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
                for name in (*PROCESSES, *self.workers[1:]):
                    if not self.world.processes.is_running(name):
                        self.world.processes.restart(name)
