"""The request budget of each account, shared by every process of the deployment: who may ask Leadway, and when.

One Lua script in Redis per request reserves a slot, smoothly paced: exact-window counters admit bursts that jitter
pushes over the limit. What a lane may wait is its rank: background work only takes a slot that is nearly free, so it
never queues long before a live call.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import redis
import structlog

from models.work.work_rows import Lane
from workers.leadway.errors import ErrorKind, RetryableLeadwayError, throttle_wait
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

SHARE_USED = 0.98
"""Of what is allowed. 100 per 10 s are then 0.102 s apart: two requests have to be moved by 0.2 s against each other,
by threads and networks, before 101 arrive within 10 s."""
ACCEPTED_WAIT_SECONDS = {
    Lane.LIVE: 1.5,
    Lane.FOLLOW_UP: 1.5,
    Lane.RETRY: 1.2,
    Lane.RECONCILED: 0.9,
    Lane.BACKFILLED: 0.8,
}
"""A live call finds at most so much background work before it."""
UNDER_WAY_SECONDS = {Lane.LIVE: 12.0, Lane.FOLLOW_UP: 12.0}
UNDER_WAY_IN_BACKGROUND = 1.5
SHARE_OF_THE_DAY = {
    Lane.LIVE: 1.0,
    Lane.FOLLOW_UP: 1.0,
    Lane.RETRY: 0.98,
    Lane.RECONCILED: 0.9,
    Lane.BACKFILLED: 0.8,
}
LONGEST_WAIT_FOR_THE_DAY = 3600.0
"""Seconds: so that a raised budget is noticed before midnight."""
SLOWER_AFTER_429 = 1.25
SLOWEST = 4.0
FADES_IN_SECONDS = 300.0
"""A slowing by a 429 becomes less all the time, and is gone after so long: an unknown lower limit is met now and then
from below, not with each request."""
TOLD_LASTS_SECONDS = 60.0
"""How long a lower X-RateLimit-Max is believed when no answer repeats it."""
TOLD_AGAIN_SECONDS = 15.0
SECONDS_PER_REQUEST_ALONE = 0.5
"""The pace of one process that cannot ask Redis."""
REDIS_REST_SECONDS = 1.0

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Allowance:
    """What Leadway grants an account."""

    per_10_seconds: int = 100
    burst: int = 1
    """Requests that may go out at once after a rest."""
    per_day: int = 200_000

    @property
    def spacing(self) -> float:
        """Seconds between requests; a burst and what follows it within 10 s are together no more than allowed."""
        return 10 / max(SHARE_USED * self.per_10_seconds - (self.burst - 1), 0.1)


@dataclass
class _Known:
    """What this process knows of one account without asking Redis. Times are monotonic seconds."""

    reserved_until: float = 0.0
    open_until: float = 0.0
    alone_next: float = 0.0
    used_today: int = 0
    told: float = 0.0
    told_at: float = 0.0


class Budget:
    """The limiter of one process; the account's state is in Redis, so all processes draw from the same."""

    def __init__(self, client: "redis.Redis") -> None:
        self._reserve = client.register_script((_HERE / "budget.lua").read_text())
        self._heed = client.register_script((_HERE / "budget_heed.lua").read_text())
        self._known: dict[str, _Known] = {}
        self._alone_until = 0.0
        self._is_exclusive = False
        self._lock = threading.Lock()

    def acquire(
        self, location_id: str, allowance: Allowance, *, lane: Lane, deadline: float, under_way: bool = False
    ) -> None:
        """Waits for a slot, at most as long as the lane accepts and the attempt has left.

        under_way: the attempt has made requests already. Giving up now would waste them, so it waits longer.

        Raises RetryableLeadwayError (kind budget, with the wait): nothing was taken.
        """
        left = deadline - time.monotonic()
        longest = UNDER_WAY_SECONDS.get(lane, UNDER_WAY_IN_BACKGROUND) if under_way else ACCEPTED_WAIT_SECONDS[lane]
        accepted = max(0.0, min(longest, (0.6 if under_way else 0.5) * left))
        known = self._of(location_id)
        granted, wait, why = self._ask(location_id, allowance, lane, accepted, known)
        if granted and wait > 0:
            time.sleep(wait)
            held = known.open_until - time.monotonic()
            if held > 0:  # a 429 came meanwhile
                granted, wait, why = False, held, "held"
        if not granted:
            metrics.BUDGET_REFUSALS.labels(lane.name.lower(), why).inc()
            raise RetryableLeadwayError(ErrorKind.BUDGET, retry_after=wait, endpoint=f"budget ({why})", reached=False)
        metrics.BUDGET_WAIT_SECONDS.observe(wait)

    def heed(self, location_id: str, allowance: Allowance, headers: Mapping[str, str], *, throttled: bool) -> None:
        """Believes an answer's X-RateLimit headers where they say less than we assume, and any 429."""
        known = self._of(location_id)
        told = _read(headers, allowance, known)
        hold = throttle_wait(headers) if throttled else 0.0
        if told.is_nothing_new and not throttled:
            return
        if throttled:
            known.open_until = max(known.open_until, time.monotonic() + hold)
        try:
            self._heed(
                keys=[_key(location_id)],
                args=[
                    hold, SLOWER_AFTER_429 if throttled else 1.0, SLOWEST, FADES_IN_SECONDS, told.spacing,
                    TOLD_LASTS_SECONDS, told.used, told.per_day, 0.0 if throttled else told.put_off,
                ],
            )  # fmt: skip
        except redis.RedisError:
            return  # this process knows, and while Redis is away it has its own slow pace
        if told.spacing:
            known.told, known.told_at = told.spacing, time.monotonic()

    def _of(self, location_id: str) -> _Known:
        return self._known.setdefault(location_id, _Known())

    def _ask(
        self, location_id: str, allowance: Allowance, lane: Lane, accepted: float, known: _Known
    ) -> tuple[bool, float, str]:
        before = time.monotonic()
        if before >= self._alone_until:
            ahead = max(0.0, known.reserved_until - before)
            try:
                granted, wait, why, reserved, used = self._reserve(
                    keys=[_key(location_id)],
                    args=[
                        allowance.spacing, allowance.burst, accepted, allowance.per_day, SHARE_OF_THE_DAY[lane],
                        FADES_IN_SECONDS, ahead,
                    ],
                )  # fmt: skip
            except redis.RedisError as error:
                self._stand_alone(error)
            else:
                self._stand_together()
                known.used_today = int(used)
                if granted:
                    known.reserved_until = before + float(reserved)
                reason = why.decode()
                return bool(granted), _wait(float(wait), reason), reason
        return self._ask_alone(allowance, accepted, known)

    def _ask_alone(self, allowance: Allowance, accepted: float, known: _Known) -> tuple[bool, float, str]:
        """Without Redis nobody knows what the others do: a pace at which a few processes stay below the limit."""
        with self._lock:
            now = time.monotonic()
            start = max(now, known.alone_next, known.open_until)
            if start - now > accepted:
                return False, start - now, "alone"
            known.alone_next = start + max(SECONDS_PER_REQUEST_ALONE, 4 * allowance.spacing)
            return True, start - now, "alone"

    def _stand_alone(self, error: redis.RedisError) -> None:
        self._alone_until = time.monotonic() + REDIS_REST_SECONDS
        if not self._is_exclusive:
            log.warning("budget_kept_alone", error=type(error).__name__)
        self._is_exclusive = True

    def _stand_together(self) -> None:
        if self._is_exclusive:
            log.info("budget_shared_again")
        self._is_exclusive = False


@dataclass(frozen=True)
class _Told:
    """What headers say, as far as it is less than we assume and not passed on yet."""

    spacing: float
    """Seconds between requests, 0: nothing to pass on."""
    used: int
    """Requests used today, -1: nothing to pass on."""
    per_day: int
    put_off: float
    """Seconds: the window is full, so the next request had better wait a little more."""

    @property
    def is_nothing_new(self) -> bool:
        return not self.spacing and self.used < 0 and not self.put_off


def _read(headers: Mapping[str, str], allowance: Allowance, known: _Known) -> _Told:
    most, remaining = _number(headers, "X-RateLimit-Max"), _number(headers, "X-RateLimit-Remaining")
    interval = (_number(headers, "X-RateLimit-Interval-Milliseconds") or 10_000) / 1000
    spacing = interval / (SHARE_USED * most) if most else 0.0
    fresh = known.told == spacing and time.monotonic() - known.told_at < TOLD_AGAIN_SECONDS
    if spacing < 1.01 * allowance.spacing or fresh:
        spacing = 0.0
    per_day = int(min(_number(headers, "X-RateLimit-Limit-Daily") or allowance.per_day, allowance.per_day))
    left = _number(headers, "X-RateLimit-Daily-Remaining")
    used = -1 if left is None else max(0, per_day - int(left))
    if used < known.used_today + max(10, per_day // 200) and per_day == allowance.per_day:
        used = -1
    return _Told(spacing, used, per_day, allowance.spacing if remaining == 0 else 0.0)


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
