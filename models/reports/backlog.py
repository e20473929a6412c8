"""The backlog: what is not done, by account, kind and status, with its number and age."""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.calls import CALL, calls_table
from models.database import now
from models.follow_ups.follow_ups import FOLLOW_UP, follow_ups_table
from models.intake.inbox import inbox_table
from models.intake.quarantine import quarantine_table
from models.work.work_rows import NOT_DONE


@dataclass(frozen=True)
class Backlog:
    """The rows of one account, kind of work and status that are not done, dead ones included.

    `location_id` is empty for notifications that name none.
    """

    location_id: str
    work: str
    """call, follow_up, or notification: one that is not taken in."""
    status: str
    number: int
    oldest_seconds: float


def all_work(connection: Connection) -> list[Backlog]:
    """The age of a row counts from its creation, of an unclear follow-up from when its outcome became unclear."""
    at = now(connection)
    found = []
    unclear_since = sa.func.coalesce(follow_ups_table.c.unclear_since, follow_ups_table.c.planned_at)
    for work, since in ((CALL, calls_table.c.created_at), (FOLLOW_UP, unclear_since)):
        table = work.table
        rows = connection.execute(
            sa.select(
                table.c.location_id,
                table.c.status,
                sa.func.count().label("number"),
                sa.func.min(since).label("oldest_at"),
            )
            .where(NOT_DONE)
            .group_by(table.c.location_id, table.c.status)
        )
        found += [
            Backlog(row.location_id, work.name, row.status, row.number, (at - row.oldest_at).total_seconds())
            for row in rows
        ]
    for table, status in ((inbox_table, "pending"), (quarantine_table, "quarantined")):
        location_id = sa.func.coalesce(table.c.location_id, "").label("location_id")
        rows = connection.execute(
            sa.select(
                location_id, sa.func.count().label("number"), sa.func.min(table.c.received_at).label("oldest_at")
            ).group_by(location_id)
        )
        found += [
            Backlog(row.location_id, "notification", status, row.number, (at - row.oldest_at).total_seconds())
            for row in rows
        ]
    return found
