"""Open work as people see it: what is waiting, running or dead, and why."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.work.work_rows import (
    IS_THIS_ROW,
    POISON,
    STATUS,
    Lane,
    Request,
    WorkKey,
    WorkKind,
    WorkStatus,
    request_of,
    work_table,
)


@dataclass(frozen=True)
class OpenWork:
    """A row of `work`."""

    subject: str
    status: WorkStatus
    lane: Lane
    due_at: datetime | None
    attempts: int
    failures: int
    lost_leases: int
    requested: int
    lease_until: datetime | None
    running_on: str | None
    last_error: str | None
    dead_cause: str | None
    created_at: datetime
    request: Request | None

    @property
    def may_be_revived(self) -> bool:
        """Whether the row is dead and more than a person may revive it."""
        return self.dead_cause not in (None, POISON)


def get(connection: Connection, key: WorkKey) -> OpenWork | None:
    """The row as it stands; None: nothing is open."""
    row = connection.execute(_SELECT.where(IS_THIS_ROW), key.parameters).first()
    return None if row is None else _open_work(row)


def of_subjects(
    connection: Connection, kind: WorkKind, location_id: str, subjects: Collection[str]
) -> dict[str, OpenWork]:
    """The open rows of one kind and account by their subject."""
    c = work_table.c
    these = sa.and_(c.kind == kind.name, c.location_id == location_id, c.subject.in_(subjects))
    return {row.subject: _open_work(row) for row in connection.execute(_SELECT.where(these))}


_SELECT = sa.select(work_table, STATUS.label("status"))


def _open_work(row: Any) -> OpenWork:
    told = {name: row._mapping[name] for name in OpenWork.__dataclass_fields__ if name in row._fields}
    enums = {"status": WorkStatus(row.status), "lane": Lane(row.lane)}
    return OpenWork(**{**told, **enums, "request": request_of(row)})
