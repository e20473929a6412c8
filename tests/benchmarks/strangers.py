"""Benchmark `strangers`: how long a fresh receipt takes while strangers ask for metrics and probes, or hold
connections.

Two web processes on PostgreSQL, 20 notifications a second by a timetable. A time counts from when its request was due.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.load import send
from tests.benchmarks.peers.stranger import CONNECTIONS
from tests.benchmarks.receipt_peers import notification
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.world import World

PER_SECOND = 20.0
MUST_MS = 100.0
SETTLED_SECONDS = 3.0


def run(*, number: int = 400) -> dict[str, Any]:
    """By what the strangers do: median and 99th percentile in milliseconds."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
        PostgresServer(durable=True) as postgres,
        World(
            Path(folder), database_url=postgres.create_database("strangers"), redis_url=redis.url,
            settings={"WEB_PROCESSES": "2", "LOG_LEVEL": "WARNING"},
        ) as world,
    ):  # fmt: skip
        world.start("web", "worker")
        found = {"nobody": _measure(world, number)}
        for what in CONNECTIONS:
            world.processes.run(["python", "-m", "tests.benchmarks.peers.stranger", str(world.port), what], name=what)
            time.sleep(SETTLED_SECONDS)
            found[what] = _measure(world, number)
            world.processes.kill(what)
            time.sleep(SETTLED_SECONDS)
    worst = max(one["p99_ms"] for one in found.values())
    return {**found, "load": os.getloadavg(), "good": worst <= MUST_MS}


def _measure(world: World, number: int) -> dict[str, float]:
    messages = [notification(world) for _ in range(number)]
    answers = send(world.port, messages, connections=8, per_second=PER_SECOND)
    assert set(answers.statuses) == {202}, answers.statuses
    return {"p50_ms": round(answers.percentile(0.5), 1), "p99_ms": round(answers.percentile(0.99), 1)}
