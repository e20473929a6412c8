"""The history of work: every attempt that ended, appended once and never changed (docs/decisions/0004)."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import UtcDateTime, metadata, moment
from models.work.work_rows import WorkKey, key_values


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
    sa.Column("kind", sa.Text, nullable=False, comment="of the work: call, follow_up, window, backfill, grant"),
    sa.Column("location_id", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False, comment="of the work: call id, follow-up id, slot of the window"),
    sa.Column("fence", sa.BigInteger, nullable=True, comment="null for lease_lost"),
    sa.Column("task_id", sa.Text, nullable=True),
    sa.Column("worker", sa.Text, nullable=True),
    sa.Column("started_at", UtcDateTime, nullable=True, comment="null for lease_lost: nobody came back to tell"),
    sa.Column("ended_at", UtcDateTime, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("error", sa.Text, nullable=True),
    sa.Column("http_status", sa.Integer, nullable=True),
    sa.Column("trace_id", sa.Text, nullable=True, comment="Leadway's, for their support"),
    sa.Index("ix_attempts_subject", "subject"),
)


APPENDED = ("kind", "location_id", "subject", "fence", "outcome", "started_at", "worker", "task_id")
"""The columns of an attempt that ended well."""


@dataclass(frozen=True)
class EndedAttempt:
    """A row of `attempts`."""

    kind: str
    subject: str
    worker: str | None
    started_at: datetime | None
    ended_at: datetime
    outcome: Outcome
    error: str | None
    http_status: int | None
    trace_id: str | None


def append(
    connection: Connection,
    key: WorkKey,
    *,
    fence: int | None,
    outcome: Outcome,
    started_at: datetime | None,
    worker: str | None,
    task_id: str | None,
    error: str | None = None,
    http_status: int | None = None,
    trace_id: str | None = None,
) -> None:
    """Appends one attempt at the work of `key`."""
    connection.execute(
        _APPEND,
        {
            **key_values(key), "fence": fence, "outcome": outcome, "started_at": started_at, "worker": worker,
            "task_id": task_id, "error": error, "http_status": http_status, "trace_id": trace_id,
        },
    )  # fmt: skip


_APPEND = sa.insert(attempts_table).values(ended_at=moment())


def of_subjects(connection: Connection, location_id: str, subjects: Collection[str]) -> list[EndedAttempt]:
    """The attempts at work of these subjects, as a call and its follow-ups, oldest first."""
    c = attempts_table.c
    rows = connection.execute(
        sa.select(*(c[name] for name in EndedAttempt.__dataclass_fields__))
        .where(c.location_id == location_id, c.subject.in_(subjects))
        .order_by(c.attempt_id)
    )
    return [EndedAttempt(**{**row._mapping, "outcome": Outcome(row.outcome)}) for row in rows]
