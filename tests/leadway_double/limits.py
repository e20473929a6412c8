"""Rate limits per location: a sliding window and a day's budget, told in headers, measured for benchmarks."""

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

PEAK_WINDOW_SECONDS = 10.0


@dataclass(frozen=True)
class Limit:
    """`per_window` None: nothing is ever refused. `announced`: what the headers claim, if not the truth."""

    per_window: int | None = 100
    window_seconds: float = 10.0
    per_day: int = 200_000
    announced: int | None = None
    retry_after: float | None = None


@dataclass(frozen=True)
class Verdict:
    admitted: bool
    headers: Mapping[str, str]


@dataclass
class Seen:
    """What one location has sent. `peak` is the largest number of requests seen in any 10 s, refused ones included."""

    requests: int = 0
    refused: int = 0
    peak: int = 0
    today: date | None = None
    day_count: int = 0
    arrivals: deque[float] = field(default_factory=deque)
    admitted: deque[float] = field(default_factory=deque)


class RateLimits:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._default = Limit()
        self._of_location: dict[str, Limit] = {}
        self._seen: dict[str, Seen] = {}

    def set(self, limit: Limit, *, location_id: str | None = None) -> None:
        with self._lock:
            if location_id is None:
                self._default = limit
                self._of_location.clear()
            else:
                self._of_location[location_id] = limit

    def arrive(self, location_id: str, *, today: date) -> Verdict:
        """Counts a request that has just arrived and says whether it is let in."""
        with self._lock:
            now = time.monotonic()
            limit = self._of_location.get(location_id, self._default)
            seen = self._seen.setdefault(location_id, Seen())
            _count(seen, now, today)
            _forget(seen.admitted, now - limit.window_seconds)
            room = limit.per_window is None or len(seen.admitted) < limit.per_window
            admitted = room and (limit.per_window is None or seen.day_count < limit.per_day)
            if admitted:
                seen.admitted.append(now)
                seen.day_count += 1
            else:
                seen.refused += 1
            return Verdict(admitted, _headers(limit, seen, admitted=admitted))

    def seen(self, location_id: str) -> dict[str, int]:
        """`{requests, refused, peak, today}`: counts since the start or the last `reset`."""
        with self._lock:
            seen = self._seen.get(location_id, Seen())
            return {"requests": seen.requests, "refused": seen.refused, "peak": seen.peak, "today": seen.day_count}

    def reset(self) -> None:
        """Forgets the counts and what is in the windows, not the limits."""
        with self._lock:
            self._seen.clear()


def _count(seen: Seen, now: float, today: date) -> None:
    if seen.today != today:
        seen.today, seen.day_count = today, 0
    _forget(seen.arrivals, now - PEAK_WINDOW_SECONDS)
    seen.arrivals.append(now)
    seen.requests += 1
    seen.peak = max(seen.peak, len(seen.arrivals))


def _forget(times: deque[float], before: float) -> None:
    while times and times[0] <= before:
        times.popleft()


def _headers(limit: Limit, seen: Seen, *, admitted: bool) -> dict[str, str]:
    most = limit.announced or limit.per_window or 100
    headers = {
        "X-RateLimit-Limit-Daily": str(limit.per_day),
        "X-RateLimit-Daily-Remaining": str(max(0, limit.per_day - seen.day_count)),
        "X-RateLimit-Daily-Reset": str(_milliseconds_left_today()),
        "X-RateLimit-Interval-Milliseconds": str(int(limit.window_seconds * 1000)),
        "X-RateLimit-Max": str(most),
        "X-RateLimit-Remaining": str(max(0, most - len(seen.admitted))),
    }
    if not admitted and limit.retry_after is not None:
        headers["Retry-After"] = f"{limit.retry_after:g}"
    return headers


def _milliseconds_left_today() -> int:
    now = datetime.now(UTC)
    midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC)
    return int((midnight - now).total_seconds() * 1000)
