"""The table `work`: what the system owes and has not done yet, one row for each thing, whatever it is about.

A completed row leaves the table, so its size is the backlog's and never the history's. `due_at` of a leased row is the
end of its lease, so one condition finds everything that may be claimed; null means that only a person, a listing or a
notification makes the row due.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any

import sqlalchemy as sa

from models.database import UtcDateTime, metadata, moment

POISON = "poison"
"""The cause of a dead row whose every attempt ended its worker process. Only a person revives it."""


class WorkStatus(StrEnum):
    """Where a row of work stands, told from its columns: `status_of`."""

    PENDING = "pending"
    RUNNING = "running"
    DEAD = "dead"
    """Dead-lettered: nothing happens until a person, a listing or a notification revives the row."""


class Lane(IntEnum):
    """The priority of a row of work: a lower lane is dispatched first."""

    LIVE = 0
    FOLLOW_UP = 1
    RETRY = 2
    RECONCILED = 3
    BACKFILLED = 4

    @property
    def is_background(self) -> bool:
        """Whether nobody waits for the row."""
        return self > Lane.RETRY


@dataclass(frozen=True)
class WorkKind:
    """A kind of work: what its rows are about, and the Celery task that makes one attempt at a row."""

    name: str
    task: str | None
    """None: no task, because a person's command makes the attempts."""
    queue: str
    paused_as: str
    """The name under which a pause of one kind of work stops this one."""
    may_die: bool = True
    """False: the row is tried until it succeeds, however often it fails."""


@dataclass(frozen=True)
class WorkKey:
    """What a row of work is about. `subject` tells the rows of one kind and account apart."""

    kind: WorkKind
    location_id: str
    subject: str

    @property
    def parameters(self) -> dict[str, str]:
        """The values of the statements that select the row by `IS_THIS_ROW`."""
        return {"this_kind": self.kind.name, "this_location": self.location_id, "this_subject": self.subject}


@dataclass(frozen=True)
class Request:
    """How a call became known and what was asked of it, until its log is stored with these facts."""

    first_heard_at: datetime
    announced_at: datetime | None
    origin: str
    wants_follow_ups: bool


work_table = sa.Table(
    "work",
    metadata,
    sa.Column("kind", sa.Text, primary_key=True, comment="call, follow_up, window, backfill, grant"),
    sa.Column("location_id", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True, comment="call id, follow-up id, slot of the window"),
    sa.Column("lane", sa.SmallInteger, nullable=False),
    sa.Column("due_at", UtcDateTime, nullable=True, comment="or the end of its lease; null: nothing happens by itself"),
    sa.Column("attempts", sa.Integer, nullable=False, comment="tries with an answer or a failure"),
    sa.Column("failures", sa.Integer, nullable=False, comment="of those, what counts towards dead-lettering"),
    sa.Column("fence", sa.BigInteger, nullable=False, comment="of its last claim; from one sequence for all rows"),
    sa.Column("lease_until", UtcDateTime, nullable=True, comment="null: no attempt is under way"),
    sa.Column("lease_lost_at", UtcDateTime, nullable=True, comment="end of the run-out lease that the claim took over"),
    sa.Column("claimed_at", UtcDateTime, nullable=True),
    sa.Column("running_on", sa.Text, nullable=True, comment="the worker that holds the lease"),
    sa.Column("lost_leases", sa.Integer, nullable=False, comment="in a row; reset by any outcome"),
    sa.Column("lost_isolated", sa.Integer, nullable=False, comment="of those, lost in isolation"),
    sa.Column("isolated", sa.Boolean, nullable=False),
    sa.Column("requested", sa.Integer, nullable=False, comment="raised each time it is requested"),
    sa.Column("enqueued_at", UtcDateTime, nullable=True, comment="enqueue mark: when its message was put into Redis"),
    sa.Column("enqueued_epoch", sa.Text, nullable=True, comment="the epoch of Redis that the message went into"),
    sa.Column("last_error", sa.Text, nullable=True),
    sa.Column("dead_cause", sa.Text, nullable=True, comment="why it was given up; null: it was not"),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("first_heard_at", UtcDateTime, nullable=True, comment="of a call that is not stored yet"),
    sa.Column("announced_at", UtcDateTime, nullable=True, comment="likewise: when its notification came"),
    sa.Column("origin", sa.Text, nullable=True, comment="likewise: notification, reconcile, backfill"),
    sa.Column("wants_follow_ups", sa.Boolean, nullable=True, comment="likewise"),
    # Rows come and go all the time, and are rewritten in place.
    postgresql_with={"fillfactor": 70, "autovacuum_vacuum_scale_factor": 0, "autovacuum_vacuum_threshold": 1000},
)
_HAS_DUE_TIME = work_table.c.due_at.is_not(None)
_IS_IN_FLIGHT = sa.or_(work_table.c.enqueued_at.is_not(None), work_table.c.lease_until.is_not(None))
NOT_FOUND = "not_found"
"""The last error of a call that Leadway does not find."""
_IS_NOT_FOUND = work_table.c.last_error == sa.literal_column(f"'{NOT_FOUND}'")
sa.Index("ix_work_not_found", work_table.c.location_id, postgresql_where=_IS_NOT_FOUND, sqlite_where=_IS_NOT_FOUND)
sa.Index("ix_work_due_at", work_table.c.due_at, postgresql_where=_HAS_DUE_TIME, sqlite_where=_HAS_DUE_TIME)
sa.Index(
    "ix_work_lane", work_table.c.location_id, work_table.c.lane, work_table.c.due_at, postgresql_where=_HAS_DUE_TIME,
    sqlite_where=_HAS_DUE_TIME,
)  # fmt: skip
sa.Index("ix_work_in_flight", work_table.c.location_id, postgresql_where=_IS_IN_FLIGHT, sqlite_where=_IS_IN_FLIGHT)

IS_THIS_ROW = sa.and_(
    work_table.c.kind == sa.bindparam("this_kind"),
    work_table.c.location_id == sa.bindparam("this_location"),
    work_table.c.subject == sa.bindparam("this_subject"),
)
"""The condition of the row with a key, for statements that are built once. Parameters: `WorkKey.parameters`."""
IS_DUE = work_table.c.due_at <= moment()
IS_LEASED = work_table.c.lease_until.is_not(None)
IS_DEAD = work_table.c.dead_cause.is_not(None)
IS_IN_BACKGROUND = work_table.c.lane.in_([int(lane) for lane in Lane if lane.is_background])
STATUS = sa.case((IS_DEAD, WorkStatus.DEAD), (IS_LEASED, WorkStatus.RUNNING), else_=WorkStatus.PENDING)

NEW: Mapping[str, Any] = {
    "attempts": 0, "failures": 0, "fence": 0, "lost_leases": 0, "lost_isolated": 0, "isolated": False, "requested": 1,
    "created_at": moment(),
}  # fmt: skip
"""The column values of a new row, beside its key, lane and due time."""
RELEASED: Mapping[str, Any] = {
    "lease_until": None, "lease_lost_at": None, "claimed_at": None, "running_on": None, "lost_leases": 0,
    "lost_isolated": 0, "isolated": False, "enqueued_at": None, "enqueued_epoch": None,
}  # fmt: skip
"""The column values that end a lease."""
REVIVED: Mapping[str, Any] = {
    "failures": 0, "lost_leases": 0, "lost_isolated": 0, "isolated": False, "dead_cause": None, "enqueued_at": None,
    "enqueued_epoch": None, "requested": work_table.c.requested + 1,
    "due_at": sa.case((IS_LEASED, work_table.c.due_at), else_=moment()),
}  # fmt: skip
"""The column values that make a row due as if it were new, because somebody asks for it. They end no lease: what runs
is repeated, because `requested` is another one when it ends."""

REQUEST_COLUMNS = tuple(work_table.c[name] for name in Request.__dataclass_fields__)


def key_values(key: WorkKey) -> dict[str, str]:
    """The key as column values."""
    return {"kind": key.kind.name, "location_id": key.location_id, "subject": key.subject}


def request_of(row: Any) -> Request | None:
    """The request of a row of `work`; None: it is about no call, or the call is stored.

    A call that was announced while it was being stored has one too: what was heard meanwhile counts.
    """
    if row.first_heard_at is None and row.announced_at is None:
        return None
    return Request(row.first_heard_at or row.created_at, row.announced_at, row.origin, bool(row.wants_follow_ups))
