"""The request budget of each account, shared by every process of the deployment: who may ask Leadway, and when.

One Lua script in Redis per request reserves an evenly spaced slot. Counters over exact windows would admit bursts that
jitter pushes over the limit. The wait that a lane accepts is its rank: background work takes only a slot that is nearly
free, so it never stands long before a live call.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import redis
import structlog

from models.work.fences import GreatestFence
from models.work.work_rows import Lane
from workers.leadway.errors import ErrorKind, RetryableLeadwayError, throttle_wait
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

SHARE_USED = 0.98
"""Part of the allowance that is used. 100 requests per 10 s give a spacing of 0.102 s. So 101 requests arrive within
10 s only if threads and networks delay the first of them 0.2 s more than the last."""
ACCEPTED_WAIT_SECONDS = {
    Lane.LIVE: 1.5,
    Lane.FOLLOW_UP: 1.5,
    Lane.RETRY: 1.2,
    Lane.RECONCILED: 0.9,
    Lane.BACKFILLED: 0.8,
}
"""The longest wait for a slot, in seconds, at an attempt's first request. The last two lanes accept less than a live
call: they book no slot that is more than 0.9 s ahead, so a live call still finds one within its 1.5 s."""
UNDER_WAY_SECONDS = {Lane.LIVE: 12.0, Lane.FOLLOW_UP: 12.0}
"""The same for an attempt that has made a request already."""
UNDER_WAY_IN_BACKGROUND = 1.5
"""The same for the other lanes."""
SHARE_OF_THE_DAY = {
    Lane.LIVE: 1.0,
    Lane.FOLLOW_UP: 1.0,
    Lane.RETRY: 0.98,
    Lane.RECONCILED: 0.9,
    Lane.BACKFILLED: 0.8,
}
"""Part of the day's requests that a lane may use."""
LONGEST_WAIT_FOR_THE_DAY = 3600.0
"""Seconds. A raised allowance is noticed before midnight."""
SLOWER_AFTER_429 = 1.25
"""A 429 makes the account's requests this many times slower."""
SLOWEST = 4.0
"""Several 429s make them at most this many times slower."""
FADES_IN_SECONDS = 300.0
"""The slowing fades steadily and ends after this: an unknown lower limit is exceeded now and then, not always."""
ADVERTISED_LASTS_SECONDS = 60.0
"""A lower X-RateLimit-Max is believed for this long when no answer repeats it."""
ADVERTISE_AGAIN_SECONDS = 15.0
"""A limit that Redis knows already is passed on again after this."""
LOCAL_SECONDS_PER_REQUEST = 0.5
"""The pace of one process that cannot reach Redis."""
REDIS_RETRY_SECONDS = 1.0
"""Pause before Redis is asked again after it failed."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Allowance:
    """What Leadway allows an account."""

    per_10_seconds: int = 100
    burst: int = 1
    """Requests that may go out at once after a quiet time."""
    per_day: int = 200_000

    @property
    def spacing(self) -> float:
        """Seconds between requests, so that a burst and the 10 s after it hold no more requests than allowed."""
        return 10 / max(SHARE_USED * self.per_10_seconds - (self.burst - 1), 0.1)


@dataclass
class _Known:
    """What this process knows of one account without Redis. Times are monotonic seconds."""

    reserved_until: float = 0.0
    open_until: float = 0.0
    local_next: float = 0.0
    """Start of the next slot while Redis is away."""
    used_today: int = 0
    advertised: float = 0.0
    """Seconds between requests, from the limit that was last passed on to Redis."""
    advertised_at: float = 0.0


class Budget:
    """The limiter of one process. The accounts' state is in Redis, so that all processes draw from one allowance."""

    def __init__(self, client: "redis.Redis", greatest_fence: GreatestFence) -> None:
        """`greatest_fence`: is carried into Redis with each request (workers/process/life_watch.py)."""
        self._greatest_fence = greatest_fence
        self._reserve = client.register_script((_HERE / "budget.lua").read_text())
        self._heed = client.register_script((_HERE / "budget_heed.lua").read_text())
        self._known: dict[str, _Known] = {}
        self._local_until = 0.0
        self._is_local = False
        self._lock = threading.Lock()

    def acquire(
        self, location_id: str, allowance: Allowance, *, lane: Lane, deadline: float, under_way: bool = False
    ) -> None:
        """Waits for a slot, at most as long as the lane accepts and `deadline` (monotonic seconds) leaves.

        `under_way`: the attempt has made requests already. A refusal would waste those, so it waits longer.

        Raises RetryableLeadwayError (kind budget, with the wait in `retry_after`); then no slot was taken.
        """
        left = deadline - time.monotonic()
        longest = UNDER_WAY_SECONDS.get(lane, UNDER_WAY_IN_BACKGROUND) if under_way else ACCEPTED_WAIT_SECONDS[lane]
        accepted = max(0.0, min(longest, (0.6 if under_way else 0.5) * left))
        known = self._of(location_id)
        granted, wait, why = self._ask(location_id, allowance, lane, accepted, known)
        if granted and wait > 0:
            time.sleep(wait)
            left = known.open_until - time.monotonic()
            if left > 0:  # a 429 came meanwhile
                granted, wait, why = False, left, "throttled"
        if not granted:
            metrics.BUDGET_REFUSALS.labels(lane.name.lower(), why).inc()
            raise RetryableLeadwayError(ErrorKind.BUDGET, retry_after=wait, endpoint=f"budget ({why})", reached=False)
        metrics.BUDGET_WAIT_SECONDS.observe(wait)

    def heed(self, location_id: str, allowance: Allowance, headers: Mapping[str, str], *, throttled: bool) -> None:
        """Takes over what an answer says: X-RateLimit headers where they allow less than is assumed, and any 429."""
        known = self._of(location_id)
        advertised = _read(headers, allowance, known)
        wait = throttle_wait(headers) if throttled else 0.0
        if advertised.is_known and not throttled:
            return
        if throttled:
            known.open_until = max(known.open_until, time.monotonic() + wait)
        try:
            self._heed(
                keys=[_key(location_id)],
                args=[
                    wait, SLOWER_AFTER_429 if throttled else 1.0, SLOWEST, FADES_IN_SECONDS, advertised.spacing,
                    ADVERTISED_LASTS_SECONDS, advertised.used, advertised.per_day,
                    0.0 if throttled else advertised.extra_wait,
                ],
            )  # fmt: skip
        except redis.RedisError:
            return  # `known` has it, and while Redis is away this process keeps to its own slow pace
        if advertised.spacing:
            known.advertised, known.advertised_at = advertised.spacing, time.monotonic()

    def _of(self, location_id: str) -> _Known:
        return self._known.setdefault(location_id, _Known())

    def _ask(
        self, location_id: str, allowance: Allowance, lane: Lane, accepted: float, known: _Known
    ) -> tuple[bool, float, str]:
        before = time.monotonic()
        if before >= self._local_until:
            ahead = max(0.0, known.reserved_until - before)
            try:
                granted, wait, why, reserved, used = self._reserve(
                    keys=[_key(location_id), self._greatest_fence.redis_key],
                    args=[
                        allowance.spacing, allowance.burst, accepted, allowance.per_day, SHARE_OF_THE_DAY[lane],
                        FADES_IN_SECONDS, ahead, self._greatest_fence.number,
                    ],
                )  # fmt: skip
            except redis.RedisError as error:
                self._became_local(error)
            else:
                self._became_shared()
                known.used_today = int(used)
                if granted:
                    known.reserved_until = before + float(reserved)
                reason = why.decode()
                return bool(granted), _wait(float(wait), reason), reason
        return self._ask_locally(allowance, accepted, known)

    def _ask_locally(self, allowance: Allowance, accepted: float, known: _Known) -> tuple[bool, float, str]:
        """Without Redis no process knows what the others do: each keeps a pace at which a few stay below the limit."""
        with self._lock:
            now = time.monotonic()
            start = max(now, known.local_next, known.open_until)
            if start - now > accepted:
                return False, start - now, "local"
            known.local_next = start + max(LOCAL_SECONDS_PER_REQUEST, 4 * allowance.spacing)
            return True, start - now, "local"

    def _became_local(self, error: redis.RedisError) -> None:
        self._local_until = time.monotonic() + REDIS_RETRY_SECONDS
        if not self._is_local:
            log.warning("budget_became_local", error=type(error).__name__)
        self._is_local = True

    def _became_shared(self) -> None:
        if self._is_local:
            log.info("budget_became_shared")
        self._is_local = False


@dataclass(frozen=True)
class _Advertised:
    """What an answer's headers say, where it is less than is assumed and Redis does not know it yet."""

    spacing: float
    """Seconds between requests; 0: nothing to pass on."""
    used: int
    """Requests used today; -1: nothing to pass on."""
    per_day: int
    extra_wait: float
    """Seconds that the next request waits longer, because the window is full."""

    @property
    def is_known(self) -> bool:
        return not self.spacing and self.used < 0 and not self.extra_wait


def _read(headers: Mapping[str, str], allowance: Allowance, known: _Known) -> _Advertised:
    most, remaining = _number(headers, "X-RateLimit-Max"), _number(headers, "X-RateLimit-Remaining")
    interval = (_number(headers, "X-RateLimit-Interval-Milliseconds") or 10_000) / 1000
    spacing = interval / (SHARE_USED * most) if most else 0.0
    fresh = known.advertised == spacing and time.monotonic() - known.advertised_at < ADVERTISE_AGAIN_SECONDS
    if spacing < 1.01 * allowance.spacing or fresh:
        spacing = 0.0
    per_day = int(min(_number(headers, "X-RateLimit-Limit-Daily") or allowance.per_day, allowance.per_day))
    left = _number(headers, "X-RateLimit-Daily-Remaining")
    used = -1 if left is None else max(0, per_day - int(left))
    if used < known.used_today + max(10, per_day // 200) and per_day == allowance.per_day:
        used = -1
    return _Advertised(spacing, used, per_day, allowance.spacing if remaining == 0 else 0.0)


def _wait(seconds: float, why: str) -> float:
    return min(seconds, LONGEST_WAIT_FOR_THE_DAY) if why == "day" else seconds


def _key(location_id: str) -> str:
    return f"leadway:budget:{location_id}"


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        number = float(headers[name])
    except (KeyError, ValueError):
        return None
    return number if 0 <= number < 1e12 else None
