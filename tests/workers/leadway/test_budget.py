"""Who may ask Leadway, and when: one budget per account, for all processes, in a real Redis."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from models.work.fences import GreatestFence
from models.work.work_rows import Lane
from tests.support.services import EmbeddedRedis
from workers.leadway import budget as module
from workers.leadway.budget import Allowance, Budget
from workers.leadway.errors import ErrorKind, RetryableLeadwayError
from workers.local.embedded_redis import free_port

A, B = "loc_a", "loc_b"
QUICK = Allowance(per_10_seconds=1000)
"""A slot about every 10 ms."""
SLOW = Allowance(per_10_seconds=20)
"""A slot about every 0.5 s: far more than what a busy machine adds."""
NEARLY = 0.25


@pytest.fixture
def client(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as opened:
        yield opened


def budget_of(client: "redis.Redis") -> Budget:
    """Of a process that has claimed nothing yet."""
    return Budget(client, GreatestFence())


@pytest.fixture
def budget(client: "redis.Redis") -> Budget:
    return budget_of(client)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What is waited for is told, and not waited for: reservations are made one after the other anyway."""
    waits: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    return waits


def ask(
    budget: Budget, location_id: str = A, *, lane: Lane = Lane.LIVE, left: float = 30.0, under_way: bool = False,
    allowance: Allowance = QUICK,
) -> None:  # fmt: skip
    budget.acquire(location_id, allowance, lane=lane, deadline=time.monotonic() + left, under_way=under_way)


def refusal(ask_for: Callable[[], None]) -> RetryableLeadwayError:
    with pytest.raises(RetryableLeadwayError) as raised:
        ask_for()
    assert raised.value.kind is ErrorKind.BUDGET
    assert raised.value.reached is False
    return raised.value


def waits_for_each(budget: Budget, slept: list[float], number: int, **how: Any) -> list[float]:
    slept.clear()
    for _ in range(number):
        ask(budget, **how)
    return list(slept)


def test_a_hundred_in_ten_seconds_are_never_exceeded_and_ninety_seven_are_reached() -> None:
    allowance = Allowance(per_10_seconds=100)
    assert 100 * allowance.spacing >= 10.2, "101 requests span so much, though two of them be moved by 0.2 s"
    assert 10 / allowance.spacing >= 97.0


def test_slots_are_evenly_spaced_and_the_first_is_free(budget: Budget, slept: list[float]) -> None:
    waits = waits_for_each(budget, slept, 20)
    assert len(waits) == 19
    steps = [later - earlier for earlier, later in pairwise(waits)]
    assert all(step <= QUICK.spacing + 1e-6 for step in steps), "what passed meanwhile is taken off the wait"


def test_many_threads_of_two_processes_draw_from_one_budget(client: "redis.Redis") -> None:
    both, sent, lock = (budget_of(client), budget_of(client)), [], threading.Lock()
    began = time.monotonic()

    def work(number: int) -> None:
        for _ in range(5):
            ask(both[number % 2])
            with lock:
                sent.append(time.monotonic())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(sent) == 40
    assert max(sent) - began >= 39 * QUICK.spacing, "40 slots take this long, whoever asks"


def test_accounts_have_each_their_own(budget: Budget, slept: list[float]) -> None:
    waits_for_each(budget, slept, 20)
    slept.clear()
    ask(budget, B)
    assert slept == []


def test_a_wait_longer_than_accepted_is_told_and_takes_nothing(budget: Budget, slept: list[float]) -> None:
    slow = Allowance(per_10_seconds=1)
    ask(budget, allowance=slow)
    told = [refusal(lambda: ask(budget, allowance=slow)).retry_after or 0.0 for _ in range(3)]
    assert all(1.5 < each <= slow.spacing for each in told), "three refusals later the slot is still there"
    assert slept == []


def test_nobody_waits_longer_than_half_of_what_the_attempt_has_left(budget: Budget, slept: list[float]) -> None:
    allowance = Allowance(per_10_seconds=10)
    ask(budget, allowance=allowance)
    refusal(lambda: ask(budget, allowance=allowance, left=1.0))
    ask(budget, allowance=allowance, left=10.0)


def test_an_attempt_under_way_waits_longer_than_a_new_one(budget: Budget, slept: list[float]) -> None:
    slow = Allowance(per_10_seconds=5)
    ask(budget, allowance=slow)
    refusal(lambda: ask(budget, allowance=slow, left=20))
    ask(budget, allowance=slow, left=20, under_way=True)
    assert slept == [pytest.approx(slow.spacing, abs=NEARLY)]


def test_background_work_queues_so_shortly_that_a_live_call_waits_less_than_two_seconds(
    budget: Budget, slept: list[float]
) -> None:
    usual = Allowance()
    for lane in (Lane.BACKFILLED, Lane.RECONCILED, Lane.RETRY):
        for under_way in (False, True):
            for _ in range(40):
                try:
                    ask(budget, lane=lane, allowance=usual, under_way=under_way)
                except RetryableLeadwayError:
                    break
    slept.clear()
    ask(budget, allowance=usual, under_way=True)
    assert max(slept) < 2.0
    refusal(lambda: ask(budget, lane=Lane.BACKFILLED, allowance=usual))


def test_background_work_cannot_use_up_the_day(budget: Budget, slept: list[float]) -> None:
    day = Allowance(per_10_seconds=100_000, per_day=20)
    waits_for_each(budget, slept, 16, lane=Lane.BACKFILLED, allowance=day)
    assert "day" in str(refusal(lambda: ask(budget, lane=Lane.BACKFILLED, allowance=day)))
    waits_for_each(budget, slept, 2, lane=Lane.RECONCILED, allowance=day)
    refusal(lambda: ask(budget, lane=Lane.RECONCILED, allowance=day))
    waits_for_each(budget, slept, 2, lane=Lane.FOLLOW_UP, allowance=day)
    told = refusal(lambda: ask(budget, lane=Lane.LIVE, allowance=day)).retry_after or 0.0
    assert 0 < told <= 3600, "a raised budget is noticed within the hour"
    ask(budget, lane=Lane.BACKFILLED, allowance=Allowance(per_10_seconds=100_000, per_day=200))


def test_a_burst_goes_out_at_once_and_is_paid_for_by_the_pace(budget: Budget, slept: list[float]) -> None:
    bursty = Allowance(per_10_seconds=20, burst=10)
    assert waits_for_each(budget, slept, 10, allowance=bursty) == []
    ask(budget, allowance=bursty)
    assert slept == [pytest.approx(bursty.spacing, abs=NEARLY)]
    assert bursty.burst + 10 / bursty.spacing <= 21


# What answers say


def test_a_429_holds_every_process_for_what_it_asks(client: "redis.Redis", slept: list[float]) -> None:
    one, other = budget_of(client), budget_of(client)
    one.heed(A, QUICK, {"Retry-After": "7"}, throttled=True)
    for each in (one, other):
        told = refusal(lambda each=each: ask(each))  # type: ignore[misc]
        assert 6 < (told.retry_after or 0) <= 7
        assert "throttled" in str(told)
    ask(one, B)


def test_a_429_that_says_nothing_holds_for_the_interval(budget: Budget, slept: list[float]) -> None:
    budget.heed(A, QUICK, {}, throttled=True)
    assert 9 < (refusal(lambda: ask(budget)).retry_after or 0) <= 10


def test_a_request_that_waited_for_its_slot_is_not_sent_into_a_429(
    budget: Budget, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Allowance(per_10_seconds=10)
    ask(budget, allowance=slow)
    monkeypatch.setattr(
        module.time, "sleep", lambda _seconds: budget.heed(A, slow, {"Retry-After": "3"}, throttled=True)
    )
    assert 2 < (refusal(lambda: ask(budget, allowance=slow)).retry_after or 0) <= 3


def test_of_several_429_at_once_one_slows_down(client: "redis.Redis", slept: list[float]) -> None:
    budget = budget_of(client)
    for _ in range(8):
        budget.heed(A, QUICK, {"Retry-After": "1"}, throttled=True)
    assert float(client.hget(f"leadway:budget:{A}", "slow") or 0) == module.SLOWER_AFTER_429


def test_what_a_429_slows_down_fades_away(client: "redis.Redis", slept: list[float]) -> None:
    seconds, _ = client.time()
    for left in (300, 150, 0):
        client.delete(f"leadway:budget:{A}")
        client.hset(f"leadway:budget:{A}", mapping={"slow": 3, "slow_until": seconds + left + 1})
        waits_for_each(budget := budget_of(client), [], 1, allowance=SLOW)
        ask(budget, allowance=SLOW, under_way=True)
    assert slept == [pytest.approx(each * SLOW.spacing, abs=NEARLY) for each in (3, 2, 1)]


def test_a_lower_limit_in_the_headers_is_kept_for_every_process(client: "redis.Redis", slept: list[float]) -> None:
    budget_of(client).heed(A, Allowance(), {"X-RateLimit-Max": "20"}, throttled=False)
    other = budget_of(client)
    for _ in range(2):
        ask(other, allowance=Allowance())
    assert slept == [pytest.approx(SLOW.spacing, abs=NEARLY)]
    assert client.hget(f"leadway:budget:{A}", "advertised_until") is not None


def test_headers_that_say_more_or_the_same_change_nothing(client: "redis.Redis", budget: Budget) -> None:
    for most in ("100", "1000", "nonsense", "-3", "inf"):
        budget.heed(A, Allowance(), {"X-RateLimit-Max": most, "X-RateLimit-Remaining": "50"}, throttled=False)
    assert client.exists(f"leadway:budget:{A}") == 0


def test_a_full_window_puts_the_next_request_off_by_one_step_only(budget: Budget, slept: list[float]) -> None:
    ask(budget, allowance=SLOW)
    budget.heed(A, SLOW, {"X-RateLimit-Remaining": "0"}, throttled=False)
    for _ in range(2):
        ask(budget, allowance=SLOW, under_way=True)
    assert slept == [pytest.approx(each * SLOW.spacing, abs=NEARLY) for each in (2, 3)]


def test_what_others_used_of_the_day_is_believed(budget: Budget, slept: list[float]) -> None:
    headers = {"X-RateLimit-Limit-Daily": "200000", "X-RateLimit-Daily-Remaining": "30000"}
    ask(budget)
    budget.heed(A, QUICK, headers, throttled=False)
    assert "day" in str(refusal(lambda: ask(budget, lane=Lane.BACKFILLED)))
    ask(budget)


def test_a_smaller_day_than_assumed_is_believed(budget: Budget, slept: list[float]) -> None:
    headers = {"X-RateLimit-Limit-Daily": "1000", "X-RateLimit-Daily-Remaining": "150"}
    budget.heed(A, QUICK, headers, throttled=False)
    refusal(lambda: ask(budget, lane=Lane.BACKFILLED))
    ask(budget, lane=Lane.RECONCILED)


# Redis


def test_a_redis_that_lost_its_memory_gives_no_slot_twice(client: "redis.Redis", slept: list[float]) -> None:
    budget = budget_of(client)
    waits_for_each(budget, slept, 8, allowance=SLOW, under_way=True)
    last = slept[-1]
    client.flushall()
    slept.clear()
    ask(budget, allowance=SLOW, under_way=True)
    assert slept == [pytest.approx(last + SLOW.spacing, abs=NEARLY)]


def test_a_clock_that_was_set_back_stops_nobody(client: "redis.Redis", slept: list[float]) -> None:
    seconds, _ = client.time()
    client.hset(f"leadway:budget:{A}", "next_at", seconds + 7200)
    ask(budget_of(client))


def test_without_redis_one_process_keeps_a_slow_pace_and_never_asks_in_a_row(slept: list[float]) -> None:
    budget = budget_of(_redis_at(free_port()))
    waits = waits_for_each(budget, slept, 3, allowance=Allowance(), under_way=True)
    assert waits == [pytest.approx(0.5 * n, abs=NEARLY) for n in (1, 2)]
    told = refusal(lambda: ask(budget, allowance=Allowance(), lane=Lane.BACKFILLED))
    assert "local" in str(told)


def test_without_redis_a_429_holds_too(slept: list[float]) -> None:
    budget = budget_of(_redis_at(free_port()))
    budget.heed(A, QUICK, {"Retry-After": "9"}, throttled=True)
    assert 8 < (refusal(lambda: ask(budget)).retry_after or 0) <= 9


def test_a_redis_that_comes_back_is_asked_again(
    tmp_path: Any, slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REDIS_RETRY_SECONDS", 0.0)
    with EmbeddedRedis(tmp_path) as server:
        client = redis.Redis.from_url(server.url)
        budget = budget_of(client)
        ask(budget)
        server.stop()
        ask(budget)
        ask(budget)
        assert slept.pop() == pytest.approx(0.5, abs=NEARLY)
        server.start()
        ask(budget)
        assert float(client.hget(f"leadway:budget:{A}", "next_at") or 0) > 0


def _redis_at(port: int) -> "redis.Redis":
    return redis.Redis(
        host="127.0.0.1", port=port, socket_connect_timeout=0.2, socket_timeout=0.2, retry=Retry(NoBackoff(), 0)
    )
