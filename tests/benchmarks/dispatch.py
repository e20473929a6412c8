"""Benchmark `dispatch`: what a worker's tick costs that finds nothing due, with and without years of history.

On SQLite another process holds the write lock meanwhile: a tick that asked for it would wait. On PostgreSQL the blocks
that a tick reads are counted, also while a reader's old snapshot keeps the entries of completed work.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from migrations import migrate
from models.accounts import accounts
from models.database import Database
from models.intake import inbox
from models.intake.notifications import Arrival, NotificationStatus
from models.settings import Settings
from tests.support.services import EmbeddedRedis, PostgresServer
from workers.app import connect_broker
from workers.dispatch_due import dispatch_due
from workers.process.connections import open_connections
from workers.take_in import take_in_what_waits

CALLS = {"sqlite": 300_000, "postgresql": 1_000_000}
COMPLETED_UNDER_A_SNAPSHOT = 50_000
RECEIVED_UNDER_A_SNAPSHOT = 2_000
LATE_COMMIT_SECONDS = 61.0
"""After this the scans begin behind what they have seen."""
TICKS = 100
MOST_MS = 20.0
STATISTICS_SECONDS = 1.5
LOCATION = "location-of-the-bench"
NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :calls) ",
    "postgresql": "WITH numbers AS (SELECT generate_series(1, :calls) AS n) ",
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


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="leadway-bench-") as folder, EmbeddedRedis(Path(folder) / "redis") as redis:
        on_sqlite = _sqlite(f"sqlite:///{folder}/bench.db", redis.url)
        with PostgresServer() as postgres:
            on_postgresql = _postgresql(postgres.create_database("bench"), redis.url)
    slowest = max(on_sqlite["history_ms"], on_postgresql["history_ms"], on_postgresql["held_snapshot_ms"])
    return {"sqlite": on_sqlite, "postgresql": on_postgresql, "good": slowest < MOST_MS}


def _sqlite(url: str, redis_url: str) -> dict[str, Any]:
    with _worker(url, redis_url) as database:
        empty = _median_ms(take_in_and_dispatch)
        _write_history(database, CALLS["sqlite"])
        history = _median_ms(take_in_and_dispatch)
        with database.transaction():  # the write lock; the ticks are another connection's
            locked = _median_ms(take_in_and_dispatch)
        return {"calls": CALLS["sqlite"], "empty_ms": empty, "history_ms": history, "write_locked_ms": locked}


def _postgresql(url: str, redis_url: str) -> dict[str, Any]:
    with _worker(url, redis_url) as database:
        empty = _median_ms(take_in_and_dispatch), _blocks(database)
        _write_history(database, CALLS["postgresql"])
        history = _median_ms(take_in_and_dispatch), _blocks(database)
        with _held_snapshot(database):
            _complete(database, COMPLETED_UNDER_A_SNAPSHOT)
            _receive(database, RECEIVED_UNDER_A_SNAPSHOT)
            take_in_and_dispatch()
            time.sleep(LATE_COMMIT_SECONDS)
            take_in_and_dispatch()  # from the beginning, as once a minute
            held = _median_ms(take_in_and_dispatch), _blocks(database)
    names = ("empty", "history", "held_snapshot")
    measured = dict(zip(names, (empty, history, held), strict=True))
    return {
        "calls": CALLS["postgresql"],
        **{f"{name}_ms": milliseconds for name, (milliseconds, _) in measured.items()},
        **{f"{name}_blocks": blocks for name, (_, blocks) in measured.items()},
    }


def take_in_and_dispatch() -> None:
    """A worker's tick."""
    take_in_what_waits()
    dispatch_due()


@contextmanager
def _worker(url: str, redis_url: str) -> Iterator[Database]:
    """This process is connected as a worker is, to a migrated database with one account."""
    settings = Settings(_env_file=None, database_url=url, redis_url=redis_url)  # type: ignore[call-arg]
    migrate(settings.database_url)
    connect_broker(settings)
    this = open_connections(settings, worker="bench")
    this.database.transact(lambda connection: accounts.add(connection, LOCATION))
    try:
        yield this.database
    finally:
        this.close()


def _write_history(database: Database, calls: int) -> None:
    with database.transaction() as connection:
        dialect = connection.dialect.name
        if dialect == "postgresql":
            connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        for table, rows in HISTORY.items():
            statement = f"INSERT INTO {table} ({rows.format(numbers=NUMBERS[dialect])}"
            at = "2024-05-06 07:08:09.123000" + ("+00" if dialect == "postgresql" else "")
            connection.execute(sa.text(statement), {"calls": calls, "location": LOCATION, "at": at})
    with database.reading() as connection:
        connection.execute(sa.text("ANALYZE"))


def _complete(database: Database, calls: int) -> None:
    """So many calls become work that is due, and are completed."""
    with database.transaction() as connection:
        connection.execute(sa.text(OPEN_WORK), {"calls": calls, "location": LOCATION})
    with database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM work"))


def _receive(database: Database, number: int) -> None:
    """So many arrivals that make no work."""
    with database.inbox.transaction() as connection:
        for _ in range(number):
            arrival_id = str(uuid4())
            ignored = Arrival(
                arrival_id=arrival_id, dedupe_key=arrival_id, dialect="flat", authenticated_by="ed25519",
                status=NotificationStatus.IGNORED, location_id=LOCATION,
            )  # fmt: skip
            inbox.put_all(connection, [ignored])


@contextmanager
def _held_snapshot(database: Database) -> Iterator[None]:
    with database.engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
        # A reader's connection has no such time-out as the product's own.
        connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        connection.execute(sa.text("SELECT count(*) FROM work"))
        yield


def _median_ms(act: Callable[[], None]) -> float:
    took = []
    for _ in range(TICKS):
        began = time.perf_counter()
        act()
        took.append(1000 * (time.perf_counter() - began))
    return round(statistics.median(took), 2)


def _blocks(database: Database) -> float:
    """Blocks of tables and indexes that one tick reads."""
    query = sa.text(
        "SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read, 0) + coalesce(idx_blks_hit, 0))"
        " FROM pg_statio_user_tables"
    )

    def read() -> int:
        time.sleep(STATISTICS_SECONDS)
        with database.reading() as connection:
            return int(connection.execute(query).scalar_one())

    before = read()
    for _ in range(TICKS):
        take_in_and_dispatch()
    return (read() - before) / TICKS
