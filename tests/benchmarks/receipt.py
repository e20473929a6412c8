"""Benchmark `receipt`: bursts of notifications beside two busy workers that list and store the same calls.

What is wanted is that none is refused, and none goes into the journal: a receipt waits for nothing that a worker holds.
"""

import json
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from models.database import COMMAND, Database
from models.reconciling import windows
from models.reconciling.windows import WindowKind
from tests.benchmarks.crowd import percentile
from tests.leadway_double.notifications import Message
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World

SPAN = timedelta(hours=2)
SENDERS = 16
AT_ONCE = {"LEADWAY_REQUESTS_PER_10_SECONDS": "3000", "LOG_LEVEL": "WARNING", "WEB_PROCESSES": "2"}


def run(*, calls: int = 1000, bursts: int = 3) -> dict[str, Any]:
    """By database: answers by status, and how long they took. `good`: none refused or journaled, all taken in."""
    found = {database: _on(database, calls=calls, bursts=bursts) for database in ("postgresql", "sqlite")}
    good = all(one["refused"] == one["journaled"] == 0 and one["taken_in"] == calls for one in found.values())
    return {**found, "good": good}


def _on(database: str, *, calls: int, bursts: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
        PostgresServer(durable=True) as postgres,
    ):
        url = postgres.create_database("receipt") if database == "postgresql" else f"sqlite:///{folder}/calls.db"
        with World(Path(folder), database_url=url, redis_url=redis.url, settings=AT_ONCE) as world:
            placed = world.double.place_calls(calls, over=SPAN.total_seconds() / 2, ago=600, contact=False, actions=())
            messages = [world.double.message(call)[0] for call in placed]
            world.start("web", "worker", "beat")
            answers: list[tuple[int, float]] = []
            with _listing(world), world.another("worker"), ThreadPoolExecutor(SENDERS) as senders:
                for _ in range(bursts):
                    answers += senders.map(_send, messages)
            statuses = Counter(status for status, _seconds in answers)
            listed = world.scalar("SELECT coalesce(sum(requests), 0) FROM reconciliations")
            world.wait_until_done(calls=calls, timeout=300)
            eventually(lambda: world.scalar("SELECT count(*) FROM inbox") == 0, describe="an empty inbox")
            said = world.processes.log("web").splitlines()
            causes = [json.loads(line)["error"] for line in said if "receipt_not_written" in line]
            metrics = requests.get(f"{world.base_url}/metrics", timeout=30).text
            journaled = re.search(r"^leadway_journaled_total (\S+)", metrics, re.MULTILINE)
            taken_in = world.scalar("SELECT count(*) FROM notifications")
            repeats = world.scalar("SELECT sum(repeats) FROM notifications")
    seconds = [each for _status, each in answers]
    return {
        "answers": dict(statuses),
        "refused": len(answers) - statuses[202],
        "journaled": float(journaled[1]) if journaled else 0.0,
        "refused_because": dict(Counter(causes)),
        "taken_in": taken_in,
        "repeats": int(repeats),
        "pages_listed_meanwhile": int(listed),
        "answer_median_ms": round(1000 * percentile(seconds, 0.5)),
        "answer_p99_ms": round(1000 * percentile(seconds, 0.99)),
        "answer_worst_ms": round(1000 * max(seconds)),
    }


def _send(message: Message) -> tuple[int, float]:
    """Once: a sender that does not repeat."""
    started = time.monotonic()
    answer = requests.post(message.url, data=message.body, headers=dict(message.headers), timeout=30)
    return answer.status_code, time.monotonic() - started


@contextmanager
def _listing(world: World) -> Iterator[None]:
    """Opens windows over the same calls again and again, two at a time, so that both workers list and store them."""
    until, over = datetime.now(UTC), threading.Event()

    def keep_open() -> None:
        with closing(Database(world.database_url, limits=COMMAND)) as database:
            while not over.wait(0.2):
                for kind in (WindowKind.SINCE, WindowKind.DAILY):
                    with database.transaction() as connection:
                        windows.open_run(
                            connection, world.double.location_id, kind=kind, since=until - SPAN, until=until
                        )

    thread = threading.Thread(target=keep_open)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
