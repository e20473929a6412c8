"""The accounts and intake secrets as this process knows them: copied from the database every few seconds.

So no receipt asks the database who sent it. What the copy does not have is decided by one that is read after the
request came: an account that was added a moment ago is known at once. One that was removed is accepted for as long as
the copy is old; `workers.take_in` decides again by the database.
"""

import threading
import time

import structlog

from models.accounts import accounts
from models.accounts.accounts import Known
from models.database import Database
from workers.process.ticks import Tick

log = structlog.get_logger(__name__)

COPIED_EVERY_SECONDS = 3.0
BETWEEN_COPIES_SECONDS = 0.5
"""Between two copies at least, whoever asks for one."""
MISS_SECONDS = 0.8
"""How long a miss waits for a newer copy."""


class Undecided(Exception):
    """It is not in the copy, and no newer one can be read."""


class KnownAccounts:
    """Safe to use from several threads. At most half of the threads wait for a newer copy: who guesses secrets must not
    hold up those who know one."""

    def __init__(self, database: Database, *, threads: int) -> None:
        self._database = database
        self._known = Known(frozenset(), {})
        self._read_at = float("-inf")
        self._newer = threading.Condition()
        self._missing = threading.BoundedSemaphore(max(1, threads // 2))
        self._reader = Tick(self.read, seconds=COPIED_EVERY_SECONDS, pause_seconds=BETWEEN_COPIES_SECONDS)

    def location_for_secret(self, secret_hash: str) -> str | None:
        """The account of an intake secret; None: it is nobody's. Raises Undecided."""
        found = self._copy().by_secret.get(secret_hash)
        return found or self._newer_copy().by_secret.get(secret_hash)

    def is_served(self, location_id: str) -> bool:
        """Raises Undecided."""
        return location_id in self._copy().served or location_id in self._newer_copy().served

    def read(self) -> None:
        """Copies them now. Raises SQLAlchemyError; the copy stays as it was."""
        began_at = time.monotonic()
        with self._database.reading() as connection:
            known = accounts.known(connection)
        with self._newer:
            self._known, self._read_at = known, began_at
            self._newer.notify_all()

    def stop(self) -> None:
        self._reader.stop()

    def _copy(self) -> Known:
        self._reader.start()
        return self._known

    def _newer_copy(self) -> Known:
        asked_at = time.monotonic()
        if not self._missing.acquire(blocking=False):
            raise Undecided("others wait for a newer copy")
        try:
            self._reader.wake()
            with self._newer:
                if not self._newer.wait_for(lambda: self._read_at >= asked_at, timeout=MISS_SECONDS):
                    raise Undecided("no newer copy could be read in time")
                return self._known
        finally:
            self._missing.release()
