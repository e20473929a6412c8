"""The backlog: calls and follow-ups that are open or dead, by account and status, with their number and age.

Other kinds are left out, for their age tells nothing: a window is as old as its run, a grant's work never ends.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.calls import CALL
from models.database import now
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
from models.intake.inbox import inbox_table
from models.intake.quarantine import quarantine_table
from models.reconciling.quarantined_rows import IS_NO_CALL, quarantined_rows_table
from models.work.work_rows import STATUS, work_table

STANDING = sa.case(
    (follow_ups_table.c.status == FollowUpState.UNCLEAR, FollowUpState.UNCLEAR),
    else_=STATUS,
)
"""The status of a row of `WORK`; of a follow-up also unclear."""
SINCE = sa.func.coalesce(follow_ups_table.c.unclear_since, work_table.c.created_at)
"""From when on a row of `WORK` has its age: from its creation, an unclear follow-up from when it became unclear."""
WORK = work_table.outerjoin(
    follow_ups_table,
    sa.and_(work_table.c.kind == FOLLOW_UP.name, follow_ups_table.c.follow_up_id == work_table.c.subject),
)
"""Open and dead work, each follow-up's with its facts."""


@dataclass(frozen=True)
class Backlog:
    """The rows of one account, kind of work and status, dead ones included. Notifications count from their arrival.

    `location_id` is empty for notifications that name none.
    """

    location_id: str
    work: str
    """call, follow_up, or notification: one that is not taken in."""
    status: str
    number: int
    oldest_seconds: float


def all_work(connection: Connection) -> list[Backlog]:
    at = now(connection)
    return [
        Backlog(row.location_id, row.kind, row.status, row.number, (at - row.oldest_at).total_seconds())
        for query in _QUERIES
        for row in connection.execute(query)
    ]


def _counted(*groups: Any, since: Any) -> sa.Select[Any]:
    return sa.select(*groups, sa.func.count().label("number"), sa.func.min(since).label("oldest_at")).group_by(*groups)


def _waiting(table: sa.Table, status: str) -> sa.Select[Any]:
    location_id = sa.func.coalesce(table.c.location_id, "").label("location_id")
    notification: tuple[Any, ...] = (sa.literal("notification").label("kind"), sa.literal(status).label("status"))
    return _counted(location_id, since=table.c.received_at).add_columns(*notification)


_QUERIES = (
    _counted(work_table.c.location_id, work_table.c.kind, STANDING.label("status"), since=SINCE)
    .select_from(WORK)
    .where(work_table.c.kind.in_((CALL.name, FOLLOW_UP.name))),
    _waiting(inbox_table, "pending"),
    _waiting(quarantine_table, "quarantined"),
    _counted(quarantined_rows_table.c.location_id, since=quarantined_rows_table.c.first_seen_at)
    .add_columns(sa.literal("listed_row").label("kind"), sa.literal("quarantined").label("status"))
    .where(IS_NO_CALL),
)
