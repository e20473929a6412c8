"""Rows that the tests of the models start from, and the passing of time without waiting for it."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import sqlalchemy as sa

from models.calls import calls
from models.calls.call_log import CallLog, Source
from models.calls.calls import CALL
from models.database import Database, moment
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP
from models.follow_ups.rules import FollowUpKind, PlannedFollowUp, SkipReason
from models.work.lifecycle import Claim, claim
from models.work.work_rows import WorkKind

T = TypeVar("T")

LOCATION = "loc-one"
STARTED_AT = datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)


def announce(database: Database, *call_ids: str, location_id: str = LOCATION, **how: Any) -> None:
    with database.transaction() as connection:
        for call_id in call_ids:
            calls.announce(connection, location_id, call_id, **how)


def claim_call(
    database: Database, call_id: str, *, worker: str = "worker-1", isolated: bool = False, location_id: str = LOCATION
) -> Claim | None:
    return claim(
        database, CALL, (location_id, call_id), lease_seconds=60, deadline_seconds=20, worker=worker, isolated=isolated
    )


def claimed_call(database: Database, call_id: str = "call-1", **how: Any) -> Claim:
    """Announced, if it was not yet, and claimed."""
    announce(database, call_id)
    got = claim_call(database, call_id, **how)
    assert got is not None
    return got


def plan(database: Database, call_id: str = "call-1", *, action_key: str = "id-1", **how: Any) -> str:
    """A planned follow-up of an announced call; returns its id."""
    announce(database, call_id)
    with database.transaction() as connection:
        follow_ups.plan(connection, LOCATION, call_id, [planned(action_key=action_key)], **how)
        rows = follow_ups.of_call(connection, LOCATION, call_id)
    return str(next(row["follow_up_id"] for row in rows if row["action_key"] == action_key))


def planned(
    *,
    rule_id: str = "rule",
    action_key: str = "id-1",
    contact_id: str | None = "contact-1",
    skip_reason: SkipReason | None = None,
) -> PlannedFollowUp:
    return PlannedFollowUp(rule_id, action_key, FollowUpKind.NOTE, contact_id, skip_reason)


def claim_follow_up(database: Database, follow_up_id: str, *, isolated: bool = False, **how: Any) -> Claim | None:
    return claim(
        database,
        FOLLOW_UP,
        (follow_up_id,),
        lease_seconds=60,
        deadline_seconds=20,
        worker="worker-1",
        isolated=isolated,
        **how,
    )


def claimed_follow_up(database: Database, follow_up_id: str, **how: Any) -> Claim:
    got = claim_follow_up(database, follow_up_id, **how)
    assert got is not None
    return got


def call_log(call_id: str = "call-1", *, source: Source = Source.FETCH, **values: Any) -> CallLog:
    return CallLog(call_id=call_id, source=source, **values)


def call_row(database: Database, call_id: str = "call-1", *, location_id: str = LOCATION) -> sa.RowMapping:
    with database.reading() as connection:
        row = calls.get(connection, location_id, call_id)
    assert row is not None
    return row


def follow_up_row(database: Database, follow_up_id: str) -> sa.RowMapping:
    with database.reading() as connection:
        row = follow_ups.get(connection, follow_up_id)
    assert row is not None
    return row


def rows_of(database: Database, table: sa.Table) -> list[sa.RowMapping]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(table).order_by(*table.primary_key)).mappings())


def run_out(database: Database, work: WorkKind, key: tuple[str, ...]) -> None:
    """The lease of a running row ends."""
    change(database, work, key, lease_until=moment(-1), next_attempt_at=moment(-1))


def make_due(database: Database, work: WorkKind, key: tuple[str, ...]) -> None:
    change(database, work, key, next_attempt_at=moment(-1))


def change(database: Database, work: WorkKind, key: tuple[str, ...], **values: Any) -> None:
    with database.transaction() as connection:
        changed = connection.execute(sa.update(work.table).where(work.matches(key)).values(**values))
        assert changed.rowcount == 1  # type: ignore[attr-defined]


def seconds_until(database: Database, then: datetime) -> float:
    """By the database's clock."""
    with database.reading() as connection:
        now = connection.execute(sa.select(moment())).scalar_one()
    return (then - now).total_seconds()


def at_once(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """Runs all in threads that start together; returns their results, or raises what one of them raised."""
    barrier = threading.Barrier(len(tasks))
    results: list[T | None] = [None] * len(tasks)
    raised: list[BaseException] = []

    def run(number: int, task: Callable[[], T]) -> None:
        try:
            barrier.wait(20)
            results[number] = task()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=each) for each in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if raised:
        raise raised[0]
    return results  # type: ignore[return-value]
