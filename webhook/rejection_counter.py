"""Counts rejections and keeps a redacted trace of the last one, for the setup page; a thread of its own writes them.

Anybody on the internet can cause rejections. So they are counted in memory and written at most once per WRITE_SECONDS,
one row per reason and hour.
"""

import threading
from collections import Counter
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from models.calls.redaction import storable_text
from models.database import Database
from models.intake import rejection_counts
from models.intake.reasons import Reason
from webhook.authentication import ED25519_HEADER, INTAKE_HEADER, RSA_HEADER, Headers

log = structlog.get_logger(__name__)

WRITE_SECONDS = 1.0


class RejectionCounter:
    """The rejections of one process since its last write. Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._counted: Counter[Reason] = Counter()
        self._traces: dict[Reason, dict[str, object]] = {}
        self._timer: threading.Timer | None = None

    def count(self, reason: Reason, *, headers: Headers, size: int | None) -> None:
        """Counts a rejection. `size` is in bytes. The trace names the credentials' headers, never their values."""
        trace: dict[str, object] = {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "bytes": size,
            "content_type": storable_text(headers.get("Content-Type") or "")[:80],
            "credentials": [name for name in (ED25519_HEADER, RSA_HEADER, INTAKE_HEADER) if headers.get(name)],
        }
        with self._lock:
            self._counted[reason] += 1
            self._traces[reason] = trace
            if self._timer is None:
                self._timer = self._started_timer()

    def write(self) -> None:
        """Writes the counts. Drops them if the database is away: the metrics have them too."""
        with self._lock:
            counted, traces = self._counted, self._traces
            self._counted, self._traces = Counter(), {}
        try:
            with self._database.transaction() as connection:
                for reason, number in counted.items():
                    rejection_counts.count(connection, reason, number=number, trace=traces[reason])
        except SQLAlchemyError as error:
            log.warning("rejection_counts_not_written", error=type(error).__name__, number=counted.total())
        finally:
            self._next_time()

    def stop(self) -> None:
        """Writes nothing more; returns when a write that is under way has ended."""
        with self._lock:
            timer = self._timer
            self._counted.clear()
        if timer is not None:
            timer.cancel()
            timer.join()

    def _next_time(self) -> None:
        """Starts a timer only after the last write ended, so a hanging write occupies one thread and one connection."""
        with self._lock:
            self._timer = self._started_timer() if self._counted else None

    def _started_timer(self) -> threading.Timer:
        timer = threading.Timer(WRITE_SECONDS, self.write)
        timer.daemon = True
        timer.start()
        return timer
