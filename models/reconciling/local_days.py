"""The local days of each account: when each began and ended, and from when on Leadway's list can prove it.

SQL on SQLite knows no time zones, so what asks for the calls of a day and whether they are all there reads this table
on both databases.
"""

from datetime import UTC, date, datetime, time, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import Account, zone_named
from models.database import UtcDateTime, insert, metadata

PROVEN_AFTER = timedelta(minutes=25)
"""A call that began as the day ended may talk for 15 minutes, and takes 10 more until it is listed."""

local_days_table = sa.Table(
    "local_days",
    metadata,
    sa.Column("location_id", sa.Text, primary_key=True),
    sa.Column("local_day", sa.Date, primary_key=True),
    sa.Column("starts_at", UtcDateTime, nullable=False, comment="in the account's time zone, as it was then"),
    sa.Column("ends_at", UtcDateTime, nullable=False),
    sa.Column("proven_at", UtcDateTime, nullable=False, comment="the watermark that proves the day complete"),
    comment="the days of each account from its complete_from on",
)


def write(connection: Connection, account: Account, *, until: datetime) -> None:
    """Writes the days from the account's `complete_from` to `until` that are not there yet.

    A day that is there stays as it is when the account's time zone changes: its calls keep their day, too.
    """
    if account.complete_from is None:
        return
    zone = zone_named(account.time_zone)
    first, last = account.complete_from.astimezone(zone).date(), until.astimezone(zone).date()
    c = local_days_table.c
    known = connection.execute(
        sa.select(sa.func.min(c.local_day), sa.func.max(c.local_day)).where(c.location_id == account.location_id)
    ).one()
    missing = [each for each in _days(first, last) if known[0] is None or not known[0] <= each <= known[1]]
    if missing:
        rows = [{"location_id": account.location_id, **_bounds(each, account.time_zone)} for each in missing]
        connection.execute(insert(connection, local_days_table).on_conflict_do_nothing(), rows)


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def _bounds(day: date, time_zone: str) -> dict[str, date | datetime]:
    zone = zone_named(time_zone)
    starts_at, ends_at = (
        datetime.combine(each, time(), tzinfo=zone).astimezone(UTC) for each in (day, day + timedelta(days=1))
    )
    return {"local_day": day, "starts_at": starts_at, "ends_at": ends_at, "proven_at": ends_at + PROVEN_AFTER}
