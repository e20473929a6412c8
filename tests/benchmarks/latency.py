"""Benchmark `latency`: from a notification to the stored call, less what Leadway takes, in a no-op's answers.

20 notifications a second of ten accounts, two web processes and a worker on PostgreSQL; the upstream takes 100 ms. The
no-op is Flask on the same server, at the same rate. Rounds take turns; medians of the rounds' p50.
"""

import os
from statistics import median
from typing import Any

from tests.benchmarks.crowd import LATENCY_SECONDS, crowd, percentile, wait
from tests.benchmarks.fairness import live_waits, notify_of_live_calls
from tests.benchmarks.load import send
from tests.support.waiting import eventually
from workers.local.embedded_redis import free_port

PER_SECOND = 20.0
ACCOUNTS = 10
MUST = 15.0
REQUEST = b"POST /webhooks/leadway HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 600\r\n\r\n" + b"x" * 600


def run(*, rounds: int = 5, seconds: float = 15.0) -> dict[str, Any]:
    with crowd(number=ACCOUNTS) as (world, locations):
        port = free_port()
        world.processes.run(["python", "-m", "tests.benchmarks.peers.noop", str(port), "same"], name="noop")
        for line in ("web", "worker"):
            world.processes.start(line)
        world.wait_for_web()
        world.wait_for_worker()
        eventually(lambda: send(port, [REQUEST] * 50, connections=4).statuses == {202: 50}, timeout=20)
        notify_of_live_calls(world, locations, seconds=5, per_second=PER_SECOND)
        wait(2)
        ours, noop = [], []
        for _ in range(rounds):
            number = int(seconds * PER_SECOND)
            noop.append(send(port, [REQUEST] * number, connections=4, per_second=PER_SECOND).percentile(0.5))
            waits = live_waits(world, locations, seconds=seconds, per_second=PER_SECOND)
            ours.append(1000 * (percentile(waits, 0.5) - LATENCY_SECONDS))
    ratio = median(a / b for a, b in zip(ours, noop, strict=True))
    return {
        "notification to stored, p50 less the upstream's 100 ms": round(median(ours), 1),
        "noop_p50_ms": round(median(noop), 2),
        "ratio": round(ratio, 1),
        "load": os.getloadavg(),
        "good": ratio <= MUST,
    }
