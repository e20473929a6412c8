"""A whole system with many accounts and a backlog, for the benchmarks that measure it from outside."""

import os
import tempfile
import threading
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from models.accounts import accounts
from models.accounts.token_encryption import TokenCipher
from models.calls import calls
from models.database import WORKER, Database, moment
from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.nouns import PlacedCall
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.world import World

LATENCY_SECONDS = 0.1
"""Of each answer of the double."""
ACTIONS = ("SMS", "DATA_EXTRACTION")
"""Neither calls for a note: what is measured are fetches."""
REAL = {
    "LEADWAY_REQUESTS_PER_10_SECONDS": "100",
    "LEADWAY_LEASE_SECONDS": "60",
    "LEADWAY_RETRY_SECONDS": "5",
    "LEADWAY_LIST_FETCH": "off",
    "LOG_LEVEL": "WARNING",
}


@contextmanager
def crowd(*, number: int, settings: Mapping[str, str] | None = None) -> Iterator[tuple[World, list[str]]]:
    """A migrated system on PostgreSQL with so many accounts, nothing started; its location ids beside it.

    The double enforces a sliding window of 100 requests in 10 s for each account and takes its time to answer.
    """
    with (
        tempfile.TemporaryDirectory(prefix="leadway-bench-") as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
        PostgresServer(durable=True) as postgres,
        World(
            Path(folder), database_url=postgres.create_database("bench"), redis_url=redis.url,
            settings={**REAL, **(settings or {})}, double=LeadwayDouble(time_zone="UTC"),
        ) as world,
    ):  # fmt: skip
        world.double.set_rate_limit(per_window=100)
        world.double.fault("fetch", "delay", seconds=LATENCY_SECONDS)
        world.processes.finish("release")
        locations = [world.double.location_id, *(f"loc_{position:03}" for position in range(1, number))]
        cipher = TokenCipher([world.processes.environment["TOKEN_ENCRYPTION_KEYS"]])
        with database(world) as this, this.transaction() as connection:
            for location_id in locations[1:]:
                secret = f"secret-of-the-crowd-{location_id}"
                token = world.double.add_location(location_id, intake_secret=secret)
                accounts.add(connection, location_id)
                accounts.set_token(connection, location_id, token, cipher=cipher)
                accounts.set_secret(connection, location_id, secret)
            later = moment(86_400)  # nothing is listed meanwhile: what is measured are single fetches
            connection.execute(sa.update(accounts.accounts_table).values(next_reconcile_at=later, next_relist_at=later))
        yield world, locations


@contextmanager
def database(world: World) -> Iterator[Database]:
    opened = Database(world.database_url, limits=WORKER)
    try:
        yield opened
    finally:
        opened.close()


def place(world: World, location_id: str, number: int) -> list[PlacedCall]:
    return world.double.place_calls(number, location_id, actions=ACTIONS, contact=False, language="en")


def announce(world: World, placed: Sequence[PlacedCall]) -> None:
    """As if each had been notified of just now; without HTTP, which is not what is measured."""
    with database(world) as this, this.transaction() as connection:
        for call in placed:
            calls.announce(connection, call.location_id, call.call_id)


def answered(world: World, *, since: float, until: float) -> Counter[str]:
    """Fetches that the double answered with 200 between two times, by location."""
    seen = world.double.truth.requests(kind="fetch")
    return Counter(each.location_id for each in seen if since <= each.at < until and each.status == 200)


def refused(world: World, location_ids: Sequence[str]) -> int:
    return sum(world.double.stats(each)["refused"] for each in location_ids)


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


class Processor:
    """CPU seconds of a running process and its children, read from /proc."""

    def __init__(self, world: World, *names: str) -> None:
        self._pids = [world.processes.pid(name) for name in names]
        self._before, self._at = self._used(), time.monotonic()

    def share(self) -> float:
        """CPU seconds per second since the beginning."""
        return (self._used() - self._before) / (time.monotonic() - self._at)

    def _used(self) -> float:
        ticks = 0
        for pid in self._pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def most_within(times: Sequence[float], seconds: float) -> int:
    """The largest number of times that lie within any so many seconds."""
    ordered = sorted(times)
    return max((position - bisect_left(ordered, at - seconds) for position, at in enumerate(ordered, 1)), default=0)


def told(title: str, result: Mapping[str, Any]) -> None:
    print(title)
    for name, value in result.items():
        print(f"  {name:<38} {value:.3f}" if isinstance(value, float) else f"  {name:<38} {value}")
