"""What a row of work is: its status, its lane, its kind, and the columns of its schedule.

A row that means work carries its own schedule. `next_attempt_at` of a running row is the end of its lease, so one
condition finds everything that is due.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import sqlalchemy as sa

from models.database import UtcDateTime, moment


class WorkStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    UNCLEAR = "unclear"
    """Of a follow-up: the CRM may or may not have executed the request."""
    DONE = "done"
    DEAD = "dead"
    """Dead-lettered: nothing happens until a person, a listing or a notification revives the row."""
    SKIPPED = "skipped"


POISON = "poison"
"""The cause of a dead row whose every attempt ended its worker process. Only a person revives it."""
OPEN = (WorkStatus.PENDING, WorkStatus.RUNNING, WorkStatus.UNCLEAR)
NOT_DONE = sa.text("status NOT IN ('done', 'skipped')")
"""As SQL text, because a partial index serves only a condition that is written like the index's own."""


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
    """A table whose rows are work, and the columns of its key."""

    name: str
    table: sa.Table
    key_columns: tuple[str, ...]
    after_abort: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Column values for a row whose attempt ended at an unknown step."""

    def matches(self, key: tuple[str, ...]) -> sa.ColumnElement[bool]:
        """The condition that selects the row of `key`."""
        return sa.and_(*(self.table.c[name] == value for name, value in zip(self.key_columns, key, strict=True)))

    def matches_parameters(self) -> sa.ColumnElement[bool]:
        """The same for a statement that is built once: `parameters(key)` gives the values at its execution."""
        return sa.and_(*(self.table.c[name] == sa.bindparam(f"this_{name}") for name in self.key_columns))

    def parameters(self, key: tuple[str, ...]) -> dict[str, str]:
        return {f"this_{name}": value for name, value in zip(self.key_columns, key, strict=True)}


def schedule_columns() -> tuple[sa.Column[Any], ...]:
    """The columns of the schedule, new ones for each table."""
    return (
        sa.Column("status", sa.Text, nullable=False, default=WorkStatus.PENDING),
        sa.Column("lane", sa.SmallInteger, nullable=False, default=Lane.LIVE),
        sa.Column("next_attempt_at", UtcDateTime, nullable=True, comment="null: nothing will happen by itself"),
        sa.Column("attempts", sa.Integer, nullable=False, default=0, comment="tries with an answer or a failure"),
        sa.Column(
            "failures", sa.Integer, nullable=False, default=0, comment="of those, what counts towards dead-lettering"
        ),
        sa.Column("fence", sa.Integer, nullable=False, default=0),
        sa.Column("lease_until", UtcDateTime, nullable=True),
        sa.Column("lost_leases", sa.Integer, nullable=False, default=0, comment="in a row; reset by any outcome"),
        sa.Column("lost_isolated", sa.Integer, nullable=False, default=0, comment="of those, lost in isolation"),
        sa.Column("isolated", sa.Boolean, nullable=False, default=False),
        sa.Column("requested", sa.Integer, nullable=False, default=0, comment="raised each time it is requested"),
        sa.Column("replayed", sa.Boolean, nullable=False, default=False, comment="by a person, since the claim"),
        sa.Column("claimed_at", UtcDateTime, nullable=True),
        sa.Column("running_on", sa.Text, nullable=True, comment="the worker that holds the lease"),
        sa.Column(
            "enqueued_at", UtcDateTime, nullable=True, comment="enqueue mark: when its message was put into Redis"
        ),
        sa.Column("enqueued_epoch", sa.Text, nullable=True, comment="the epoch of Redis that the message went into"),
        sa.Column("last_error", sa.Text, nullable=True),
        sa.Column("dead_cause", sa.Text, nullable=True),
    )


NEVER_TRIED: Mapping[str, Any] = {
    "attempts": 0, "failures": 0, "fence": 0, "lost_leases": 0, "lost_isolated": 0, "isolated": False,
    "replayed": False,
}  # fmt: skip
"""Column values of a new row, for statements that write its columns themselves."""


def is_in_background(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether the row's lane is a background lane."""
    return table.c.lane.in_([int(lane) for lane in Lane if lane.is_background])


def is_due(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether the row may be claimed now: it is open, and its due time or the end of its lease has come."""
    return sa.and_(table.c.status.in_(OPEN), table.c.next_attempt_at <= moment())
