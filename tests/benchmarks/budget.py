"""How much of one account's allowance is used, and whether it is ever exceeded: two workers, a full backlog."""

from typing import Any

from tests.benchmarks.crowd import Processor, announce, crowd, most_within, place, refused, told, wait

PER_WINDOW, WINDOW_SECONDS = 100, 10.0
WARM_UP_SECONDS = 5.0


def run(*, seconds: float = 120.0, workers: int = 2) -> dict[str, Any]:
    """One account with 2,000 calls waiting, fetched one by one. The double counts by its own clock, on arrival."""
    needed = int((seconds + 2 * WARM_UP_SECONDS) * PER_WINDOW / WINDOW_SECONDS)
    with crowd(number=1) as (world, [location_id]):
        announce(world, place(world, location_id, max(2000, needed)))
        names = [f"worker-{position}" for position in range(workers)]
        for name in names:
            world.processes.start("worker", name=name)
        world.wait_for_worker()
        wait(WARM_UP_SECONDS)
        since, processor = world.double.memory.now(), Processor(world, *names)
        wait(seconds)
        until, cpu = world.double.memory.now(), processor.share()
        arrivals = [each.at for each in world.double.truth.requests(location_id=location_id)]
        inside = sum(since <= at < until for at in arrivals)
        result = {
            "seconds": until - since,
            "workers": workers,
            "requests": inside,
            "share_of_the_limit": inside / ((until - since) * PER_WINDOW / WINDOW_SECONDS),
            "refused_with_429": refused(world, [location_id]),
            "most_in_any_10_s": max(most_within(arrivals, WINDOW_SECONDS), world.double.stats(location_id)["peak"]),
            "attempts_sent_back_by_the_budget": _sent_back(world),
            "cpu_of_the_workers": cpu,
        }
    told("budget", result)
    return result


def _sent_back(world: Any) -> int:
    """Claims that ended without an answer: each costs, and each is one that nobody had to make."""
    number: int = world.scalar(
        "SELECT (SELECT last_value FROM fence_numbers) - (SELECT count(*) FROM attempts)"
        " - (SELECT count(*) FROM work WHERE lease_until IS NOT NULL)"  # in one statement: a worker goes on meanwhile
    )
    return number
