"""The inbox: notifications that were received and not yet taken in, one row for each arrival, repeats too.

Append-only: the web process INSERTs a row and answers, `workers.take_in` DELETEs it, nobody updates one. So no receipt
waits for a lock, and a repeat that comes while its first is being taken in cannot be overlooked
(docs/decisions/0064).
"""

import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table
from models.database import OWN_FILE, Database, UtcDateTime, metadata, moment, now, on_postgresql
from models.intake.notifications import Arrival, NotificationStatus, notifications_table, told_columns

ARRIVALS_AT_ONCE = 100
"""Rows that one transaction takes at most. On SQLite it keeps receipts waiting meanwhile."""
TAKEN_IN_WITHIN_SECONDS = 30.0
COMMITTED_WITHIN_SECONDS = 60.0
WHOLE_SCAN_SECONDS = 60.0
OF_A_QUEUE = {
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_cost_delay": 0,
    "autovacuum_analyze_scale_factor": 0,
    "autovacuum_analyze_threshold": 1000,
}
"""PostgreSQL: vacuumed by the number of dead rows, for the table is almost empty and each row dies within a second.
No fill factor, because no row is updated."""

inbox_table = sa.Table(
    "inbox",
    metadata,
    sa.Column("number", sa.Integer().with_variant(sa.BigInteger, "postgresql"), primary_key=True, autoincrement=True),
    sa.Column("arrival_id", sa.Text, nullable=False, unique=True, comment="minted by the receiver"),
    sa.Column("dedupe_key", sa.Text, nullable=False, index=True, comment="what tells a repeat from a new one"),
    *told_columns(),
    sa.Column("received_at", UtcDateTime, nullable=False),
    sqlite_autoincrement=True,  # else an empty table begins at 1 again, which scans and whoever quarantines have passed
    postgresql_with=OF_A_QUEUE,
    info={OWN_FILE: True},
)


@dataclass(frozen=True)
class Look:
    """What a receipt sees of the database without a lock: enough for its answer, decided again when it is taken in."""

    is_repeat: bool
    is_served: bool


@dataclass(frozen=True)
class Waiting:
    """How many arrivals wait to be taken in, and for how long the oldest has waited."""

    number: int
    oldest_seconds: float

    @property
    def is_too_long(self) -> bool:
        """A worker that is alive takes in within a second."""
        return self.oldest_seconds > TAKEN_IN_WITHIN_SECONDS


def look(connection: Connection, arrival: Arrival) -> Look:
    """Whether its notification came before, and whether its account is served."""
    row = connection.execute(_LOOK, {"this_key": arrival.dedupe_key, "this_location": arrival.location_id}).one()
    return Look(is_repeat=row.is_repeat, is_served=row.is_served)


_KEY, _LOCATION = sa.bindparam("this_key", type_=sa.Text), sa.bindparam("this_location", type_=sa.Text)
_LOOK = sa.select(
    sa.or_(
        sa.exists().where(notifications_table.c.dedupe_key == _KEY), sa.exists().where(inbox_table.c.dedupe_key == _KEY)
    ).label("is_repeat"),
    sa.exists()
    .where(accounts_table.c.location_id == _LOCATION, accounts_table.c.removed_at.is_(None))
    .label("is_served"),
)


def put(connection: Connection, arrival: Arrival) -> None:
    """Writes the arrival down: the one statement of a receipt."""
    values = {name: getattr(arrival, name) for name in _FIELDS if name != "received_at"}
    connection.execute(_PUT, values)


_FIELDS = tuple(Arrival.__dataclass_fields__)
_PUT = sa.insert(inbox_table).values(received_at=moment())


class ScanBound:
    """The number that a process' scans begin after: the greatest one that it saw COMMITTED_WITHIN_SECONDS ago.

    PostgreSQL cannot remove the index entries of deleted rows while a reader holds an old snapshot, and a scan from the
    beginning would read all of them. A row may be committed later than others with greater numbers, hence the delay;
    every WHOLE_SCAN_SECONDS a scan begins at the beginning nevertheless.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._after, self._from_beginning_at = 0, -WHOLE_SCAN_SECONDS

    def after(self, at: float) -> int:
        """The number to begin after. `at`: monotonic seconds."""
        while self._seen and at - self._seen[0][0] >= COMMITTED_WITHIN_SECONDS:
            self._after = self._seen.popleft()[1]
        if at - self._from_beginning_at < WHOLE_SCAN_SECONDS:
            return self._after
        self._from_beginning_at = at
        return 0

    def record(self, at: float, number: int) -> None:
        """The greatest number that a scan saw."""
        self._seen.append((at, number))


def numbers(connection: Connection, bound: ScanBound) -> list[int]:
    """The numbers of the ARRIVALS_AT_ONCE oldest rows, without a lock."""
    at = time.monotonic()
    found = list(connection.execute(_OLDEST, {"after": bound.after(at)}).scalars())
    if found:
        bound.record(at, found[-1])
    return found


def take(connection: Connection, number: int | None = None, *, after: int = 0) -> dict[int, Arrival]:
    """Deletes the ARRIVALS_AT_ONCE oldest rows, or the one with this number, and returns them by their number, the
    earliest first. `after`: a number before all of them.

    Leaves out rows that another transaction is taking at this moment. On SQLite, where the inbox is a file of its own,
    they stay until `forget` is called after the commit.
    """
    if not on_postgresql(connection):
        these = _OLDEST_WHOLE if number is None else _ONE_WHOLE
        return _as_arrivals(connection.execute(these, {"after": after, "this": number}))
    free = (
        connection.execute(_OLDEST_FREE, {"after": after})
        if number is None
        else connection.execute(_ONE_FREE, {"this": number})
    )
    taken = list(free.scalars())
    return _as_arrivals(connection.execute(_DELETE.returning(*_TAKEN), {"these": taken})) if taken else {}


def forget(database: Database, numbers: Collection[int]) -> None:
    """Deletes rows that were taken and committed, where `take` did not. A crash before it leaves them to be taken once
    more: `notifications.not_merged` knows them."""
    if database.inbox is not database and numbers:
        database.inbox.transact(lambda connection: connection.execute(_DELETE, {"these": sorted(numbers)}))


def _as_arrivals(rows: Iterable[sa.Row[Any]]) -> dict[int, Arrival]:
    return {
        int(row.number): Arrival(
            **{**{name: row._mapping[name] for name in _FIELDS}, "status": NotificationStatus(row.status)}
        )
        for row in sorted(rows, key=lambda row: int(row.number))
    }


_NUMBER = inbox_table.c.number
_TAKEN = (_NUMBER, *(inbox_table.c[name] for name in _FIELDS))
_IS_THIS = sa.bindparam("this", type_=sa.BigInteger) == _NUMBER
_IS_LATER = sa.bindparam("after", type_=sa.BigInteger) < _NUMBER
_OLDEST = sa.select(_NUMBER).where(_IS_LATER).order_by(_NUMBER).limit(ARRIVALS_AT_ONCE)
_OLDEST_WHOLE = _OLDEST.with_only_columns(*_TAKEN)
_ONE_WHOLE = sa.select(*_TAKEN).where(_IS_THIS)
_OLDEST_FREE = _OLDEST.with_for_update(skip_locked=True)
_ONE_FREE = sa.select(_NUMBER).where(_IS_THIS).with_for_update(skip_locked=True)
_DELETE = sa.delete(inbox_table).where(_NUMBER.in_(sa.bindparam("these", expanding=True)))
"""By a list of numbers, not by a subquery: planned for a table of dead rows, that would read the whole table."""


def waiting(connection: Connection, location_id: str | None = None) -> Waiting:
    """What waits now, of one account or of all."""
    query = sa.select(sa.func.count().label("number"), sa.func.min(inbox_table.c.received_at).label("oldest_at"))
    if location_id is not None:
        query = query.where(inbox_table.c.location_id == location_id)
    row = connection.execute(query).one()
    seconds = (now(connection) - row.oldest_at).total_seconds() if row.number else 0.0
    return Waiting(row.number, max(0.0, seconds))
