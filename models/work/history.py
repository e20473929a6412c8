"""The history of work: every attempt that ended, appended once and never changed (docs/decisions/0004)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import UtcDateTime, columns_of, metadata, moment


class Outcome(StrEnum):
    """How an attempt ended, as the `attempts` table tells it."""

    DONE = "done"
    UNSETTLED = "unsettled"
    POSTPONED = "postponed"
    FAILED = "failed"
    UNCLEAR = "unclear"
    DEAD = "dead"
    LEASE_LOST = "lease_lost"
    DROPPED = "dropped"


attempts_table = sa.Table(
    "attempts",
    metadata,
    sa.Column("attempt_id", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True),
    sa.Column("work", sa.Text, nullable=False, comment="call or follow_up"),
    sa.Column("location_id", sa.Text, nullable=False),
    sa.Column("call_id", sa.Text, nullable=False),
    sa.Column("follow_up_id", sa.Text, nullable=True),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("task_id", sa.Text, nullable=True),
    sa.Column("worker", sa.Text, nullable=True),
    sa.Column("started_at", UtcDateTime, nullable=True, comment="null for lease_lost: nobody came back to tell"),
    sa.Column("ended_at", UtcDateTime, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=True),
    sa.Column("http_status", sa.Integer, nullable=True),
    sa.Column("trace_id", sa.Text, nullable=True, comment="Leadway's, for their support"),
    sa.Index("ix_attempts_call", "location_id", "call_id"),
    sa.Index("ix_attempts_follow_up", "follow_up_id"),
)


@dataclass(frozen=True)
class Attempt:
    """A row of `attempts`."""

    attempt_id: int
    work: str
    location_id: str
    call_id: str
    follow_up_id: str | None
    fence: int
    task_id: str | None
    worker: str | None
    started_at: datetime | None
    ended_at: datetime
    outcome: str
    error: str | None
    http_status: int | None
    trace_id: str | None


def append(
    connection: Connection,
    row: Mapping[str, Any],
    *,
    work: str,
    fence: int,
    outcome: Outcome,
    started_at: datetime | None,
    worker: str | None,
    task_id: str | None,
    **facts: Any,
) -> None:
    """Appends one attempt at `row`, a row of work. Facts are `error`, `http_status` and `trace_id`."""
    attempt = {
        "work": work,
        "location_id": row["location_id"],
        "call_id": row["call_id"],
        "follow_up_id": row.get("follow_up_id"),
        "fence": fence,
        "task_id": task_id,
        "worker": worker,
        "started_at": started_at,
        "outcome": outcome,
    }
    connection.execute(_APPEND, {**attempt, **facts})


_APPEND = sa.insert(attempts_table).values(ended_at=moment())


def of_call(connection: Connection, location_id: str, call_id: str) -> list[Attempt]:
    """The attempts at a call and at its follow-ups, oldest first."""
    return _attempts(connection, attempts_table.c.location_id == location_id, attempts_table.c.call_id == call_id)


def of_follow_up(connection: Connection, follow_up_id: str) -> list[Attempt]:
    return _attempts(connection, attempts_table.c.follow_up_id == follow_up_id)


def _attempts(connection: Connection, *conditions: sa.ColumnElement[bool]) -> list[Attempt]:
    these = sa.select(*columns_of(attempts_table, Attempt)).where(*conditions).order_by(attempts_table.c.attempt_id)
    return [Attempt(*row) for row in connection.execute(these)]
