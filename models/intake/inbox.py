"""The inbox: notifications that were received and not yet taken in, one row for each arrival, repeats too.

Append-only: the web process INSERTs a row and answers, `workers.take_in` DELETEs it, nobody updates one. So no receipt
waits for a lock, and a repeat that comes while its first is being taken in cannot be overlooked
(docs/decisions/0064).
"""

import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import OWN_FILE, Database, UtcDateTime, metadata, now, on_postgresql
from models.driver_rows import NOW, as_json, rows_of_json, tuple_maker, value_of_json
from models.intake import taken_arrivals
from models.intake.notifications import Arrival, NotificationStatus, told_columns
from models.intake.taken_arrivals import taken_arrivals_table

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
class Waiting:
    """How many arrivals wait to be taken in, and for how long the oldest has waited."""

    number: int
    oldest_seconds: float

    @property
    def is_too_long(self) -> bool:
        """A worker that is alive takes in within a second."""
        return self.oldest_seconds > TAKEN_IN_WITHIN_SECONDS


def put_all(connection: Connection, arrivals: Sequence[Arrival]) -> None:
    """Writes arrivals down in one statement, each once by its arrival id; those without a time get the database's."""
    statement, parameters = _putting(connection, arrivals)
    connection.exec_driver_sql(statement, parameters)


def put_and_look(connection: Connection, arrivals: Sequence[Arrival]) -> set[str]:
    """The same, and returns the arrival ids of those that are repeats of what waits or was taken in.

    The look takes no lock of a row, but waits where somebody locks the whole table `notifications`.
    """
    statement, parameters = _putting(connection, arrivals)
    rows = connection.exec_driver_sql(statement + _LOOK, parameters).all()
    return {arrival_id for arrival_id, is_repeat in rows if is_repeat}


def _putting(connection: Connection, arrivals: Sequence[Arrival]) -> tuple[str, tuple[Any, ...]]:
    """The statement for so many rows, and its parameters. What each receipt executes goes to the driver as it is."""
    rows = [arrival.__dict__ for arrival in arrivals]
    if on_postgresql(connection):
        return _PUT_IN_POSTGRESQL, (as_json(rows),)
    return _put_in_sqlite(len(rows)), tuple(chain.from_iterable(_AS_TUPLE(row) for row in rows))


_FIELDS = tuple(Arrival.__dataclass_fields__)
_COLUMNS = {name: inbox_table.c[name].type for name in _FIELDS}
_AS_TUPLE = tuple_maker(_COLUMNS)


def _insert(values: str) -> str:
    return f"INSERT INTO inbox ({', '.join(_FIELDS)}) {values} ON CONFLICT (arrival_id) DO NOTHING"


def _put_in_postgresql() -> str:
    values = {name: value_of_json(_COLUMNS, name) for name in _FIELDS}
    values["received_at"] = f"coalesce({values['received_at']}, {NOW['postgresql']})"
    return _insert(f"SELECT {', '.join(values.values())} FROM {rows_of_json(_COLUMNS)}")  # noqa: S608


@lru_cache(maxsize=256)
def _put_in_sqlite(number: int) -> str:
    one = ", ".join(f"coalesce(?, {NOW['sqlite']})" if name == "received_at" else "?" for name in _FIELDS)
    return _insert(f"VALUES {', '.join([f'({one})'] * number)}")


_PUT_IN_POSTGRESQL = _put_in_postgresql()
# CAST, for in SQLite's RETURNING a column has no affinity, and no index would be used.
_LOOK = (
    " RETURNING arrival_id,"
    " EXISTS (SELECT 1 FROM notifications n WHERE n.dedupe_key = CAST(inbox.dedupe_key AS text))"
    " OR EXISTS (SELECT 1 FROM inbox i"
    " WHERE i.dedupe_key = CAST(inbox.dedupe_key AS text) AND i.number + 0 < inbox.number)"
)


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
    found = oldest(connection, after=bound.after(at))
    if found:
        bound.record(at, found[-1])
    return found


def oldest(connection: Connection, *, after: int = 0) -> list[int]:
    """The numbers of the ARRIVALS_AT_ONCE oldest rows after this number."""
    return list(connection.execute(_OLDEST, {"after": after}).scalars())


def take(connection: Connection, these: Sequence[int]) -> dict[int, Arrival]:
    """Deletes those of the rows that are there, and returns them by their number, the earliest first.

    Leaves out rows that another transaction is taking at this moment. On SQLite, where the inbox is a file of its own,
    they stay until `forget` is called after the commit, and those that were taken before are left out.
    """
    if not on_postgresql(connection):
        return _take_from_file(connection, these)
    free = list(connection.execute(_FREE, {"these": these}).scalars())
    return _as_arrivals(connection.execute(_TAKE, {"these": free})) if free else {}


def _take_from_file(connection: Connection, these: Sequence[int]) -> dict[int, Arrival]:
    connection.execute(_FORGET_WHAT_HAS_LEFT)
    rows = read(connection, these)
    new = taken_arrivals.remember(connection, {each.arrival_id for each in rows.values()})
    return {number: each for number, each in rows.items() if each.arrival_id in new}


def read(connection: Connection, these: Sequence[int]) -> dict[int, Arrival]:
    """The rows by their number, the earliest first."""
    return _as_arrivals(connection.execute(_READ, {"these": these}))


def arrival_ids(connection: Connection, these: Sequence[int]) -> list[str]:
    return list(connection.execute(_ARRIVAL_IDS, {"these": these}).scalars())


def delete(connection: Connection, these: Collection[int]) -> None:
    connection.execute(_DELETE, {"these": sorted(these)})


def forget(database: Database, these: Collection[int]) -> None:
    """Deletes rows that were taken and committed, where `take` did not."""
    if database.inbox is not database and these:
        database.inbox.transact(lambda connection: delete(connection, these))


def _as_arrivals(rows: Iterable[sa.Row[Any]]) -> dict[int, Arrival]:
    return {
        int(row.number): Arrival(
            **{**{name: row._mapping[name] for name in _FIELDS}, "status": NotificationStatus(row.status)}
        )
        for row in sorted(rows, key=lambda row: int(row.number))
    }


_NUMBER = inbox_table.c.number
_IS_ONE_OF_THESE = _NUMBER.in_(sa.bindparam("these", expanding=True))
_OLDEST = (
    sa.select(_NUMBER)
    .where(sa.bindparam("after", type_=sa.BigInteger) < _NUMBER)
    .order_by(_NUMBER)
    .limit(ARRIVALS_AT_ONCE)
)
_FREE = sa.select(_NUMBER).where(_IS_ONE_OF_THESE).order_by(_NUMBER).with_for_update(skip_locked=True)
_WHOLE = (_NUMBER, *(inbox_table.c[name] for name in _FIELDS))
_ARRIVAL_IDS = sa.select(inbox_table.c.arrival_id).where(_IS_ONE_OF_THESE)
_READ = sa.select(*_WHOLE).where(_IS_ONE_OF_THESE)
_FORGET_WHAT_HAS_LEFT = sa.delete(taken_arrivals_table).where(
    taken_arrivals_table.c.arrival_id.not_in(sa.select(inbox_table.c.arrival_id))
)
_DELETE = sa.delete(inbox_table).where(_IS_ONE_OF_THESE)
_TAKE = _DELETE.returning(*_WHOLE)
"""By a list of numbers, not by a subquery: planned for a table of dead rows, that would read the whole table."""


def waiting(connection: Connection, location_id: str | None = None) -> Waiting:
    """What waits now, of one account or of all."""
    query = sa.select(sa.func.count().label("number"), sa.func.min(inbox_table.c.received_at).label("oldest_at"))
    if location_id is not None:
        query = query.where(inbox_table.c.location_id == location_id)
    row = connection.execute(query).one()
    seconds = (now(connection) - row.oldest_at).total_seconds() if row.number else 0.0
    return Waiting(row.number, max(0.0, seconds))
