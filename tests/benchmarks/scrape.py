"""What a scrape costs after few and after many starts of processes: counters of the ended must not add up to files."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import requests

from tests.support.services import EmbeddedRedis
from tests.support.world import World

FEW, MANY = 5, 500
SCRAPES = 40
MOST = 2.0
"""How many times as long a scrape may take after MANY starts as after FEW."""
STARTS = """
import os, signal, sys
from models.settings import Settings
from workers.telemetry.metrics_files import share_counters
for number in range(int(sys.argv[1])):
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    share_counters(Settings())
    from workers.telemetry import metrics
    metrics.ENQUEUED.labels("call").inc()
    metrics.ATTEMPTS.labels("call", "done").inc()
    metrics.API_REQUESTS.labels("get_call_log", "200").inc()
    metrics.API_SECONDS.labels("get_call_log").observe(0.1)
    metrics.STORED_SECONDS.observe(0.1)
    metrics.WEBHOOK_ALARM.labels("L1").set(number)
    os.kill(os.getpid(), signal.SIGKILL)
"""
"""Each child begins as an entry point does, counts, and is killed; forking spares it the imports."""


def run() -> dict[str, Any]:
    """A web of two processes and a worker, which both live on; the median of SCRAPES by HTTP."""
    with (
        tempfile.TemporaryDirectory(prefix="leadway-bench-") as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
        World(
            Path(folder),
            database_url=f"sqlite:///{folder}/bench.db",
            redis_url=redis.url,
            settings={"WEB_PROCESSES": "2", "LOG_LEVEL": "WARNING"},
        ) as world,
    ):
        world.start("web", "worker")
        for _ in range(SCRAPES):
            _scrape(world)
        few = _measured_after(world, FEW)
        many = _measured_after(world, MANY - FEW)
        counted = _counted(world)
    ratio = many["median_ms"] / few["median_ms"]
    return {
        f"after_{FEW}_starts": few,
        f"after_{MANY}_starts": many,
        "ratio": ratio,
        "ratio_of_the_first_scrapes": many["first_ms"] / few["first_ms"],
        "counted": counted,
        "good": ratio <= MOST and counted == MANY,
    }


def _measured_after(world: World, starts: int) -> dict[str, float]:
    began = time.monotonic()
    world.processes.run(["python", "-c", STARTS, str(starts)], name="starts")
    assert world.processes.wait("starts", timeout=600) == 0, world.processes.log("starts")
    ended = time.monotonic()
    times = [_scrape(world) for _ in range(SCRAPES)]
    return {
        "first_ms": times[0],
        "median_ms": statistics.median(times),
        "files": len(list(Path(world.processes.folder).rglob("var/metrics/*/*"))),
        "ms_per_start": (ended - began) / starts * 1000,
    }


def _scrape(world: World) -> float:
    began = time.perf_counter()
    requests.get(f"{world.base_url}/metrics", timeout=60).raise_for_status()
    return (time.perf_counter() - began) * 1000


def _counted(world: World) -> float:
    told = requests.get(f"{world.base_url}/metrics", timeout=60).text
    [line] = [
        line for line in told.splitlines() if line.startswith('leadway_attempts_total{outcome="done",work="call"}')
    ]
    return float(line.split()[1])
