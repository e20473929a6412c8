"""Measures what senders and calls notice of a Redis that is away: the answer's time, and how soon all is stored.

python -m tests.crash.redis_outage [--database sqlite] [--seconds 30] [--per-second 50]

Bounds: every notification is answered 202 at its first attempt; the 99th percentile of the answer is at most 1.5 times
that with Redis up, or under 50 ms; every call is stored within 30 s of Redis' return.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.traffic import Traffic
from tests.support.waiting import eventually
from tests.support.world import World

DATABASES = ("sqlite", "postgresql")
RATIO_ALLOWED = 1.5
ALWAYS_ALLOWED_MS = 50.0
STORED_WITHIN_SECONDS = 30.0
UNSTORED = """
SELECT (SELECT count(*) FROM inbox) + (SELECT count(*) FROM work WHERE kind = 'call' AND first_heard_at IS NOT NULL)
"""
PRODUCTION = {"LEADWAY_LEASE_SECONDS": "60", "LEADWAY_RETRY_SECONDS": "5", "WEB_PROCESSES": "2", "LOG_LEVEL": "WARNING"}


@dataclass(frozen=True)
class Answers:
    """What the senders saw in one phase; times in milliseconds."""

    number: int
    median: float
    p99: float
    slowest: float
    not_accepted_at_once: int

    def __str__(self) -> str:
        return (
            f"{self.number} notifications, {self.not_accepted_at_once} not answered 202 at once;"
            f" p50 {self.median:.1f} ms, p99 {self.p99:.1f} ms, slowest {self.slowest:.0f} ms"
        )


def main() -> int:
    arguments = _arguments()
    good = True
    for database in arguments.database:
        print(f"{database}, {arguments.per_second:g} notifications/s, Redis away {arguments.seconds:g} s", flush=True)
        good = measure(database, seconds=arguments.seconds, per_second=arguments.per_second) and good
    return 0 if good else 1


def measure(database: str, *, seconds: float, per_second: float) -> bool:
    """Prints what was seen; True when it is within the bounds."""
    with tempfile.TemporaryDirectory() as name, _world(Path(name), database) as (world, redis):
        up = _phase(world, seconds=seconds, per_second=per_second)
        print(f"  Redis up:   {up}", flush=True)
        _wait_until_stored(world)
        redis.kill()
        away = _phase(world, seconds=seconds, per_second=per_second)
        waiting = world.scalar(UNSTORED)
        redis.start()
        back = time.monotonic()
        _wait_until_stored(world)
        stored_after = time.monotonic() - back
        ratio = away.p99 / up.p99
        print(f"  Redis away: {away}")
        print(f"  p99 away / up: {ratio:.2f}; {waiting} calls stored {stored_after:.1f} s after Redis' return")
        print(f"  load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    return (
        not up.not_accepted_at_once
        and not away.not_accepted_at_once
        and (ratio <= RATIO_ALLOWED or away.p99 < ALWAYS_ALLOWED_MS)
        and stored_after <= STORED_WITHIN_SECONDS
    )


def _phase(world: World, *, seconds: float, per_second: float) -> Answers:
    with Traffic(world, per_second=per_second, actions=None) as traffic:
        time.sleep(seconds)
    first = [delivery.attempts[0] for delivery in traffic.deliveries]
    times = sorted(1000 * attempt.seconds for attempt in first)
    return Answers(
        number=len(first),
        median=quantiles(times, n=2)[0],
        p99=quantiles(times, n=100)[98],
        slowest=times[-1],
        not_accepted_at_once=sum(attempt.status != 202 for attempt in first),
    )


def _wait_until_stored(world: World) -> None:
    eventually(lambda: world.scalar(UNSTORED) == 0, timeout=300, every=0.2, describe="all calls to be stored")


@contextmanager
def _world(folder: Path, database: str) -> Iterator[tuple[World, EmbeddedRedis]]:
    with (
        EmbeddedRedis(folder / "redis") as redis,
        _database_url(folder, database) as url,
        World(folder, database_url=url, redis_url=redis.url, settings=PRODUCTION) as world,
    ):
        world.start("web", "worker", "beat")
        yield world, redis


@contextmanager
def _database_url(folder: Path, database: str) -> Iterator[str]:
    if database == "sqlite":
        yield f"sqlite:///{folder / 'leadway-calls.db'}"
        return
    with PostgresServer() as server:
        yield server.create_database("leadway")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.redis_outage", description=__doc__)
    parser.add_argument("--database", choices=DATABASES, action="append", help="default: both")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long Redis is away (default 30)")
    parser.add_argument("--per-second", type=float, default=50.0, help="notifications (default 50)")
    arguments = parser.parse_args()
    arguments.database = arguments.database or list(DATABASES)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
