"""A counted, redacted trace of what was refused, for whoever sets up the webhook: written aside, never waited for.

Anybody on the internet can cause refusals, so they are counted in memory and written at most once a second, one row
per reason and hour.
"""

import threading
from collections import Counter
from datetime import UTC, datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from models.calls.redaction import storable_text
from models.database import Database
from models.intake import rejection_counts
from webhook.authentication import ED25519_HEADER, INTAKE_HEADER, RSA_HEADER, Headers
from webhook.rejections import Reason

log = structlog.get_logger(__name__)

WRITE_SECONDS = 1.0


class RejectionCounter:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._counted: Counter[Reason] = Counter()
        self._traces: dict[Reason, dict[str, object]] = {}
        self._timer: threading.Timer | None = None

    def count(self, reason: Reason, *, headers: Headers, size: int | None) -> None:
        """Keeps which credentials were there, never what they said."""
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
        """Writes what was counted. If the database is away it is dropped: the metrics have counted it too."""
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
        """Only after the last write has ended: one that hangs keeps one thread and one connection, not all of them."""
        with self._lock:
            self._timer = self._started_timer() if self._counted else None

    def _started_timer(self) -> threading.Timer:
        timer = threading.Timer(WRITE_SECONDS, self.write)
        timer.daemon = True
        timer.start()
        return timer
