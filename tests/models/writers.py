"""What a process of ours does to the database all day, for tests that start several such processes."""

import time
from collections.abc import Callable

from sqlalchemy.exc import DBAPIError

from models.calls import calls
from models.calls.calls import CALL
from models.database import WEB, WORKER, Database
from models.intake import notifications
from models.work import heartbeats, lifecycle
from models.work.lifecycle import claim
from tests.models.rows import LOCATION


def be_web(url: str, name: str, seconds: float) -> list[str]:
    """Writes notifications down; returns the errors it saw.

    It waits for the lock no longer than the sender of a notification does; then it is asked again.
    """
    return _be_busy(Database(url, limits=WEB), _receive, name, seconds)


def be_worker(url: str, name: str, seconds: float) -> list[str]:
    """Claims and finishes calls; returns the errors it saw."""
    return _be_busy(Database(url, limits=WORKER), _work, name, seconds)


def _be_busy(database: Database, act: Callable[[Database, str, int], None], name: str, seconds: float) -> list[str]:
    errors: list[str] = []
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline:
        number += 1
        started = time.monotonic()
        try:
            act(database, name, number)
        except DBAPIError as error:
            if database.limits is WORKER or time.monotonic() - started < WEB.lock:
                errors.append(str(error.orig))
        time.sleep(0.02)
    database.close()
    return errors


def _receive(database: Database, name: str, number: int) -> None:
    with database.transaction() as connection:
        key = f"{name}-{number}"
        notifications.record(
            connection,
            key,
            location_id=LOCATION,
            call_id=key,
            dialect="thin",
            authenticated_by="intake_header",
            status="accepted",
        )
        calls.announce(connection, LOCATION, key)


def _work(database: Database, name: str, number: int) -> None:
    database.transact(lambda connection: heartbeats.beat(connection, name, process="worker"))
    with database.reading() as connection:
        rows = connection.execute(
            calls.calls_table.select().where(calls.calls_table.c.status == "pending").limit(3)
        ).all()
    for row in rows:
        got = claim(database, CALL, (row.location_id, row.call_id), lease_seconds=60, deadline_seconds=20, worker=name)
        if got is not None:
            database.transact(lambda connection, mine=got: lifecycle.complete(connection, mine))  # type: ignore[misc]
