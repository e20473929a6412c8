"""Grouped transactions: what waits at one moment is one transaction, and each thread learns what became of its own."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from models.calls.calls import work_key
from models.database import WORKER, Database, on_postgresql
from models.work import lifecycle
from models.work.lifecycle import LeaseLost
from models.work.work_rows import Lane, work_table
from tests.support.grouped import Write, together
from tests.support.rows import LOCATION, rows_of, until_somebody_waits
from tests.support.services import PostgresServer
from tests.support.slow_line import SlowLine
from tests.support.waiting import at_once
from workers.process.grouped_transactions import GroupedTransactions


@pytest.fixture
def grouped(database: Database) -> Iterator[GroupedTransactions]:
    opened = GroupedTransactions(database)
    yield opened
    opened.close()


def add(name: str) -> Write:
    return lambda connection: lifecycle.add(connection, work_key(LOCATION, name), lane=Lane.LIVE)


def transaction_of(connection: Connection) -> int:
    """What is the same for all of one transaction: on PostgreSQL its number, on SQLite the object itself."""
    if on_postgresql(connection):
        return int(connection.exec_driver_sql("SELECT txid_current()").scalar_one())
    return id(connection.get_transaction())


def subjects(database: Database) -> set[str]:
    return {row["subject"] for row in rows_of(database, work_table)}


def test_what_waits_at_one_moment_is_one_transaction_in_the_order_of_its_keys(grouped: GroupedTransactions) -> None:
    ran: list[int] = []

    def write(number: int) -> Write:
        def run(connection: Connection) -> int:
            ran.append(number)
            return transaction_of(connection)

        return run

    transactions = together(grouped, [write(number) for number in range(8)])
    assert len(set(transactions)) == 1
    assert ran == sorted(ran)


def test_far_away_each_transaction_runs_by_itself(postgresql_url: str, postgres_server: PostgresServer) -> None:
    with SlowLine(postgres_server.port, seconds=0.04) as line:
        database = Database(postgresql_url.replace(f":{postgres_server.port}/", f":{line.port}/"), limits=WORKER)
        far = GroupedTransactions(database)
        for _ in range(2):
            far.transact(transaction_of, order=0)
        apart = at_once([lambda: far.transact(transaction_of, order=0)] * 3)
        assert len(set(apart)) == 3
        far.close()
        database.close()


def test_one_that_raises_stops_no_other(grouped: GroupedTransactions, database: Database) -> None:
    def lost(connection: Connection) -> None:
        add("half")(connection)
        raise LeaseLost

    answers = together(grouped, [add("a"), lost, add("b")])
    assert answers[0] is True
    assert answers[2] is True
    assert isinstance(answers[1], LeaseLost)
    assert subjects(database) == {"a", "b"}


def test_one_that_the_database_refuses_stops_no_other(grouped: GroupedTransactions, database: Database) -> None:
    def refused(connection: Connection) -> None:
        connection.execute(sa.insert(work_table).values(kind="call", location_id=LOCATION, subject=None))

    answers = together(grouped, [refused, add("a"), add("b")])
    assert isinstance(answers[0], IntegrityError)
    assert answers[1:] == [True, True]
    assert subjects(database) == {"a", "b"}


def test_a_lone_one_that_raises_runs_once(grouped: GroupedTransactions, database: Database) -> None:
    ran: list[int] = []

    def lost(connection: Connection) -> None:
        ran.append(1)
        raise LeaseLost

    with pytest.raises(LeaseLost):
        grouped.transact(lost, order=1)
    assert ran == [1]
    assert grouped.transact(add("next"), order=1) is True  # the lead was handed back


def test_one_that_waits_for_a_lock_holds_nobody_up(postgresql_url: str) -> None:
    database = Database(postgresql_url, limits=WORKER)
    grouped = GroupedTransactions(database)
    locked, free = work_key(LOCATION, "locked"), work_key(LOCATION, "free")
    for each in (locked, free):
        grouped.transact(lambda connection, key=each: lifecycle.add(connection, key, lane=Lane.LIVE), order=1)  # type: ignore[misc]

    def lock(key: Any) -> Write:
        return lambda connection: lifecycle.lock(connection, key)

    with ThreadPoolExecutor(1) as threads:
        with database.transaction() as other:
            lifecycle.lock(other, locked)
            waits = threads.submit(grouped.transact, lock(locked), order=1)
            until_somebody_waits(database)
            assert grouped.transact(lock(free), order=2) is True
            assert not waits.done()
        assert waits.result() is True
    grouped.close()
    database.close()


def test_log_lines_carry_the_names_of_who_asked(grouped: GroupedTransactions) -> None:
    def told(connection: Connection) -> Any:
        return structlog.contextvars.get_contextvars().get("subject")

    def under(name: str) -> Any:
        with structlog.contextvars.bound_contextvars(subject=name):
            return grouped.transact(told, order=name)

    with ThreadPoolExecutor(8) as threads:
        names = [f"call-{number}" for number in range(50)]
        assert list(threads.map(under, names)) == names
