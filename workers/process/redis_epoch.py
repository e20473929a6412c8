"""Which Redis this worker enqueues into, as its heartbeat tells it: by the epoch that each dispatch sees there.

Two workers that tell different epochs belong to two deployments. A Redis that has lost its memory has a new epoch too,
and not all workers see that at once: so an epoch is told when it has held for longer than that takes, and only while
it is seen.
"""

import time

from models.work.heartbeats import GONE_AFTER_SECONDS

HOLDS_AFTER_SECONDS = GONE_AFTER_SECONDS
"""By then no live worker tells the epoch before."""
SEEN_WITHIN_SECONDS = 5.0
"""A worker dispatches every second. One that has not seen Redis for so long does not know its epoch any more."""


class RedisEpoch:
    """Written by the thread that dispatches, read by the heart."""

    def __init__(self) -> None:
        self._seen: tuple[str, float, float] | None = None
        """The epoch, since when it is this one, and when it was last seen."""

    def saw(self, epoch: str) -> None:
        at = time.monotonic()
        since = self._seen[1] if self._seen is not None and self._seen[0] == epoch else at
        self._seen = epoch, since, at

    def told(self) -> str | None:
        """None: it is too new, or Redis was not seen lately."""
        if self._seen is None:
            return None
        epoch, since, last = self._seen
        at = time.monotonic()
        return epoch if at - since > HOLDS_AFTER_SECONDS and at - last < SEEN_WITHIN_SECONDS else None
