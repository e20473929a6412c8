"""The soak: many calls, a fifth of the writes with an unclear answer; each second something is killed or flushed."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.crash.stage import Stage
from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.nouns import PlacedCall
from tests.leadway_double.sender import Delivery
from tests.support.world import notes_due, notes_written

CALLS_PER_SECOND = 20
UNCLEAR_ANSWERS = (
    ("do_then_reset", {}, 0.05),
    ("do_then_status", {"status": 500}, 0.05),
    ("do_then_status", {"status": 422}, 0.03),
    ("do_late", {"seconds": 0.5}, 0.03),
    ("reset", {}, 0.04),
    ("status", {"status": 429, "retry_after": 1}, 0.01),
)
BAD_READS = (
    ("fetch", "status", {"status": 403, "body": "Access denied by the edge"}, 0.01),
    ("fetch", "status", {"status": 200, "body": "<html>Sign in to this network</html>"}, 0.01),
    ("list", "same_page", {}, 0.05),
    ("list", "capped", {"count": 10}, 0.1),
    ("list", "wrong_total", {"count": 2}, 0.05),
    ("list", "no_total", {"count": 10}, 0.05),
    ("list", "bare", {}, 0.05),
)
"""What does not come from the API, and lists that lie."""
DIALECTS = ("flat", "thin", "workflow", "data", "flat_untyped")
WISHES: tuple[dict[str, Any], ...] = (
    {}, {}, {"empty_for": 2.0}, {"fields": {"direction": "outbound"}}, {"late": 1.5}, {"duration": 0, "empty_for": 3.0},
)  # fmt: skip

PATIENCE_SECONDS = 780.0
"""A call without actions that is announced again is read until it is ten minutes old."""


@dataclass(frozen=True)
class Report:
    """What the soak found. `looks` are the extra requests that looked for a note."""

    calls: int
    lost: int
    notes_due: int
    notes_missing: int
    notes_too_many: int
    untrue: int
    """Calls of which another thing is stored than Leadway's log says."""
    unclear: int
    looks: int
    most_looks_per_unclear: float
    befell: Counter[str]
    seconds: float

    @property
    def is_good(self) -> bool:
        damage = self.lost or self.notes_missing or self.notes_too_many or self.untrue
        return not damage and self.most_looks_per_unclear <= 2

    def __str__(self) -> str:
        return (
            f"{'ok' if self.is_good else 'BAD'}: {self.calls} calls, {self.lost} lost; {self.notes_due} notes due,"
            f" {self.notes_missing} missing, {self.notes_too_many} too many; {self.untrue} untrue;"
            f" {self.unclear} unclear answers, {self.looks} looks ({self.most_looks_per_unclear:.2f} each);"
            f" {dict(self.befell)}; {self.seconds:.0f} s"
        )


def soak(stage: Stage, *, calls: int, seed: int) -> Report:
    chance = random.Random(seed)
    double = stage.world.double
    started = time.monotonic()
    faults = [
        double.fault("create_note", what, probability=probability, **how) for what, how, probability in UNCLEAR_ANSWERS
    ]
    for kind, what, how, probability in BAD_READS:
        double.fault(kind, what, probability=probability, **how)
    befell: Counter[str] = Counter()
    placed: list[PlacedCall] = []
    deliveries: list[Delivery] = []
    callers = threading.Thread(target=_place, args=(double, calls, placed, deliveries), daemon=True)
    callers.start()
    _befall(stage, chance, befell, callers)
    for delivery in deliveries:
        delivery.wait(120)
        assert delivery.accepted, "a notification was never accepted"
    stage.wait_for_peace(placed, timeout=PATIENCE_SECONDS)
    hits = {fault.fault_id: fault.hits for fault in double.faults()}
    return _report(stage, placed, unclear=sum(hits[fault] for fault in faults), befell=befell, started=started)


def _place(double: LeadwayDouble, calls: int, placed: list[PlacedCall], deliveries: list[Delivery]) -> None:
    started = time.monotonic()
    for number in range(calls):
        placed.append(double.place_call(**WISHES[number % len(WISHES)]))
        deliveries.append(double.notify(placed[-1], dialect=DIALECTS[number % len(DIALECTS)], wait=False))
        time.sleep(max(0.0, started + number / CALLS_PER_SECOND - time.monotonic()))


def _befall(stage: Stage, chance: random.Random, befell: Counter[str], callers: threading.Thread) -> None:
    """Until all calls are placed. In the main thread: a server ends with the thread that started it."""
    what = {
        "kill worker": lambda: stage.kill(chance.choice(stage.workers)),
        "kill workers": stage.kill_workers,
        "kill web": lambda: stage.kill("web"),
        "kill beat": lambda: stage.kill("beat"),
        "flush Redis": stage.flush_redis,
        "restart Redis": stage.restart_redis,
        "empty Redis": lambda: stage.restart_redis(empty=True),
        "restart database": stage.restart_database,
    }
    weights = (2, 1, 2, 1, 3, 2, 1, 1)
    while callers.is_alive():
        callers.join(chance.uniform(0.5, 1.5))
        [name] = chance.choices(list(what), weights)
        what[name]()
        befell[name] += 1


def _report(stage: Stage, placed: list[PlacedCall], *, unclear: int, befell: Counter[str], started: float) -> Report:
    world = stage.world
    due, written = Counter(notes_due(placed)), Counter(notes_written(world))
    lost_attempts = world.scalar("SELECT count(*) FROM attempts WHERE kind = 'follow_up' AND outcome = 'lease_lost'")
    looks = len(world.double.truth.requests(kind="list_notes"))
    return Report(
        calls=len(placed),
        lost=len({call.call_id for call in placed} - stage.complete()),
        notes_due=due.total(),
        notes_missing=(due - written).total(),
        notes_too_many=(written - due).total(),
        untrue=sum(not stage.tells_the_log(call) for call in placed),
        unclear=unclear + lost_attempts,
        looks=looks,
        most_looks_per_unclear=looks / max(1, unclear + lost_attempts),
        befell=befell,
        seconds=time.monotonic() - started,
    )
