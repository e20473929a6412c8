"""The backlog: open and dead work, by account, kind and status, with its number and age."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import now
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
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
    """The rows of one account, kind of work and status, dead ones included."""

    location_id: str
    work: str
    status: str
    number: int
    oldest_seconds: float


def all_work(connection: Connection) -> list[Backlog]:
    at = now(connection)
    return [Backlog(*row[:4], (at - row.oldest_at).total_seconds()) for row in connection.execute(_ALL)]


_GROUPS: tuple[Any, ...] = (work_table.c.location_id, work_table.c.kind, STANDING.label("status"))
_ALL = sa.select(*_GROUPS, sa.func.count(), sa.func.min(SINCE).label("oldest_at")).select_from(WORK).group_by(*_GROUPS)
