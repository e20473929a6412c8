"""The third of three harnesses, a whole system seen from outside: the double, a database, a Redis, and processes.

It reads the database with plain SQL and talks to the web process over HTTP, as anybody could.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
import sqlalchemy as sa

from models.database import COMMAND, Database
from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.nouns import PlacedCall
from tests.support.processes import Processes
from tests.support.waiting import eventually
from workers.local.embedded_redis import free_port

QUICK = {
    "LEADWAY_RETRY_SECONDS": "0.2",
    "LEADWAY_LEASE_SECONDS": "4",
    "LEADWAY_REQUESTS_PER_10_SECONDS": "3000",
    "LEADWAY_SETTLE_SECONDS": "3",
    "WEB_PROCESSES": "1",
    "HOST": "127.0.0.1",
    "LOG_LEVEL": "INFO",
}
NOTE_CALLING = ("APPOINTMENT_BOOKING", "CALL_TRANSFER")


class World:
    """`with World(folder, database_url=…, redis_url=…) as world: world.start("web", "worker", "beat")`."""

    def __init__(
        self,
        folder: Path,
        *,
        database_url: str,
        redis_url: str,
        settings: Mapping[str, str] | None = None,
        double: LeadwayDouble | None = None,
    ) -> None:
        self.double = double or LeadwayDouble(time_zone="UTC")
        self.database_url = database_url.replace("postgresql://", "postgresql+psycopg://")
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        self._database: Database | None = None
        self._environment = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "PORT": str(self.port),
            "LEADWAY_LOCATION_ID": self.double.location_id,
            "LEADWAY_API_TOKEN": self.double.token,
            "LEADWAY_INTAKE_SECRET": self.double.intake_secret,
            "LEADWAY_WEBHOOK_PUBLIC_KEYS": self.double.public_keys_pem,
            "TOKEN_ENCRYPTION_KEYS": "yOOLGmZm2jPvkVC9FjV3pT0vU6T4nJX3XcD5xZ2s0bQ=",
            **QUICK,
            **(settings or {}),
        }
        self._folder = folder
        self.processes: Processes

    def __enter__(self) -> Self:
        self.double.start()
        self.double.set_rate_limit(per_window=None, announced=3000)
        self.double.set_webhook_url(f"{self.base_url}/webhooks/leadway")
        self.processes = Processes(self._folder, {**self._environment, "LEADWAY_API_URL": self.double.url})
        self.processes.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.processes.__exit__(kind, error, at)
        self.double.stop()
        self.disconnect()

    def disconnect(self) -> None:
        """Closes our own connections to the database."""
        if self._database is not None:
            self._database.close()

    def start(self, *lines: str) -> None:
        """Starts the lines, waits until web is ready and workers are alive. Before them `release`, to its end, where it
        is needed: a worker writes the account of the environment too, and most databases of tests have their tables."""
        if "worker" not in lines or not self._has_tables():
            self.processes.finish("release")
        for line in lines:
            self.processes.start(line)
        if "web" in lines:
            self.wait_for_web()
        if "worker" in lines:
            self.wait_for_worker()

    def _has_tables(self) -> bool:
        try:
            return bool(self.rows("SELECT count(*) FROM accounts"))
        except sa.exc.DBAPIError:
            return False

    @contextmanager
    def another(self, line: str, *, environment: Mapping[str, str] | None = None) -> Iterator[str]:
        """A second process of a line that is running already; gives the name under which its heart beats."""
        before = self._alive(line)
        self.processes.start(line, name=f"{line}-2", environment=environment)
        try:
            yield eventually(lambda: self._alive(line) - before, timeout=30, describe=f"another {line}").pop()
        finally:
            self.processes.stop(f"{line}-2")

    def _alive(self, line: str) -> set[str]:
        return {row["name"] for row in self.rows("SELECT name FROM heartbeats WHERE process = :line", line=line)}

    def wait_for_web(self) -> None:
        eventually(lambda: self.answers("/readyz"), timeout=30, describe="web to be ready")

    def wait_for_worker(self) -> None:
        alive = "SELECT count(*) FROM heartbeats WHERE process = 'worker'"
        eventually(lambda: self.scalar(alive) > 0, timeout=30, describe="a worker to be alive")

    def answers(self, path: str) -> bool:
        try:
            return requests.get(self.base_url + path, timeout=2).ok
        except requests.RequestException:
            return False

    def command(self, *words: str, name: str = "command") -> str:
        """Runs `leadway-calls …` to its end; returns what it printed."""
        self.processes.run(["leadway-calls", *words], name=name)
        self.processes.wait(name)
        return self.processes.log(name)

    def rows(self, query: str, **values: Any) -> list[sa.RowMapping]:
        if self._database is None:
            self._database = Database(self.database_url, limits=COMMAND)
        with self._database.reading() as connection:
            return list(connection.execute(sa.text(query), values).mappings())

    def scalar(self, query: str, **values: Any) -> Any:
        return next(iter(self.rows(query, **values)[0].values()))

    def call_statuses(self) -> dict[str, int]:
        """How many calls are complete, pending, running and dead."""
        return _numbers(self.rows(CALL_STATUSES))

    def open_calls(self, *location_ids: str) -> set[str]:
        """The ids of calls that are to be read, or dead, of all accounts or of these."""
        rows = self.rows("SELECT location_id, subject FROM work WHERE kind = 'call'")
        return {row["subject"] for row in rows if not location_ids or row["location_id"] in location_ids}

    def follow_up_statuses(self) -> dict[str, int]:
        return _numbers(self.rows("SELECT status, count(*) AS number FROM follow_ups GROUP BY status"))

    def wait_until_done(self, *, calls: int, timeout: float = 60.0) -> None:
        """Until so many calls are complete and nothing is to be read or owed to the CRM any more."""

        def settled() -> bool:
            done = self.call_statuses()  # first: what is complete has its follow-ups planned
            owed = self.scalar("SELECT count(*) FROM work WHERE kind = 'follow_up' AND dead_cause IS NULL")
            return done.get("complete", 0) >= calls and not owed and set(done) == {"complete"}

        eventually(
            settled,
            timeout=timeout,
            describe=lambda: (
                f"{calls} calls to be done: calls {self.call_statuses()}, follow-ups {self.follow_up_statuses()},"
                f" {self.unfinished()}"
            ),
        )

    def unfinished(self) -> list[dict[str, Any]]:
        columns = "kind, subject, attempts, lost_leases, due_at, lease_until, enqueued_at, last_error, dead_cause"
        return [dict(row) for row in self.rows(f"SELECT {columns} FROM work LIMIT 10")]


CALL_STATUSES = """
    SELECT CASE WHEN w.dead_cause IS NOT NULL THEN 'dead' WHEN w.lease_until IS NOT NULL THEN 'running'
                WHEN w.kind IS NOT NULL THEN 'pending' ELSE 'complete' END AS status, count(*) AS number
    FROM (SELECT location_id, call_id FROM calls UNION SELECT location_id, subject FROM work WHERE kind = 'call') AS c
    LEFT JOIN work w ON w.kind = 'call' AND w.location_id = c.location_id AND w.subject = c.call_id
    GROUP BY 1"""


def _numbers(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {row["status"]: row["number"] for row in rows}


def notes_due(calls: Sequence[PlacedCall]) -> dict[str, int]:
    """How many notes each call is owed, by call id, by the built-in rules: one per booking and transfer."""
    return {
        call.call_id: sum(kind in NOTE_CALLING for kind in call.action_types)
        for call in calls
        if call.contact_id is not None and not call.trial
    }


def notes_written(world: World) -> dict[str, int]:
    """How many notes the double holds for each call. A note names its follow-up, the follow-up its call."""
    call_of = {
        row["follow_up_id"]: row["call_id"] for row in world.rows("SELECT follow_up_id, call_id FROM follow_ups")
    }
    written: dict[str, int] = {}
    for note in world.double.truth.notes():
        [call_id] = [call_id for reference, call_id in call_of.items() if reference in note.body] or ["of nobody"]
        written[call_id] = written.get(call_id, 0) + 1
    return written
