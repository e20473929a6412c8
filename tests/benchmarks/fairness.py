"""Whether accounts leave each other alone: many at their limit on one worker, and one flood beside live calls."""

import time
from collections.abc import Sequence
from itertools import cycle
from statistics import median
from typing import Any

from models.accounts import pauses
from models.accounts.pauses import PauseCause
from tests.benchmarks.crowd import (
    Processor,
    announce,
    answered,
    crowd,
    database,
    percentile,
    place,
    refused,
    told,
    wait,
)
from tests.leadway_double.notifications import Dialect
from tests.support.waiting import eventually
from tests.support.world import World

PER_SECOND = 10.0
WARM_UP_SECONDS = 6.0


CROWDS = ((10, 1), (25, 1), (20, 2))
"""How many accounts, on how many worker processes."""


def run(*, seconds: float = 60.0, live_seconds: float = 40.0) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for number, workers in CROWDS:
        result[f"{number}_accounts_{workers}_workers"] = at_the_limit(number=number, workers=workers, seconds=seconds)
    result["flood"] = beside_a_flood(seconds=live_seconds)
    return result


def at_the_limit(*, number: int, workers: int, seconds: float) -> dict[str, Any]:
    """Each account has more waiting than its limit lets through; so many worker processes serve them all."""
    with crowd(number=number) as (world, locations):
        needed = int((seconds + 3 * WARM_UP_SECONDS) * PER_SECOND)
        for location_id in locations:
            announce(world, place(world, location_id, needed))
        names = [f"worker-{one}" for one in range(1, workers + 1)]
        for name in names:
            world.processes.start("worker", name=name)
        world.wait_for_worker()
        wait(WARM_UP_SECONDS)
        since, processor = world.double.memory.now(), Processor(world, *names)
        wait(seconds)
        until, cpu = world.double.memory.now(), processor.share()
        served = answered(world, since=since, until=until)
        total = sum(served.values()) / (until - since)
        result = {
            "accounts": number,
            "workers": workers,
            "fetches_per_second": total,
            "share_of_the_total_limit": total / (number * PER_SECOND),
            "least_by_best_served": min(served[each] for each in locations) / max(served.values(), default=1),
            "refused_with_429": refused(world, locations),
            "cpu_of_the_workers": cpu,
            "cpu_milliseconds_per_fetch": 1000 * cpu / max(total, 0.001),
        }
    told("fairness: accounts at their limit", result)
    return result


def beside_a_flood(
    *, seconds: float, live_accounts: int = 24, backlog: int = 20_000, per_second: float = 12.0, rounds: int = 3
) -> dict[str, Any]:
    """From notification to stored, of live calls, in turn without and with another account's backlog at work.

    The ratio is the median of the rounds': whatever else the machine does changes from minute to minute.
    """
    with crowd(number=live_accounts + 1) as (world, [flooded, *live]):
        _stand_still(world, flooded, True)
        announce(world, place(world, flooded, backlog))
        for line in ("web", "worker"):
            world.processes.start(line)
        world.wait_for_web()
        world.wait_for_worker()
        notify_of_live_calls(world, live, seconds=WARM_UP_SECONDS, per_second=per_second)
        alone, beside, shares = [], [], []
        for _ in range(rounds):
            alone.append(live_waits(world, live, seconds=seconds, per_second=per_second))
            _stand_still(world, flooded, False)
            wait(WARM_UP_SECONDS)
            since = world.double.memory.now()
            beside.append(live_waits(world, live, seconds=seconds, per_second=per_second))
            until = world.double.memory.now()
            shares.append(answered(world, since=since, until=until)[flooded] / ((until - since) * PER_SECOND))
            _stand_still(world, flooded, True)
            wait(WARM_UP_SECONDS)
        result = {
            "live_calls": sum(map(len, alone)) + sum(map(len, beside)),
            "p50_alone": median(percentile(each, 0.5) for each in alone),
            "p50_beside_the_flood": median(percentile(each, 0.5) for each in beside),
            "p95_alone": median(percentile(each, 0.95) for each in alone),
            "p95_beside_the_flood": median(percentile(each, 0.95) for each in beside),
            "p95_beside_by_alone": median(
                percentile(two, 0.95) / percentile(one, 0.95) for one, two in zip(alone, beside, strict=True)
            ),
            "flooded_account_share_of_its_limit": median(shares),
            "refused_with_429": refused(world, [flooded, *live]),
        }
    told("fairness: 24 live accounts beside one with 20,000 calls waiting", result)
    return result


def _stand_still(world: World, location_id: str, still: bool) -> None:
    with database(world) as this, this.transaction() as connection:
        if still:
            pauses.pause(connection, location_id, cause=PauseCause.PERSON, detail="the benchmark measures without it")
        else:
            pauses.resume(connection, location_id)


def live_waits(world: World, live: Sequence[str], *, seconds: float, per_second: float) -> list[float]:
    """Seconds from receipt to stored, by the database's clock, of every live call of one round."""
    ids = notify_of_live_calls(world, live, seconds=seconds, per_second=per_second)
    return eventually(lambda: _all_stored(world, ids), timeout=60, every=0.5)


def notify_of_live_calls(world: World, live: Sequence[str], *, seconds: float, per_second: float) -> list[str]:
    ids: list[str] = []
    started = time.monotonic()
    for location_id in cycle(live):
        behind = started + len(ids) / per_second - time.monotonic()
        if behind > 0:
            wait(behind)
        if time.monotonic() - started >= seconds:
            return ids
        [call] = place(world, location_id, 1)
        assert world.double.notify(call, dialect=Dialect.THIN).status == 202
        ids.append(call.call_id)
    raise AssertionError("no live accounts")


def _all_stored(world: World, ids: Sequence[str]) -> list[float] | None:
    rows = world.rows("SELECT call_id, extract(epoch FROM stored_at - first_heard_at) AS waited FROM calls")
    waited = {row["call_id"]: row["waited"] for row in rows}
    found = [waited.get(each) for each in ids]
    return None if None in found else [float(each) for each in found if each is not None]
