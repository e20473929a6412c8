"""Benchmark `history`: an account's past taken in from list pages, beside live calls, and compared with single fetches.

Everything is real but Leadway: web, worker and the backfill command are processes, the double enforces the
vendor's limit of 100 requests per 10 s.
"""

import statistics
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.leadway_double.nouns import PlacedCall
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World

DAY = 86_400
PRODUCTION = {
    "LEADWAY_RETRY_SECONDS": "5",
    "LEADWAY_LEASE_SECONDS": "60",
    "LEADWAY_SETTLE_SECONDS": "120",
    "LEADWAY_REQUESTS_PER_10_SECONDS": "100",
    "LOG_LEVEL": "WARNING",
}


def run(*, calls: int = 50_000, fetched_singly: int = 500, days: int = 90) -> dict[str, Any]:
    """Numbers for the report, and `good`: whether the promises hold (requests per call ≤ 0.03, no live call more than
    2 s late, nothing missing, the vendor's limit never met)."""
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
        PostgresServer(durable=True) as postgres,
    ):
        url = postgres.create_database("history")
        with World(Path(folder), database_url=url, redis_url=redis.url, settings=PRODUCTION) as world:
            double = world.double
            double.set_rate_limit(per_window=100)
            double.place_calls(calls, over=days * DAY, ago=DAY)
            world.start("web", "worker")
            listed = _by_pages(world, days=days + 2)
            singly = _one_by_one(world, double.place_calls(fetched_singly, ago=DAY))
            stored = world.scalar("SELECT count(*) FROM calls WHERE origin = 'backfill' AND read_from = 'list'")
            refused = double.stats()["refused"]
    requests_per_call = listed["requests"] / calls
    return {
        "calls": calls,
        "stored": stored,
        "requests": listed["requests"],
        "requests_per_call": round(requests_per_call, 4),
        "seconds": round(listed["seconds"], 1),
        "calls_per_second": round(calls / listed["seconds"], 1),
        "live_calls": len(listed["delays"]),
        "live_delay_median_seconds": round(statistics.median(listed["delays"]), 3),
        "live_delay_worst_seconds": round(max(listed["delays"]), 3),
        "live_calls_later_than_2_seconds": sum(delay > 2.0 for delay in listed["delays"]),
        "tries_of_the_latest": listed["latest"],
        "one_by_one_calls": fetched_singly,
        "one_by_one_requests_per_call": round(singly["requests"] / fetched_singly, 4),
        "one_by_one_calls_per_second": round(fetched_singly / singly["seconds"], 1),
        "fewer_requests": round(singly["requests"] / fetched_singly / requests_per_call, 1),
        "faster": round((calls / listed["seconds"]) / (fetched_singly / singly["seconds"]), 1),
        "refused_by_the_limit": refused,
        "good": requests_per_call <= 0.03 and max(listed["delays"]) <= 2.0 and stored == calls and refused == 0,
    }


def _by_pages(world: World, *, days: int) -> dict[str, Any]:
    """The backfill command, while a live call comes every second."""
    ended = threading.Event()
    live: list[PlacedCall] = []

    def ring() -> None:
        while not ended.wait(1.0):
            live.append(world.double.place_call(actions=[]))
            world.double.notify(live[-1])

    ringing = threading.Thread(target=ring)
    ringing.start()
    before, began = _requests(world, "list"), time.monotonic()
    since = (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    until = (datetime.now(UTC) - timedelta(hours=12)).isoformat(timespec="seconds")
    words = ["backfill", world.double.location_id, "--from", since, "--to", until, "--yes"]
    world.processes.run(["leadway-calls", *words], name="backfill")
    code = world.processes.wait("backfill", timeout=3600)
    seconds = time.monotonic() - began
    ended.set()
    ringing.join()
    assert code == 0, world.processes.log("backfill")
    requests = _requests(world, "list") - before
    ids = [call.call_id for call in live]
    delays = _delays(world, ids)
    return {"requests": requests, "seconds": seconds, "delays": delays, "latest": _tries_of_the_latest(world)}


def _delays(world: World, call_ids: list[str]) -> list[float]:
    """From a call's announcement to its stored log."""
    query = sa.text("SELECT call_id, first_heard_at, stored_at FROM calls WHERE origin = 'notification'")

    def stored() -> list[float] | None:
        rows = {row["call_id"]: row for row in world.rows(query.text)}
        there = [rows[call_id] for call_id in call_ids if call_id in rows]
        if len(there) < len(call_ids):
            return None
        return [(row["stored_at"] - row["first_heard_at"]).total_seconds() for row in there]

    delays = eventually(stored, timeout=60, describe="the live calls to be stored")
    assert delays is not None
    return delays


def _tries_of_the_latest(world: World) -> list[str]:
    """Why the live call that waited longest did so."""
    tries = world.rows(
        "SELECT outcome, error FROM attempts WHERE subject = (SELECT call_id FROM calls WHERE origin = 'notification'"
        " ORDER BY stored_at - first_heard_at DESC LIMIT 1) ORDER BY attempt_id"
    )
    return [f"{row['outcome']} {row['error'] or ''}".strip() for row in tries]


def _one_by_one(world: World, calls: list[PlacedCall]) -> dict[str, Any]:
    """The same work without lists: each call announced in the lowest lane and fetched by the worker."""
    ids = [call.call_id for call in calls]
    before, began = _requests(world, "fetch"), time.monotonic()
    _announce(world, ids)
    done = "SELECT count(*) FROM calls WHERE wants_follow_ups = false AND read_from = 'fetch'"
    eventually(lambda: world.scalar(done) >= len(ids), timeout=1800, every=0.2, describe="single fetches")
    return {"requests": _requests(world, "fetch") - before, "seconds": time.monotonic() - began}


def _announce(world: World, call_ids: list[str]) -> None:
    from models.calls import calls
    from models.calls.calls import Origin
    from models.database import COMMAND, Database
    from models.work.work_rows import Lane

    database = Database(world.database_url, limits=COMMAND)
    with database.transaction() as connection:
        for call_id in call_ids:
            calls.announce(
                connection,
                world.double.location_id,
                call_id,
                origin=Origin.BACKFILL,
                lane=Lane.BACKFILLED,
                wants_follow_ups=False,
            )
    database.close()


def _requests(world: World, kind: str) -> int:
    return len(world.double.truth.requests(kind=kind))
