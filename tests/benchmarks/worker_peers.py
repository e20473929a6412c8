"""Benchmark `worker_peers`: a whole job, fetch and store, beside the same job under queues that promise nothing.

One worker process with 32 threads on the first core; Redis, PostgreSQL and an upstream that takes 100 ms have the
second one. Rounds take turns; rates are of the middle eight tenths of each round's jobs; ratios are of the same round,
and their median counts. Ours finds its calls in `work`, dispatches, claims, keeps the budget and the history; the
others find their messages in Redis. The run is void when the bare threads' rounds differ by more than half.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import sqlalchemy as sa

from models.accounts import accounts
from models.accounts.token_encryption import TokenCipher
from models.calls import calls
from models.database import WORKER, Database
from tests.benchmarks.peers import job
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World
from workers.local.embedded_redis import free_port

PEERS = ("bare", "celery", "dramatiq", "huey")
ACCOUNTS = 25
SPREAD_ALLOWED = 1.5
MUST = {"celery": 0.8, "dramatiq": 0.6, "huey": 0.6, "bare": 0.5}
SETTINGS = {
    "LEADWAY_REQUESTS_PER_10_SECONDS": "1000000", "LEADWAY_LEASE_SECONDS": "60", "LEADWAY_RETRY_SECONDS": "5",
    "LEADWAY_LIST_FETCH": "off", "LOG_LEVEL": "WARNING",
}  # fmt: skip


def run(*, rounds: int = 3, number: int = 1500) -> dict[str, Any]:
    with _bench() as bench:
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in ("ours", *PEERS)}
        for turn in range(rounds):
            for name in measured:
                measured[name].append(bench.measure(name, number, f"{name}-{turn}"))
        alone = bench.measure("rq", 100, "rq")  # one job after the other: it has no threads
    rates = {name: [one["per_second"] for one in each] for name, each in measured.items()}
    ratios = {peer: round(median(a / b for a, b in zip(rates["ours"], rates[peer], strict=True)), 2) for peer in PEERS}
    spread = max(rates["bare"]) / min(rates["bare"])
    return {
        "per_second": {name: round(median(each)) for name, each in rates.items()}
        | {"rq": round(alone["per_second"], 1)},
        "cpu_ms": {name: round(median(one["cpu_ms"] for one in each), 2) for name, each in measured.items()}
        | {"rq": round(alone["cpu_ms"], 2)},
        "ours ÷ peer": ratios,
        "spread_of_bare": round(spread, 2),
        "void": spread > SPREAD_ALLOWED,
        "load": os.getloadavg(),
        "good": all(ratios[peer] >= wanted for peer, wanted in MUST.items()),
    }


@dataclass
class Bench:
    world: World
    engine: sa.Engine
    environment: dict[str, str]

    def measure(self, name: str, number: int, prefix: str) -> dict[str, float]:
        """Jobs a second, and milliseconds of the worker's CPU for each."""
        if name == "ours":
            counted = sa.text("SELECT count(*) FROM calls WHERE call_id LIKE :prefix")
            self._announce(number, prefix)
            self.world.processes.start("worker", name=prefix, environment=self.environment)
        else:
            counted = sa.text("SELECT count(*) FROM peer_calls WHERE call_id LIKE :prefix")
            command = ["python", "-m", "tests.benchmarks.peers.queues"]
            self.world.processes.run(
                [*command, "enqueue", name, str(number), prefix],
                name=f"{prefix} enqueued",
                environment=self.environment,
            )
            assert self.world.processes.wait(f"{prefix} enqueued", timeout=120) == 0
            self.world.processes.run([*command, "work", name], name=prefix, environment=self.environment)
        pid = self.world.processes.pid(prefix)
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

            def stored() -> int:
                return int(connection.execute(counted, {"prefix": f"{prefix}-%"}).scalar_one())

            first, began, cpu = _reached(stored, number // 10, pid)
            last, ended, cpu_then = _reached(stored, number * 9 // 10, pid)
            eventually(lambda: stored() == number, timeout=120)
        self.world.processes.kill(prefix)
        return {"per_second": (last - first) / (ended - began), "cpu_ms": 1000 * (cpu_then - cpu) / (last - first)}

    def _announce(self, number: int, prefix: str) -> None:
        database = Database(self.world.database_url, limits=WORKER)
        locations = [self.world.double.location_id, *(f"loc_{position:03}" for position in range(1, ACCOUNTS))]
        with database.transaction() as connection:
            for position in range(number):
                calls.announce(connection, locations[position % ACCOUNTS], f"{prefix}-{position}")
        database.close()


def _reached(stored: Callable[[], int], wanted: int, pid: int) -> tuple[int, float, float]:
    """How many are stored when so many are, at what time, and the CPU seconds that the process has used."""
    deadline = time.monotonic() + 120
    while (number := stored()) < wanted:
        assert time.monotonic() < deadline, f"{number} of {wanted}"
        time.sleep(0.05)
        for thread in psutil.Process(pid).threads():
            os.sched_setaffinity(thread.id, {0})
    times = psutil.Process(pid).cpu_times()
    return number, time.monotonic(), times.user + times.system


@contextmanager
def _bench() -> Iterator[Bench]:
    os.sched_setaffinity(0, {1} if (os.cpu_count() or 1) > 1 else {0})
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
        PostgresServer(durable=True) as postgres,
        World(
            Path(folder), database_url=postgres.create_database("ours"), redis_url=redis.url, settings=SETTINGS
        ) as world,
    ):
        world.processes.finish("release")
        port = free_port()
        world.processes.run(["python", "-m", "tests.benchmarks.peers.upstream", str(port)], name="upstream")
        database = Database(world.database_url, limits=WORKER)
        cipher = TokenCipher([world.processes.environment["TOKEN_ENCRYPTION_KEYS"]])
        with database.transaction() as connection:
            for position in range(1, ACCOUNTS):
                accounts.add(connection, f"loc_{position:03}")
                accounts.set_token(connection, f"loc_{position:03}", "token", cipher=cipher)
        database.close()
        engine = sa.create_engine(world.database_url)
        job.metadata.create_all(engine)
        api = f"http://127.0.0.1:{port}"
        environment = {
            "PEER_REDIS_URL": redis.url.replace("/0", "/1"), "PEER_DATABASE_URL": world.database_url,
            "PEER_API_URL": api, "LEADWAY_API_URL": api,
        }  # fmt: skip
        yield Bench(world, engine, environment)
        engine.dispose()
