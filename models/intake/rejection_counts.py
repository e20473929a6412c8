"""The rejection counts: how often notifications were rejected, by reason and hour, with a trace of the last one.

Counted is what leaves no row: the refused, and what Leadway signed for others or about other events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import Json, UtcDateTime, columns_of, insert, metadata, moment

IGNORED = frozenset(
    {
        *("event_type_not_wanted", "location_not_served", "location_missing"),
        *("not_utf8", "not_json", "not_an_object", "duplicate_keys", "too_deep", "number_out_of_range"),
    }
)
"""Reasons of what was answered `ignored`: nothing that a sender meant for us was refused."""

rejection_counts_table = sa.Table(
    "rejection_counts",
    metadata,
    sa.Column("reason", sa.Text, primary_key=True),
    sa.Column("hour", UtcDateTime, primary_key=True),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("last_at", UtcDateTime, nullable=False),
    sa.Column("trace", Json, nullable=True, comment="of the last one: size, content type, which credentials it had"),
    sa.Index("ix_rejection_counts_hour", "hour"),
)


@dataclass(frozen=True)
class RejectionCount:
    """A row of `rejection_counts`."""

    reason: str
    hour: datetime
    number: int
    last_at: datetime
    trace: Mapping[str, Any] | None


def count(connection: Connection, reason: str, *, number: int, trace: Mapping[str, Any]) -> None:
    """Adds `number` rejections of this hour. `trace` describes the last of them and is already redacted."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    connection.execute(
        insert(connection, rejection_counts_table)
        .values(reason=reason, hour=hour, number=number, last_at=moment(), trace=trace)
        .on_conflict_do_update(
            index_elements=["reason", "hour"],
            set_={"number": rejection_counts_table.c.number + number, "last_at": moment(), "trace": trace},
        )
    )


def since(connection: Connection, start: datetime) -> list[RejectionCount]:
    """The counts since `start`, newest hour first."""
    query = sa.select(*columns_of(rejection_counts_table, RejectionCount))
    newest_first = rejection_counts_table.c.hour.desc()
    rows = connection.execute(query.where(rejection_counts_table.c.hour >= start).order_by(newest_first))
    return [RejectionCount(*row) for row in rows]


@dataclass(frozen=True)
class RejectionSummary:
    """The rejections of one reason. `trace`: what the last one carried (`RejectionCounter.count`)."""

    reason: str
    number: int
    last_at: datetime
    trace: Mapping[str, Any]


def by_reason(counts: Sequence[RejectionCount]) -> list[RejectionSummary]:
    """Sums up each reason, the latest rejection first. `counts`: newest hour first."""
    found: dict[str, RejectionSummary] = {}
    for each in counts:
        newest = found.get(each.reason) or RejectionSummary(each.reason, 0, each.last_at, each.trace or {})
        found[each.reason] = replace(newest, number=newest.number + each.number)
    return sorted(found.values(), key=lambda each: each.last_at, reverse=True)
