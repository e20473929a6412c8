"""Writes arrivals down: into the inbox, or into the journal while the database cannot take them in time."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial

import structlog
from sqlalchemy.exc import OperationalError, ProgrammingError, SQLAlchemyError

from models.database import LOOKING, RECEIPTS, Database, KeptConnection
from models.failpoints import failpoint
from models.intake import inbox, quarantine
from models.intake.journal import Journal
from models.intake.notifications import Arrival
from models.settings import Settings
from webhook.group_commit import GroupCommit
from workers.process.wake_up import Waker
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

RECEIPT_LIMIT_SECONDS = 0.9
"""Within it the sender is answered, whatever the database does."""
TRY_AGAIN_SECONDS = 1.0
"""After a failure of the database rows go straight into the journal for so long."""
LOOK_AGAIN_SECONDS = 5.0
"""After a look that was in the way, rows are written without one for so long: a repeat is answered `accepted`."""


class CannotWriteDown(Exception):
    """The row was not written in time."""


class InboxWriter:
    """How one process writes down what it receives."""

    def __init__(self, settings: Settings, *, journal: Journal | None, waker: Waker) -> None:
        self._database = Database(settings.database_url, limits=RECEIPTS)
        self._inbox = KeptConnection(self._database.inbox)
        self._looking = KeptConnection(Database(settings.database_url, limits=LOOKING).inbox)
        self._journal, self._waker = journal, waker
        self._journal_after = settings.leadway_journal_after_seconds
        self.limit_seconds = RECEIPT_LIMIT_SECONDS
        self._failed_until = self._no_look_until = 0.0
        self._into_inbox = GroupCommit(self._put_all, quarantine=self._set_aside, name="inbox writer")
        self._into_journal = GroupCommit(self._put_into_journal, quarantine=_refuse, name="journal writer")

    def write_down(self, arrival: Arrival) -> bool:
        """Returns whether it is a repeat, as far as that can be told. Raises CannotWriteDown within `limit_seconds`."""
        until = time.monotonic() + self.limit_seconds
        if self._journal is None:
            return self._write(self._into_inbox, arrival, until=until)
        if not self._is_away():
            try:
                return self._write(self._into_inbox, arrival, until=time.monotonic() + self._journal_after)
            except CannotWriteDown:
                self._failed_until = time.monotonic() + TRY_AGAIN_SECONDS
        self._write(self._into_journal, arrival, until=until)
        metrics.JOURNALED.inc()
        return False

    def close(self) -> None:
        self._into_inbox.stop()
        self._into_journal.stop()
        self._waker.stop()
        self._inbox.close()
        self._looking.close()
        self._database.close()
        if self._journal is not None:
            self._journal.close()

    @staticmethod
    def _write(writer: GroupCommit, arrival: Arrival, *, until: float) -> bool:
        try:
            return writer.write(arrival, seconds=max(0.0, until - time.monotonic()))
        except (SQLAlchemyError, OSError) as error:  # TimeoutError is an OSError
            log.warning("receipt_not_written", writer=writer.name, error=type(error).__name__)
            raise CannotWriteDown from error

    def _is_away(self) -> bool:
        return time.monotonic() < self._failed_until or self._into_inbox.hangs_for() > self._journal_after

    def _put_all(self, arrivals: Sequence[Arrival]) -> set[str]:
        failpoint("receipt_before_commit")
        repeats = self._put_and_look(arrivals)
        failpoint("receipt_committed")
        self._waker.wake()
        seen: set[str] = set()
        for each in arrivals:
            if each.dedupe_key in seen:
                repeats.add(each.arrival_id)
            seen.add(each.dedupe_key)
        return repeats

    def _put_and_look(self, arrivals: Sequence[Arrival]) -> set[str]:
        if time.monotonic() >= self._no_look_until:
            try:
                return self._looking.run(partial(inbox.put_and_look, arrivals=arrivals))
            except (OperationalError, ProgrammingError):
                self._no_look_until = time.monotonic() + LOOK_AGAIN_SECONDS
        self._inbox.run(partial(inbox.put_all, arrivals=arrivals))
        return set()

    def _put_into_journal(self, arrivals: Sequence[Arrival]) -> set[str]:
        assert self._journal is not None
        self._journal.put_all(arrivals)
        return set()

    def _set_aside(self, arrival: Arrival, error: Exception) -> None:
        kind, raw = type(error).__name__, repr(asdict(arrival)).encode("utf-8", "backslashreplace")
        with self._database.transaction() as connection:
            quarantine.keep(connection, arrival.arrival_id, raw, error=kind)
        log.error("notification_quarantined", arrival_id=arrival.arrival_id, error=kind)


def _refuse(_arrival: Arrival, error: Exception) -> None:
    """What not even a journal can hold is not written down at all."""
    raise error
