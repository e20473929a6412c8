"""Pauses: why no work of an account, or of one kind, is claimed. An account may have several causes at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import UtcDateTime, columns_of, insert, metadata, moment

FIRST_PROBE_SECONDS = 30.0
"""The delay before the first probe of whether a pause has healed. Each next delay is twice as long."""
LONGEST_PROBE_SECONDS = 1800.0


class PauseCause(StrEnum):
    PERSON = "person"
    """A person paused it, and only a person resumes it."""
    TOKEN = "token"  # noqa: S105 - a cause, not a secret
    LOCATION = "location"
    SCOPE = "scope"
    """Pauses only the work that needs the scope."""
    VERSION = "version"


ALL_WORK = "all"

pauses_table = sa.Table(
    "pauses",
    metadata,
    sa.Column("location_id", sa.Text, sa.ForeignKey("accounts.location_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("cause", sa.Text, primary_key=True),
    sa.Column("work", sa.Text, primary_key=True, comment="call, follow_up, or all"),
    sa.Column("detail", sa.Text, nullable=False, comment="what to do about it, for a person"),
    sa.Column("paused_at", UtcDateTime, nullable=False),
    sa.Column("next_probe_at", UtcDateTime, nullable=True, comment="null: only a person ends it"),
    sa.Column("probes", sa.Integer, nullable=False, default=0),
)


@dataclass(frozen=True)
class Pause:
    """A row of `pauses`."""

    location_id: str
    cause: str
    work: str
    """call, follow_up, or all"""
    detail: str
    """What a person should do."""
    paused_at: datetime
    next_probe_at: datetime | None
    probes: int


def is_paused(table: sa.Table, work: str | sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    """Whether work of this kind is paused for the account of a row of `table`, which has a location_id."""
    pauses = sa.select(sa.literal(1)).where(
        pauses_table.c.location_id == table.c.location_id, pauses_table.c.work.in_((ALL_WORK, work))
    )
    return pauses.correlate_except(pauses_table).exists()


def pause(connection: Connection, location_id: str, *, cause: PauseCause, detail: str, work: str = ALL_WORK) -> bool:
    """Pauses the work of an account. Returns True when it was not paused for this cause before."""
    probe = None if cause is PauseCause.PERSON else moment(FIRST_PROBE_SECONDS)
    statement = (
        insert(connection, pauses_table)
        .values(
            location_id=location_id, cause=cause, work=work, detail=detail, paused_at=moment(), next_probe_at=probe,
            probes=0,
        )
        .on_conflict_do_nothing()
        .returning(pauses_table.c.cause)
    )  # fmt: skip
    return connection.execute(statement).first() is not None


def resume(
    connection: Connection,
    location_id: str,
    *,
    causes: Sequence[PauseCause] = tuple(PauseCause),
    work: str | None = None,
) -> bool:
    """Ends the pauses of these causes, of all work or of one kind. Returns True when there was one."""
    statement = sa.delete(pauses_table).where(
        pauses_table.c.location_id == location_id, pauses_table.c.cause.in_(causes)
    )
    if work is not None:
        statement = statement.where(pauses_table.c.work == work)
    return bool(connection.execute(statement.returning(pauses_table.c.cause)).all())


def is_a_probe_due(connection: Connection) -> bool:
    due = sa.select(sa.literal(1)).where(pauses_table.c.next_probe_at <= moment()).limit(1)
    return connection.execute(due).first() is not None


def due_probes(connection: Connection) -> list[Pause]:
    """Takes the pauses whose probe is due, and schedules their next probe: only this caller gets them now."""
    delay = sa.case(
        *((pauses_table.c.probes == n, min(LONGEST_PROBE_SECONDS, FIRST_PROBE_SECONDS * 2**n)) for n in range(1, 7)),
        else_=sa.case((pauses_table.c.probes == 0, FIRST_PROBE_SECONDS), else_=LONGEST_PROBE_SECONDS),
    )
    statement = (
        sa.update(pauses_table)
        .where(pauses_table.c.next_probe_at <= moment())
        .values(probes=pauses_table.c.probes + 1, next_probe_at=moment(delay))
        .returning(*columns_of(pauses_table, Pause))
    )
    return [Pause(*row) for row in connection.execute(statement)]


def all_of(connection: Connection) -> list[Pause]:
    """The pauses of every account, oldest first."""
    query = sa.select(*columns_of(pauses_table, Pause)).order_by(pauses_table.c.paused_at)
    return [Pause(*row) for row in connection.execute(query)]


def of_account(connection: Connection, location_id: str) -> list[Pause]:
    """The account's pauses, oldest first."""
    query = sa.select(*columns_of(pauses_table, Pause)).where(pauses_table.c.location_id == location_id)
    return [Pause(*row) for row in connection.execute(query.order_by(pauses_table.c.paused_at))]
