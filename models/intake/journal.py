"""The journal: arrivals that the database could not take in time, in SQLite files of this host until it can.

Each web process has a file of its own in the folder, with the inbox's table in it. Every process of the host may empty
every file: a row is written into the inbox once by its arrival id, then deleted here (docs/decisions/0091). On SQLite
there is no journal: the inbox is such a file itself.
"""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import SQLAlchemyError, StatementError

from models.database import RECEIPTS, Database, is_of_one_row, now, own_file_url
from models.failpoints import failpoint
from models.intake import inbox, quarantine, taken_arrivals
from models.intake.inbox import Waiting
from models.intake.notifications import Arrival

log = structlog.get_logger(__name__)

LARGEST_BYTES = 512 * 1024 * 1024
"""Of one file: about 400,000 notifications."""
SPARE_BYTES = 64 * 1024 * 1024
"""That have to be free on the disk: a full one would harm more than receipts."""


class JournalFull(OSError):
    """The journal has reached its bound, or the disk is almost full."""


class Journal:
    """The file of this process: one that nobody has, or a new one."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError when the folder cannot be made or written to."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.file, self._lock = _own_file(folder)
        self._database = Database(own_file_url(self.file), limits=RECEIPTS)

    def put_all(self, arrivals: Sequence[Arrival]) -> None:
        """Writes them down, durably, in one transaction. Raises JournalFull, SQLAlchemyError."""
        if shutil.disk_usage(self.file.parent).free < SPARE_BYTES:
            raise JournalFull("the disk is almost full")
        with self._database.transaction() as connection:
            pages, free, size = (connection.execute(sa.text(f"PRAGMA {name}")).scalar_one() for name in _SIZES)
            if (pages - free) * size > LARGEST_BYTES:
                raise JournalFull("the journal has reached its bound")
            inbox.put_all(connection, arrivals)
            failpoint("journal_before_commit")
        failpoint("journal_committed")

    def close(self) -> None:
        self._database.close()
        os.close(self._lock)


_SIZES = ("page_count", "freelist_count", "page_size")


def _own_file(folder: Path) -> tuple[Path, int]:
    """The first file that no living process has, and the handle whose lock says so."""
    number = 0
    while True:
        lock = os.open(folder / f"journal-{number}.lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            number += 1
        else:
            return folder / f"journal-{number}.db", lock


def files(folder: Path | None) -> list[Path]:
    """The journals of this host, of living processes and of dead ones."""
    return [] if folder is None else sorted(folder.glob("journal-*.db"))


@dataclass(frozen=True)
class WaitingInJournals(Waiting):
    """What waits in the journals of this host."""

    unreadable: tuple[str, ...] = ()
    """The names of files that cannot be read."""


def waiting(folder: Path | None) -> WaitingInJournals:
    number, oldest_seconds, unreadable = 0, 0.0, []
    for file in files(folder):
        try:
            with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1)) as connection:
                found, oldest = connection.execute(
                    "SELECT count(*), (julianday('now') - julianday(min(received_at))) * 86400 FROM inbox"
                ).fetchone()
        except sqlite3.Error:
            unreadable.append(file.name)
        else:
            number, oldest_seconds = number + found, max(oldest_seconds, oldest or 0.0)
    return WaitingInJournals(number, oldest_seconds, tuple(unreadable))


class Drain:
    """Empties the journals of this host into the database."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder, self._database = folder, database
        self._journals: dict[Path, Database] = {}

    def drain(self) -> int:
        """Empties every file, and returns how many rows went into the inbox. Raises SQLAlchemyError while the database
        is away; a file that cannot be read stops no other one."""
        return sum(self._drain_file(file) for file in files(self._folder))

    def close(self) -> None:
        for journal in self._journals.values():
            journal.close()
        self._journals.clear()

    def _drain_file(self, file: Path) -> int:
        journal = self._journals.setdefault(file, Database(own_file_url(file), limits=RECEIPTS))
        drained = 0
        while True:
            try:
                with journal.reading() as connection:
                    numbers = inbox.oldest(connection)
            except SQLAlchemyError as error:
                log.error("journal_unreadable", file=file.name, error=type(error).__name__)
                return drained
            if not numbers:
                return drained
            self._move(journal, numbers)
            drained += len(numbers)

    def _move(self, journal: Database, numbers: Sequence[int]) -> None:
        with journal.reading() as connection:
            arrival_ids = inbox.arrival_ids(connection, numbers)
        try:
            self._put(journal, numbers)
        except (StatementError, ValueError) as error:
            if not is_of_one_row(error):
                raise
            for number in numbers:
                self._put_singly(journal, number)
        failpoint("drained_before_deletion")
        journal.transact(partial(inbox.delete, these=numbers))
        self._database.transact(partial(taken_arrivals.forget, arrival_ids=arrival_ids))

    def _put_singly(self, journal: Database, number: int) -> None:
        try:
            self._put(journal, [number])
        except (StatementError, ValueError) as error:
            if not is_of_one_row(error):
                raise
            kind = type(error).__name__
            with journal.reading() as connection:
                row = connection.execute(sa.text("SELECT * FROM inbox WHERE number = :this"), {"this": number}).one()
            raw = repr(dict(row._mapping)).encode("utf-8", "backslashreplace")
            self._database.transact(
                lambda connection: quarantine.keep(connection, str(row.arrival_id), raw, error=kind)
            )
            log.error("notification_quarantined", number=number, error=kind)

    def _put(self, journal: Database, numbers: Sequence[int]) -> None:
        with journal.reading() as connection:
            arrivals, here = list(inbox.read(connection, numbers).values()), now(connection)

        def put(connection: sa.Connection) -> None:
            """With the database's times: the clock of this host may be another one."""
            ahead = here - now(connection)
            new = taken_arrivals.remember(connection, [each.arrival_id for each in arrivals])
            inbox.put_all(
                connection,
                [
                    replace(each, received_at=each.received_at - ahead)
                    for each in arrivals
                    if each.received_at is not None and each.arrival_id in new
                ],
            )

        self._database.transact(put)
