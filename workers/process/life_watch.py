"""Watches for a new life of the database: keeps the greatest fence outside of it, and compares at each new connection.

The copies outside are in Redis, where the budget's script carries the fence of each request, and in a file of this
host. What is known of the greatest fence may be late, never too great.
"""

import fcntl
import os
from contextlib import suppress
from pathlib import Path

import redis
import structlog
from sqlalchemy import Connection

from models.database import Database
from models.settings.places import make_private
from models.work import life
from models.work.fences import GreatestFence
from models.work.life import Cause
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

FOLDER = Path("var")
LOOK_SECONDS = 3.0
"""Between two looks of a worker that makes no new connection."""
_CARRY_OUT = """
if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[1]) or 0) then redis.call('SET', KEYS[1], ARGV[1]) end
"""


class LifeWatch:
    """The watch of one process over its database."""

    def __init__(self, client: "redis.Redis", greatest: GreatestFence, *, folder: Path = FOLDER) -> None:
        self._redis, self._greatest, self._folder = client, greatest, folder
        self._cannot_write = False

    def greet(self, connection: Connection) -> None:
        """For each new connection, before its first transaction. Begins a new life if the database has forgotten
        something. Raises SQLAlchemyError."""
        if self._greatest.database_id is None:
            with connection.begin():
                self._greatest.database_id = life.current(connection).database_id
        seen_outside = self._seen_outside()  # before the database is asked: what is seen later may be greater
        with connection.begin():
            present = life.current(connection)
            life.know_server(connection, present)
            cause = life.why_new(connection, present, seen_outside=seen_outside)
            began = cause is not None and life.begin(connection, present, cause)
        if cause is not None:
            self._tell(cause, began=began, number=present.number + 1)
        with connection.begin():
            life.move_fences(connection)
            if cause is not None:
                self._greatest.saw(life.first_fence(connection))

    def look(self, database: Database) -> None:
        """The step of a worker's tick: greets again, and carries the greatest fence out."""
        with database.unprepared() as connection:
            self.greet(connection)
        self.carry_out()

    def carry_out(self) -> None:
        """Writes the greatest fence of this process outside of the database, where a smaller one stands there."""
        if self._greatest.number and self._greatest.database_id is not None:
            try:
                self._write_file(self._greatest.number)
                self._cannot_write = False
            except OSError as error:
                if not self._cannot_write:
                    log.warning("fence_file_not_written", error=error.strerror)
                self._cannot_write = True
            with suppress(redis.RedisError):  # the next look, or the next request, tries again
                self._redis.eval(_CARRY_OUT, 1, self._greatest.redis_key, str(self._greatest.number))

    def _seen_outside(self) -> int | None:
        seen = [self._greatest.number, self._in_redis(), self._in_file()]
        return max(seen) or None

    def _in_redis(self) -> int:
        try:
            return _number(self._redis.get(self._greatest.redis_key))  # type: ignore[arg-type]
        except redis.RedisError:
            return 0

    def _in_file(self) -> int:
        try:
            return _number(self._file.read_bytes())
        except OSError:
            return 0

    def _write_file(self, fence: int) -> None:
        """One file for all processes of the host. It never goes back, whoever writes last."""
        make_private(self._folder)
        with os.fdopen(os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if fence > _number(file.read()):
                file.seek(0)
                file.write(b"%020d" % fence)
                file.flush()
                os.fsync(file.fileno())

    @property
    def _file(self) -> Path:
        return self._folder / f"greatest-fence-{self._greatest.database_id}"

    def _tell(self, cause: Cause, *, began: bool, number: int) -> None:
        if began:
            metrics.LIVES_BEGUN.labels(cause).inc()
            log.error("database_life_began", cause=str(cause), number=number)


def _number(text: bytes | None) -> int:
    """0 for what is no number: an unreadable copy is none."""
    return int(text) if text is not None and text.strip().isdigit() else 0
