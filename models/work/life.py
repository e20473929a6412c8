"""The database's life: a new one begins when the database has forgotten something that it had committed.

A restored backup and a failover that lost its last commits forget which notes were written. So from the first claim of
a new life on, every follow-up that may have been written before is looked for (docs/decisions/0080).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import accounts
from models.database import UtcDateTime, columns_of, insert, metadata, moment, on_postgresql
from models.work import fences

LISTED_ANEW_WITHIN = timedelta(minutes=15)


class Cause(StrEnum):
    """Why a life began."""

    CREATED = "created"
    FENCES_BEHIND = "fences_behind"
    """A greater fence than the database knows was seen outside of it."""
    ANOTHER_SERVER = "another_server"
    """PostgreSQL's system identifier or timeline is another one."""
    NOT_KNOWN_OUTSIDE = "not_known_outside"
    """There are follow-ups, and nothing outside of the database tells how far it had come."""
    PERSON = "person"


lives_table = sa.Table(
    "lives",
    metadata,
    sa.Column(
        "number", sa.BigInteger, primary_key=True, autoincrement=False, comment="the greatest is the present one"
    ),
    sa.Column("began_at", UtcDateTime, nullable=False),
    sa.Column("cause", sa.Text, nullable=False, comment=", ".join(Cause)),
    sa.Column("database_id", sa.Text, nullable=False, comment="names this database outside of it; copies keep it"),
    sa.Column("server", sa.Text, nullable=True, comment="PostgreSQL's system identifier and timeline, where it tells"),
)


@dataclass(frozen=True)
class Life:
    """A row of `lives`."""

    number: int
    began_at: datetime
    cause: str
    database_id: str
    server: str | None


def current(connection: Connection) -> Life:
    """The life that the database is in."""
    return Life(*connection.execute(_CURRENT).one())


_CURRENT = sa.select(*columns_of(lives_table, Life)).order_by(lives_table.c.number.desc()).limit(1)


def why_new(connection: Connection, life: Life, *, seen_outside: int | None) -> Cause | None:
    """Why a new life has begun; None: the database remembers everything, as far as can be told.

    `seen_outside`: the greatest fence that is known outside of the database, read before this is called; None: none is
    known. A false alarm costs a look for each follow-up that waits.
    """
    if seen_outside is not None and fences.last(connection) < seen_outside:
        return Cause.FENCES_BEHIND
    server = _server(connection)
    if server is not None and life.server is not None and server != life.server:
        return Cause.ANOTHER_SERVER
    if seen_outside is None and connection.execute(_HAS_FOLLOW_UPS).first() is not None:
        return Cause.NOT_KNOWN_OUTSIDE
    return None


_HAS_FOLLOW_UPS = sa.select(sa.literal(1)).select_from(sa.table("follow_ups")).limit(1)


def begin(connection: Connection, before: Life, cause: Cause) -> bool:
    """Begins the life after `before`, and lists every account's lost span soon. False: another process was first.

    To be committed before `move_fences`: a fence of a life that is not there would protect nothing.
    """
    values = {
        "number": before.number + 1, "began_at": moment(), "cause": cause, "database_id": before.database_id,
        "server": _server(connection),
    }  # fmt: skip
    new = insert(connection, lives_table).values(values).on_conflict_do_nothing().returning(lives_table.c.number)
    if connection.execute(new).first() is None:
        return False
    accounts.list_soon(connection)
    return True


def move_fences(connection: Connection) -> None:
    """Moves the fences above those of all earlier lives, where that was not done yet."""
    life = current(connection)
    if fences.life_of(fences.last(connection)) < life.number:
        connection.execute(sa.select(lives_table.c.number).where(lives_table.c.number == life.number).with_for_update())
        fences.move_to(connection, fences.first_of(life.number))


def first_fence(connection: Connection) -> int:
    """Less than every fence of the present life, and greater than those of all lives before."""
    return fences.first_of(current(connection).number)


def is_young(present: Life, *, at: datetime) -> bool:
    """Whether a new life has begun a moment before `at`: what it has forgotten is being listed again."""
    return bool(present.number) and at - present.began_at < LISTED_ANEW_WITHIN


def know_server(connection: Connection, life: Life) -> None:
    """Keeps which server the database is on, in the first life that it could be asked in."""
    server = None if life.server is not None else _server(connection)
    if server is not None:
        unknown = sa.and_(lives_table.c.number == life.number, lives_table.c.server.is_(None))
        connection.execute(sa.update(lives_table).where(unknown).values(server=server))


def _server(connection: Connection) -> str | None:
    """PostgreSQL's system identifier and timeline; None: it does not tell, or SQLite."""
    if not on_postgresql(connection) or not connection.execute(_MAY_ASK).scalar_one():
        return None
    return str(connection.execute(_SERVER).scalar_one())


_MAY_ASK = sa.text(
    "SELECT has_function_privilege('pg_control_system()', 'execute')"
    " AND has_function_privilege('pg_walfile_name(pg_lsn)', 'execute') AND NOT pg_is_in_recovery()"
)
_SERVER = sa.text(
    "SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()"
)
"""The timeline from the file that is being written: a promotion shows there at once, in the control file later."""
