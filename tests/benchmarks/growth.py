"""Benchmark `growth`: what each step costs with and without years of history, idle accounts, and a reader who stays.

The tables are filled by statements. Each step is then played many times, in turn with the others, on rows of its own:
medians of time, and on PostgreSQL the blocks of tables and indexes that it reads. It fails where a step with history,
or with 10,000 accounts that have nothing to do, costs more than MOST times what it costs without.

On PostgreSQL a reader then holds a snapshot while so many calls are completed as come in ten minutes at 50 a second:
nothing of them can be vacuumed. On SQLite another connection holds the write lock while nothing is due.
"""

import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
import structlog

from migrations.upgrading import migrate
from models.accounts import accounts
from models.calls import calls, storing
from models.calls.call_log import Action, CallLog, Source
from models.calls.storing import ReadByClaim, Reading
from models.database import Database
from models.intake import inbox
from models.intake.inbox import ScanBound
from models.intake.notifications import Arrival, NotificationStatus
from models.reports import backlog, call_list, overview
from models.reports.verdict import judging
from models.reports.verdict.findings import Around
from models.retention import empty_calls, empty_notifications
from models.settings import Settings
from models.work import lifecycle
from models.work.lifecycle import Claim
from tests.support.services import EmbeddedRedis, PostgresServer
from workers.dispatch_due import dispatch_due
from workers.process.broker import connect_broker
from workers.process.connections import connections, open_connections
from workers.take_in import take_in

CALLS = {"sqlite": 300_000, "postgresql": 1_000_000}
SMALL = 10_000
"""Calls of a history with which blocks are compared: in an empty table one block is read where a look-up in any index
reads two or three."""
ACCOUNTS = (20, 10_000)
COMPLETED_UNDER_A_SNAPSHOT = 30_000
LATE_COMMIT_SECONDS = 61.0
"""After this the scans begin behind what they have seen."""
OF_A_CALL = ("receipt", "take in", "dispatch one", "claim", "store and complete", "dispatch none")
TIMES = 60
MOST = 1.5
MOST_UNDER_A_SNAPSHOT = 2.0
LEAST_MS = 0.5
"""What takes less than that is told, and no growth: it is within what a turn differs from the next one."""
STATISTICS_SECONDS = 1.5
DAYS_OF_RETENTION = 10_000
LOCATION = "location-of-the-bench"
NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM numbers WHERE n < :last) ",
    "postgresql": "WITH numbers AS (SELECT generate_series(CAST(:first AS integer), CAST(:last AS integer)) AS n) ",
}
HISTORY = {
    "calls": """location_id, call_id, started_at, duration_seconds, contact_id, summary, transcript, origin,
        wants_follow_ups, first_heard_at, stored_at, settled_at, read_at, read_from, reading_fence)
        {numbers} SELECT :location, 'call-' || n, :at, 75, 'contact-' || n, 'The caller booked.', 'bot: Hello.',
        'notification', true, :at, :at, :at, :at, 'fetch', n FROM numbers""",
    "attempts": """kind, location_id, subject, fence, started_at, ended_at, outcome)
        {numbers} SELECT 'call', :location, 'call-' || n, n, :at, :at, 'done' FROM numbers""",
    "follow_ups": """follow_up_id, location_id, call_id, rule_id, action_key, kind, contact_id, status, planned_at,
        done_at, body, intent_at, posts, absences, remote_id)
        {numbers} SELECT 'follow-up-' || n, :location, 'call-' || n, 'rule', 'action', 'note', 'contact-' || n, 'done',
        :at, :at, 'words', :at, 1, 0, 'note-' || n FROM numbers""",
    "notifications": """dedupe_key, location_id, call_id, dialect, authenticated_by, status, received_at,
        last_received_at, repeats)
        {numbers} SELECT 'webhook-' || n, :location, 'call-' || n, 'flat', 'ed25519', 'accepted', :at, :at, 0
        FROM numbers""",
}
"""One row of each for each call, as the product leaves them."""
OPEN_WORK = f"""
INSERT INTO work (kind, location_id, subject, lane, due_at, attempts, failures, fence, lost_leases, lost_isolated,
                  isolated, requested, created_at)
{NUMBERS["postgresql"]}
SELECT 'call', :location, 'new-' || n, 0, now() - interval '10 minutes', 0, 0, 0, 0, 0, false, 1, now() FROM numbers"""

Step = Callable[[], None]


def run() -> dict[str, Any]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="leadway-bench-") as folder, EmbeddedRedis(Path(folder) / "redis") as redis:
        on_sqlite = _measured(f"sqlite:///{folder}/bench.db", redis.url)
        with PostgresServer(durable=True) as postgres:
            on_postgresql = _measured(postgres.create_database("bench"), redis.url)
    return {
        "sqlite": on_sqlite, "postgresql": on_postgresql,
        "good": not on_sqlite["grown"] and not on_postgresql["grown"],
    }  # fmt: skip


def _measured(url: str, redis_url: str) -> dict[str, Any]:
    with _worker(url, redis_url) as database:
        dialect = database.engine.dialect.name
        steps = Steps(database)
        for number in range(1, ACCOUNTS[0]):
            database.transact(lambda connection, number=number: accounts.add(connection, f"idle-{number}"))  # type: ignore[misc]
        steps.medians(TIMES // 4)  # statements are compiled, pages are read
        measured = {"empty": steps.medians()}
        blocks = {"empty": steps.blocks()} if dialect == "postgresql" else {}
        _write_history(database, 1, SMALL)
        if dialect == "postgresql":
            blocks["small"] = steps.blocks()
        _write_history(database, SMALL + 1, CALLS[dialect])
        measured["history"] = steps.medians()
        if dialect == "postgresql":
            blocks["history"] = steps.blocks()
        others: dict[str, Any] = {}
        if dialect == "sqlite":
            with database.transaction():  # the write lock; the ticks are another connection's
                others["nothing due, write lock held"] = _median_ms(steps.tick)
        _add_idle_accounts(database, ACCOUNTS[1])
        measured["idle accounts"] = steps.medians(only=OF_A_CALL)
        if dialect == "postgresql":
            with _held_snapshot(database):
                _complete(database, COMPLETED_UNDER_A_SNAPSHOT)
                steps.tick()
                time.sleep(LATE_COMMIT_SECONDS)
                steps.tick()  # from the beginning, as once a minute
                measured["held snapshot"] = steps.medians(only=OF_A_CALL)
    grown = [
        f"{name}, {when}: {told[name]} ÷ {against[name]} {unit}"
        for what, against, unit in ((measured, measured["empty"], "ms"), (blocks, blocks.get("small", {}), "blocks"))
        for when, told in what.items()
        for name in told
        if told[name] > _most(when) * max(against[name], LEAST_MS if unit == "ms" else 1)
    ]
    return {"calls": CALLS[dialect], "ms": measured, "blocks": blocks, **others, "grown": grown}


def _most(when: str) -> float:
    return MOST_UNDER_A_SNAPSHOT if when == "held snapshot" else MOST


class Steps:
    """What the product does, step by step, each on rows of its own."""

    def __init__(self, database: Database) -> None:
        self._database, self._numbers, self._bound = database, count(), ScanBound()
        self._call_id = ""
        self._claim: Claim | None = None
        self.steps: Mapping[str, Step] = {
            "receipt": self._receive, "take in": self._take_in, "dispatch one": dispatch_due,
            "claim": self._claim_it, "store and complete": self._store, "dispatch none": dispatch_due,
            "page of calls": self._page, "overview": self._overview, "verdict": self._verdict, "backlog": self._backlog,
            "prune": self._prune,
        }  # fmt: skip

    def medians(self, times: int = TIMES, *, only: Collection[str] = ()) -> dict[str, float]:
        """Milliseconds of each step, or of the `only` ones: those that make one call, from receipt to stored."""
        steps = {name: step for name, step in self.steps.items() if not only or name in only}
        took: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(times):
            for name, step in steps.items():
                began = time.perf_counter()
                step()
                took[name].append(1000 * (time.perf_counter() - began))
        return {name: round(statistics.median(each), 2) for name, each in took.items()}

    def blocks(self) -> dict[str, float]:
        """For each step, blocks of tables and indexes that it reads."""
        read = {}
        for name, step in self.steps.items():
            before = _blocks(self._database)
            step()
            read[name] = float(_blocks(self._database) - before)
        return read

    def _receive(self) -> None:
        self._call_id = f"new-{next(self._numbers)}"
        arrival = Arrival(
            arrival_id=str(uuid4()), dedupe_key=self._call_id, dialect="flat", authenticated_by="ed25519",
            status=NotificationStatus.ACCEPTED, location_id=LOCATION, call_id=self._call_id,
        )  # fmt: skip
        with self._database.inbox.transaction() as connection:
            inbox.put_and_look(connection, [arrival])
        connections().redis.delete("calls")  # nobody takes the messages

    def _take_in(self) -> None:
        take_in(self._database, self._bound)

    def tick(self) -> None:
        """A worker's."""
        self._take_in()
        dispatch_due()

    def _claim_it(self) -> None:
        key = calls.work_key(LOCATION, self._call_id)
        self._claim = lifecycle.claim(
            self._database.transact, key, lease_seconds=60, deadline_seconds=20, worker="bench"
        )

    def _store(self) -> None:
        claim = self._claim
        assert claim is not None
        action = Action("SMS", action_id="action", executed_at=claim.claimed_at)
        log = CallLog(
            call_id=self._call_id, source=Source.FETCH, started_at=datetime(2026, 1, 2, tzinfo=UTC),
            duration_seconds=75, summary="The caller booked.", transcript="bot: Hello.", actions=(action,),
        )  # fmt: skip
        read = ReadByClaim(
            LOCATION, [Reading(log, claim.request)], fence=claim.fence, read_at=claim.claimed_at, time_zone="UTC"
        )

        def write(connection: sa.Connection) -> None:
            storing.store(connection, [read])
            lifecycle.complete(connection, claim)

        self._database.transact(write)

    def _page(self) -> None:
        with self._database.reading() as connection:
            call_list.newest(connection, limit=51)

    def _overview(self) -> None:
        with self._database.reading() as connection:
            overview.of_accounts(connection)

    def _verdict(self) -> None:
        with self._database.reading() as connection:
            judging.judge(connection, Around())

    def _backlog(self) -> None:
        with self._database.reading() as connection:
            backlog.all_work(connection)

    def _prune(self) -> None:
        with self._database.transaction() as connection:
            empty_calls(connection, days=DAYS_OF_RETENTION)
            empty_notifications(connection, days=DAYS_OF_RETENTION)


def _add_idle_accounts(database: Database, number: int) -> None:
    rows = [{"this_location": f"more-{position}"} for position in range(number)]
    with database.transaction() as connection:
        copied = "name, language, time_zone, follow_up_age_hours, outages_in_a_row, added_at"
        connection.execute(
            sa.text(
                f"INSERT INTO accounts (location_id, {copied}) SELECT :this_location, {copied} FROM accounts"
                f" WHERE location_id = '{LOCATION}'"
            ),
            rows,
        )


@contextmanager
def _worker(url: str, redis_url: str) -> Iterator[Database]:
    """This process is connected as a worker is, to a migrated database with one account."""
    settings = Settings(database_url=url, redis_url=redis_url)  # type: ignore[call-arg]
    migrate(settings.database_url)
    connect_broker(settings)
    this = open_connections(settings, worker="bench")
    this.database.transact(lambda connection: accounts.add(connection, LOCATION))
    try:
        yield this.database
    finally:
        this.close()


def _write_history(database: Database, first: int, last: int) -> None:
    with database.transaction() as connection:
        dialect = connection.dialect.name
        if dialect == "postgresql":
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        for table, rows in HISTORY.items():
            statement = f"INSERT INTO {table} ({rows.format(numbers=NUMBERS[dialect])}"
            at = "2024-05-06 07:08:09.123000" + ("+00" if dialect == "postgresql" else "")
            connection.execute(sa.text(statement), {"first": first, "last": last, "location": LOCATION, "at": at})
    with database.reading() as connection:
        connection.execute(sa.text("ANALYZE" if dialect == "postgresql" else "ANALYZE main"))


def _complete(database: Database, calls: int) -> None:
    """So many calls become work that is due, and are completed."""
    with database.transaction() as connection:
        connection.execute(sa.text(OPEN_WORK), {"first": 1, "last": calls, "location": LOCATION})
    with database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM work"))


@contextmanager
def _held_snapshot(database: Database) -> Iterator[None]:
    with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        # A reader's connection has no such time-out as the product's own.
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(sa.text("SELECT count(*) FROM work"))
        yield


def _median_ms(act: Callable[[], None]) -> float:
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        act()
        took.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(took), 2)


def _blocks(database: Database) -> int:
    """Blocks of tables and indexes that were read so far."""
    query = sa.text(
        "SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0))"
        " FROM pg_statio_user_tables"
    )
    time.sleep(STATISTICS_SECONDS)
    with database.reading() as connection:
        return int(connection.execute(query).scalar_one())
