"""Benchmark `cost`: what one call costs from receipt to note, on PostgreSQL: CPU, bytes of WAL, row versions.

The account is paused between the steps, so each step is measured by itself: all notifications are received (and taken
in), then all logs are read, then all notes are written. What the processes cost while nothing happens is taken off.
"""

import os
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World

SETTINGS = {
    "LEADWAY_REQUESTS_PER_10_SECONDS": "1000000",
    "LEADWAY_LEASE_SECONDS": "60",
    "LEADWAY_RETRY_SECONDS": "5",
    "LEADWAY_LIST_FETCH": "off",
    "LOG_LEVEL": "WARNING",
}
STATISTICS_SECONDS = 1.5
"""PostgreSQL's sessions hand in their statistics at most once a second."""
IDLE_SECONDS = 6.0
AT_ONCE = 16
VERSIONS = {"inserted": "n_tup_ins", "updated": "n_tup_upd", "updated_hot": "n_tup_hot_upd", "deleted": "n_tup_del"}


@dataclass(frozen=True)
class Reading:
    """What had been used by a moment. Milliseconds of CPU, bytes, row versions."""

    at: float
    used: dict[str, float]


def run(*, calls: int = 1000) -> dict[str, Any]:
    """Per call: milliseconds of CPU of each process, bytes of WAL, row versions; for each step and in all."""
    with (
        tempfile.TemporaryDirectory(prefix="leadway-bench-") as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
        PostgresServer(durable=True) as postgres,
        World(
            Path(folder), database_url=postgres.create_database("cost"), redis_url=redis.url, settings=SETTINGS
        ) as world,
    ):
        world.double.set_rate_limit(per_window=None, announced=100_000)
        world.start("web", "worker", "beat")
        _write(world, "UPDATE accounts SET next_reconcile_at = now() + interval '1 day',"
                      " next_relist_at = now() + interval '1 day'")  # fmt: skip
        listing = "SELECT count(*) FROM reconciliations WHERE finished_at IS NULL"
        eventually(lambda: world.scalar(listing) == 0, timeout=60, describe="the first listing to end")
        time.sleep(2 * STATISTICS_SECONDS)  # what starts is not what is measured
        idle_from = _read(world, postgres)
        time.sleep(IDLE_SECONDS)
        idle_until = _read(world, postgres)
        idle = {
            name: (idle_until.used[name] - value) / (idle_until.at - idle_from.at)
            for name, value in idle_from.used.items()
        }
        placed = [
            world.double.place_call(actions=["CALL_TRANSFER"], contact=f"contact-{number}") for number in range(calls)
        ]
        _pause(world, "all")
        readings = [_read(world, postgres)]
        for start in range(0, calls, AT_ONCE):
            deliveries = [world.double.notify(call, wait=False) for call in placed[start : start + AT_ONCE]]
            assert all(each.wait(30) and each.accepted for each in deliveries)
        eventually(lambda: _received(world) >= calls, timeout=120, every=0.2, describe="all to be taken in")
        readings.append(_read(world, postgres))
        _pause(world, "follow_up")
        stored = "SELECT count(*) FROM calls WHERE stored_at IS NOT NULL"
        eventually(lambda: world.scalar(stored) >= calls, timeout=300, every=0.2, describe="all logs to be stored")
        readings.append(_read(world, postgres))
        _pause(world, None)
        done = "SELECT count(*) FROM follow_ups WHERE status = 'done'"
        eventually(lambda: world.scalar(done) >= calls, timeout=300, every=0.2, describe="all notes to be written")
        readings.append(_read(world, postgres))
        assert len(world.double.truth.notes()) == calls
    steps = dict(zip(("receipt", "fetch", "note"), pairwise(readings), strict=True))
    told = {step: _per_call(before, after, idle, calls) for step, (before, after) in steps.items()}
    return {**told, "in_all": {name: round(sum(step[name] for step in told.values()), 2) for name in idle}}


def _per_call(before: Reading, after: Reading, idle: dict[str, float], calls: int) -> dict[str, float]:
    seconds = after.at - before.at
    return {
        name: round((value - before.used[name] - idle[name] * seconds) / calls, 2) for name, value in after.used.items()
    }


def _read(world: World, postgres: PostgresServer) -> Reading:
    time.sleep(STATISTICS_SECONDS)
    assert postgres.process is not None
    used = {f"{line}_cpu_ms": _cpu_ms(world.processes.pid(line)) for line in ("web", "worker")}
    used["postgresql_cpu_ms"] = _cpu_ms(postgres.process.pid)
    used["wal_bytes"] = float(world.scalar("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))
    sums = ", ".join(f"sum({column}) AS {name}" for name, column in VERSIONS.items())
    [row] = world.rows(f"SELECT {sums} FROM pg_stat_user_tables")
    return Reading(time.monotonic(), used | {name: float(row[name]) for name in VERSIONS})


def _cpu_ms(pid: int) -> float:
    """Of a process, its children, and those that have ended."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    ticks = 0
    for process in family:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return 1000 * ticks / os.sysconf("SC_CLK_TCK")


def _received(world: World) -> int:
    """Notifications that were taken in."""
    return int(world.scalar("SELECT count(*) FROM notifications"))


def _pause(world: World, work: str | None) -> None:
    """Pauses this kind of work of all accounts, and no other one."""
    _write(world, "DELETE FROM pauses")
    if work is not None:
        _write(
            world,
            "INSERT INTO pauses (location_id, cause, work, detail, paused_at, probes)"
            " SELECT location_id, 'person', :work, 'the benchmark measures step by step', now(), 0 FROM accounts",
            work=work,
        )


def _write(world: World, statement: str, **values: Any) -> None:
    engine = sa.create_engine(world.database_url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    engine.dispose()
