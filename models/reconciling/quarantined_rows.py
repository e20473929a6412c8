"""Listed rows that could not be taken in, each by itself: the rest of its page and the later windows go on.

What is kept is enough to find the call at Leadway, or to ask its support: never what was said in it. A call that is
stored later by another way counts no more.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.calls import calls_table
from models.database import UtcDateTime, insert, metadata, moment
from models.reconciling.windows import KEPT_SECONDS, Window

TOO_LARGE = "too_large"
LATELY_SECONDS = 7 * 86_400.0
"""A row alarms for so long after it was listed last: a daily window lists it for three days."""

quarantined_rows_table = sa.Table(
    "quarantined_rows",
    metadata,
    sa.Column("location_id", sa.Text, primary_key=True),
    sa.Column("row_key", sa.Text, primary_key=True, comment="the row's digest, or its place in a list"),
    sa.Column("call_id", sa.Text, nullable=True, comment="if it has a usable one"),
    sa.Column("reason", sa.Text, nullable=False, comment="no_call_id, no_object, too_large, or the database's error"),
    sa.Column("window_from", UtcDateTime, nullable=False, comment="of the window that listed it last"),
    sa.Column("window_until", UtcDateTime, nullable=False),
    sa.Column("times", sa.Integer, nullable=False, default=1, comment="how often it was listed"),
    sa.Column("first_seen_at", UtcDateTime, nullable=False),
    sa.Column("last_seen_at", UtcDateTime, nullable=False),
    comment="listed rows that could not be taken in",
)


@dataclass(frozen=True)
class RefusedRow:
    """A row of a list that cannot become a call. `key`: the same whenever the same row is listed."""

    key: str
    reason: str
    call_id: str | None = None


def place_of(window: Window) -> str:
    """The key of a row of which only the place is known, because its page holds nothing else and cannot be read."""
    return f"{_list_of(window)}{window.next_page}"


def forget_places(connection: Connection, window: Window) -> None:
    """Deletes the rows of the window's current list of which only the place is known: they were none."""
    c = quarantined_rows_table.c
    places = c.row_key.startswith(_list_of(window), autoescape=True)
    connection.execute(sa.delete(quarantined_rows_table).where(c.location_id == window.location_id, places))


def _list_of(window: Window) -> str:
    return f"{window.call_type} {window.window_from.isoformat()} "


def record(connection: Connection, window: Window, rows: Iterable[RefusedRow]) -> None:
    for row in rows:
        values = {
            "location_id": window.location_id, "row_key": row.key, "call_id": row.call_id, "reason": row.reason,
            "window_from": window.window_from, "window_until": window.window_until, "times": 1,
            "first_seen_at": moment(), "last_seen_at": moment(),
        }  # fmt: skip
        statement = insert(connection, quarantined_rows_table).values(values)
        news = {name: statement.excluded[name] for name in ("call_id", "reason", "window_from", "window_until")}
        news |= {"times": quarantined_rows_table.c.times + 1, "last_seen_at": moment()}
        connection.execute(statement.on_conflict_do_update(index_elements=["location_id", "row_key"], set_=news))


def lately(connection: Connection) -> defaultdict[str, dict[str, int]]:
    """How many rows were listed in the last week and are no stored call, by account and reason."""
    c = quarantined_rows_table.c
    counted = sa.select(c.location_id, c.reason, sa.func.count()).where(
        c.last_seen_at > moment(-LATELY_SECONDS), IS_NO_CALL
    )
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    by = (c.location_id, c.reason)
    for location_id, reason, number in connection.execute(counted.group_by(*by).order_by(*by)):
        found[location_id][reason] = int(number)
    return found


def forget_old(connection: Connection, location_id: str) -> None:
    c = quarantined_rows_table.c
    old = sa.and_(c.location_id == location_id, c.last_seen_at < moment(-KEPT_SECONDS))
    connection.execute(sa.delete(quarantined_rows_table).where(old))


IS_NO_CALL = ~sa.exists().where(
    calls_table.c.location_id == quarantined_rows_table.c.location_id,
    calls_table.c.call_id == quarantined_rows_table.c.call_id,
)
