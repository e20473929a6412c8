"""Benchmark `cost`: what one call costs from receipt to note, on PostgreSQL: CPU, bytes of WAL, row versions, bytes.

A call has two or three actions, one of which calls for a note, and a transcript of 3 KB. The bytes of WAL are counted
after a checkpoint, with `full_page_writes` on, and in another run with it off; stored bytes are those of all tables and
indexes after VACUUM.

The account is paused between the steps, so each step is measured by itself: all notifications are received (and taken
in), then all logs are read, then all notes are written. What the processes cost while nothing happens is taken off.
"""

import os
import random
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from tests.leadway_double.notifications import Dialect
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
SENTENCE = (
    "I would like to book an appointment for Thursday please because my car makes strange noises since last week and"
    " the brakes feel soft when it rains can you tell me whether you have something in the morning or should I bring it"
    " on Friday after work thank you very much what does it cost how long will it take do I need to wait there"
)
VERSIONS = {"inserted": "n_tup_ins", "updated": "n_tup_upd", "updated_hot": "n_tup_hot_upd", "deleted": "n_tup_del"}


@dataclass(frozen=True)
class Reading:
    """What had been used by a moment. Milliseconds of CPU, bytes, row versions."""

    at: float
    used: dict[str, float]


MUST = {"wal_bytes": 20_000.0, "wal_bytes_without_page_images": 6_000.0, "stored_bytes": 8_000.0}
TRANSCRIPT = 3_000


def run(*, calls: int = 2000) -> dict[str, Any]:
    """Per call: milliseconds of CPU of each process, bytes of WAL, row versions; for each step and in all."""
    result = _run(calls, page_images=True)
    in_all = result["in_all"]
    in_all["wal_bytes_without_page_images"] = _run(calls, page_images=False)["in_all"]["wal_bytes"]
    return {**result, "good": all(in_all[name] <= most for name, most in MUST.items())}


def _run(calls: int, *, page_images: bool) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="leadway-bench-") as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
        PostgresServer(durable=True) as postgres,
        World(
            Path(folder), database_url=postgres.create_database("cost"), redis_url=redis.url, settings=SETTINGS
        ) as world,
    ):
        if not page_images:
            for statement in ("ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()"):
                _write_alone(world, statement)
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
            world.double.place_call(
                actions=["CALL_TRANSFER", *("SMS", "DATA_EXTRACTION")[: 1 + number % 2]],
                contact=f"contact-{number}",
                fields={"transcript": _transcript(number)},
            )
            for number in range(calls)
        ]
        _pause(world, "all")
        bytes_before = _stored_bytes(world)
        _write_alone(world, "CHECKPOINT")
        readings = [_read(world, postgres)]
        for start in range(0, calls, AT_ONCE):
            deliveries = [
                world.double.notify(call, dialect=Dialect.THIN, wait=False) for call in placed[start : start + AT_ONCE]
            ]
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
        stored_bytes = (_stored_bytes(world) - bytes_before) / calls
    steps = dict(zip(("receipt", "fetch", "note"), pairwise(readings), strict=True))
    told = {step: _per_call(before, after, idle, calls) for step, (before, after) in steps.items()}
    in_all = {name: round(sum(step[name] for step in told.values()), 2) for name in idle}
    return {**told, "in_all": {**in_all, "stored_bytes": round(stored_bytes)}}


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


def _transcript(number: int) -> str:
    """Of TRANSCRIPT characters, unlike any other call's."""
    words = random.Random(number).choices(SENTENCE.split(), k=TRANSCRIPT // 4)
    lines = [f"{('bot', 'human')[at % 2]}:{' '.join(words[12 * at : 12 * at + 12])}" for at in range(len(words) // 12)]
    return "\n".join(lines)[:TRANSCRIPT]


def _stored_bytes(world: World) -> float:
    _write_alone(world, "VACUUM")
    of_tables = "SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables"
    return float(world.scalar(of_tables))


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


def _write_alone(world: World, statement: str) -> None:
    """What cannot be part of a transaction."""
    engine = sa.create_engine(world.database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


def _write(world: World, statement: str, **values: Any) -> None:
    engine = sa.create_engine(world.database_url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    engine.dispose()
