"""the read contract: the views of leadway_v1, their readers, and the local days of each account

Adds tables and views: code from before it may run beside it, and writes no local days until it is replaced.
"""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa
from alembic import op

from migrations import views

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "local_days",
        sa.Column("location_id", sa.Text(), nullable=False),
        sa.Column("local_day", sa.Date(), nullable=False),
        sa.Column(
            "starts_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="in the account's time zone, as it was then",
        ),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "proven_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="the watermark that proves the day complete",
        ),
        sa.PrimaryKeyConstraint("location_id", "local_day", name="pk_local_days"),
        comment="the days of each account from its complete_from on",
    )
    op.create_table(
        "readers",
        sa.Column("name", sa.Text(), nullable=False, comment="of the role"),
        sa.Column(
            "with_words", sa.Boolean(), nullable=False, comment="whether it sees what people said, numbers, notes"
        ),
        sa.Column("restricted", sa.Boolean(), nullable=False, comment="whether it sees its reader_locations only"),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_readers"),
        comment="the roles that leadway-calls readers has made",
    )
    op.create_table(
        "reader_locations",
        sa.Column("reader", sa.Text(), nullable=False),
        sa.Column("location_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reader"], ["readers.name"], name="fk_reader_locations_reader_readers", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("reader", "location_id", name="pk_reader_locations"),
        comment="the accounts that a restricted reader sees",
    )
    _write_days(op.get_bind())
    views.make(op.get_bind(), by=revision)


def downgrade() -> None:
    views.drop(op.get_bind())
    for name in ("reader_locations", "readers", "local_days"):
        op.drop_table(name)


def _write_days(connection: sa.Connection) -> None:
    times = sa.table("accounts", sa.column("location_id"), sa.column("time_zone"), *(
        sa.column(name, sa.DateTime(timezone=True)) for name in ("complete_from", "complete_until")
    ))  # fmt: skip
    days = sa.table("local_days", sa.column("location_id"), sa.column("local_day", sa.Date), *(
        sa.column(name, sa.DateTime(timezone=True)) for name in ("starts_at", "ends_at", "proven_at")
    ))  # fmt: skip
    for account in connection.execute(sa.select(times).where(times.c.complete_from.is_not(None))).all():
        rows = _days_of(account)
        if rows:
            connection.execute(sa.insert(days), rows)


def _days_of(account: Any) -> list[dict[str, Any]]:
    try:
        zone = ZoneInfo(account.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo("UTC")
    first, last = (_local_day(each, zone) for each in (account.complete_from, account.complete_until))
    rows = []
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        starts_at, ends_at = (
            datetime.combine(each, time(), tzinfo=zone).astimezone(UTC) for each in (day, day + timedelta(days=1))
        )
        at = {"starts_at": starts_at, "ends_at": ends_at, "proven_at": ends_at + timedelta(minutes=25)}
        rows.append({"location_id": account.location_id, "local_day": day, **at})
    return rows


def _local_day(at: datetime, zone: ZoneInfo) -> date:
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(zone).date()
