"""Wake-ups: the web process tells one worker that something has become due, and nobody waits for it.

A wake-up is a hint: each worker dispatches every second anyway. So a wake-up that fails is forgotten, and many at once
become one element of a list in Redis. It is no Celery task: the web process would have to import Celery, and Flower
would show more wake-ups than calls (docs/decisions/0095).
"""

import threading
from typing import TYPE_CHECKING

from models.failpoints import failpoint
from workers.process.redis_address import redis_client
from workers.process.ticks import Tick
from workers.telemetry import metrics

if TYPE_CHECKING:
    from redis import Redis

WAKE_UPS = "leadway:wake_ups"
"""The list of one element at most. Any worker that waits for it takes it."""
PAUSE_SECONDS = 0.03
"""Between two wake-ups: bounds what a flood of calls spends on them."""
SEND_SECONDS = 0.25
"""Time-out of each answer of Redis: then the wake-up is forgotten."""
WAIT_SECONDS = 1
"""For a wake-up in one request; bounds how long a worker that stops still takes one."""
LISTEN_SECONDS = WAIT_SECONDS + 2.0
"""Time-out of that request: without an answer the connection is dead, however open it looks."""


class Waker:
    """Sends wake-ups in a thread of its own. The first wake-up starts the thread, so that it runs after any fork."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._client: Redis | None = None
        self._tick = Tick(self.send_wake_up, pause_seconds=PAUSE_SECONDS)

    def wake(self) -> None:
        """Asks for a wake-up and returns at once, whatever Redis does."""
        self._tick.wake()
        self._tick.start()

    def stop(self) -> None:
        self._tick.stop()
        if self._client is not None:
            self._client.close()

    @metrics.WAKE_UP_FAILURES.count_exceptions()
    def send_wake_up(self) -> None:
        """Leaves one wake-up in Redis, whether or not one waits there already. Raises RedisError."""
        failpoint("wake_up_before_send")
        if self._client is None:
            self._client = redis_client(self._redis_url, seconds=SEND_SECONDS)
        with self._client.pipeline() as pipe:
            pipe.lpush(WAKE_UPS, "1")
            pipe.ltrim(WAKE_UPS, 0, 0)
            pipe.execute()


class WakeUpListener:
    """Waits for wake-ups, for a tick of a worker."""

    def __init__(self, redis_url: str, *, woken: threading.Event) -> None:
        self._client = redis_client(redis_url, seconds=LISTEN_SECONDS, connect_seconds=SEND_SECONDS)
        self._woken = woken

    def wait_for_wake_up(self) -> None:
        """Sets the event when a wake-up comes; returns after WAIT_SECONDS without one. Raises RedisError."""
        if self._client.blpop([WAKE_UPS], timeout=WAIT_SECONDS) is not None:
            self._woken.set()
