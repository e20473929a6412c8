"""The request budget of each account, shared by every process of the deployment: who may ask Leadway, and when.

One Lua script in Redis per request reserves a slot, smoothly paced: exact-window counters admit bursts that jitter
pushes over the limit. What a lane may wait is its rank: background work only takes a slot that is nearly free, so it
never queues before a live call.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import redis
import structlog

from models.attempts import Lane
from workers.leadway.errors import ErrorKind, RetryableLeadwayError, throttle_wait

log = structlog.get_logger(__name__)

SHARE_USED = 0.99
"""Of what Leadway allows (100 per 10 s): with no burst there are then never more than 100 in any 10 s."""
REQUESTS_PER_DAY = 200_000
ACCEPTED_WAIT_SECONDS = {
    Lane.LIVE: 1.0,
    Lane.FOLLOW_UP: 1.0,
    Lane.RETRY: 0.6,
    Lane.RECONCILED: 0.3,
    Lane.BACKFILLED: 0.15,
}
SHARE_OF_THE_DAY = {
    Lane.LIVE: 1.0,
    Lane.FOLLOW_UP: 1.0,
    Lane.RETRY: 0.98,
    Lane.RECONCILED: 0.9,
    Lane.BACKFILLED: 0.8,
}
SLOWER_AFTER_429 = 1.25
SLOWER_FOR_SECONDS = 60.0
SECONDS_PER_REQUEST_ALONE = 0.5
"""The pace of one process that cannot ask Redis."""
REDIS_REST_SECONDS = 1.0

_HERE = Path(__file__).parent


class Budget:
    """The limiter of one process; the account's state is in Redis, so all processes draw from the same."""

    def __init__(self, client: "redis.Redis", *, per_10_seconds: int = 100, per_day: int = REQUESTS_PER_DAY) -> None:
        self._spacing = 10 / (SHARE_USED * per_10_seconds)
        self._per_day = per_day
        self._reserve = client.register_script((_HERE / "budget.lua").read_text())
        self._heed = client.register_script((_HERE / "budget_heed.lua").read_text())
        self._alone_next: dict[str, float] = {}
        self._alone_until = 0.0
        self._lock = threading.Lock()

    def acquire(self, location_id: str, *, lane: Lane, deadline: float, under_way: bool = False) -> None:
        """Waits for a slot, at most as long as the lane accepts and the attempt has left.

        under_way: the attempt has made requests already. Giving up now would waste them, so it waits longer.

        Raises RetryableLeadwayError (kind budget, with the wait): nothing was taken.
        """
        left = deadline - time.monotonic()
        accepted = max(0.0, 0.6 * left if under_way else min(left / 2, ACCEPTED_WAIT_SECONDS[lane]))
        granted, wait, why = self._ask(location_id, lane, accepted)
        if not granted:
            raise RetryableLeadwayError(ErrorKind.BUDGET, retry_after=wait, endpoint=f"budget ({why})", reached=False)
        if wait > 0:
            time.sleep(wait)

    def heed(self, location_id: str, headers: Mapping[str, str], *, throttled: bool) -> None:
        """Believes an answer's X-RateLimit headers where they say less than we assume, and any 429."""
        told = _Told.by(headers, spacing=self._spacing, per_day=self._per_day, throttled=throttled)
        if told is None:
            return
        hold = throttle_wait(headers) if throttled else 0.0
        try:
            self._heed(
                keys=[_key(location_id)],
                args=[hold, told.spacing, SLOWER_FOR_SECONDS, told.used, told.factor, self._spacing],
            )
        except redis.RedisError:
            with self._lock:
                self._alone_next[location_id] = time.monotonic() + max(hold, SECONDS_PER_REQUEST_ALONE)

    def _ask(self, location_id: str, lane: Lane, accepted: float) -> tuple[bool, float, str]:
        if time.monotonic() >= self._alone_until:
            try:
                granted, wait, why = self._reserve(
                    keys=[_key(location_id)], args=[self._spacing, accepted, self._per_day * SHARE_OF_THE_DAY[lane]]
                )
            except redis.RedisError as error:
                log.warning("budget_kept_alone", error=type(error).__name__)
                self._alone_until = time.monotonic() + REDIS_REST_SECONDS
            else:
                return bool(granted), float(wait), why.decode()
        return self._ask_alone(location_id, accepted)

    def _ask_alone(self, location_id: str, accepted: float) -> tuple[bool, float, str]:
        with self._lock:
            now = time.monotonic()
            start = max(now, self._alone_next.get(location_id, 0.0))
            if start - now > accepted:
                return False, start - now, "alone"
            self._alone_next[location_id] = start + SECONDS_PER_REQUEST_ALONE
            return True, start - now, "alone"


@dataclass(frozen=True)
class _Told:
    """What headers say against our assumptions."""

    spacing: float
    """Seconds between requests, 0: as assumed."""
    used: float
    """Requests used today, -1: not worth telling."""
    factor: float
    """By how much to slow down."""

    @classmethod
    def by(cls, headers: Mapping[str, str], *, spacing: float, per_day: int, throttled: bool) -> "_Told | None":
        """None when there is nothing to heed, which is nearly always."""
        most, remaining = _number(headers, "X-RateLimit-Max"), _number(headers, "X-RateLimit-Remaining")
        interval = (_number(headers, "X-RateLimit-Interval-Milliseconds") or 10_000) / 1000
        slower = interval / max(most - 1, 0.5) if most and interval / most > spacing * 1.02 else 0.0
        left = _number(headers, "X-RateLimit-Daily-Remaining")
        used = per_day - left if left is not None and left < per_day / 2 else -1.0
        # Our own pace leaves at least one: at zero, somebody else draws from the same allowance.
        factor = SLOWER_AFTER_429 if throttled or remaining == 0 else 1.0
        return None if not slower and used < 0 and factor == 1.0 else cls(slower, used, factor)


def _key(location_id: str) -> str:
    return f"leadway:budget:{location_id}"


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers[name])
    except (KeyError, ValueError):
        return None
