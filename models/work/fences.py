"""Fences: the number of every claim, from one sequence for all kinds of work, so that readings can be ordered by it.

A fence has 24 bits for the life of the database (models/work/life.py) and 40 for the number within it. PostgreSQL has
the sequence `fence_numbers`. SQLite has no sequences: `fence_counter` has one row, the number of the last fence, which
changes under the database's write lock. Neither is one of `metadata`'s tables: each exists on one database only.
"""

import threading

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from models.database import on_postgresql

BITS_OF_THE_NUMBER = 40


class GreatestFence:
    """What one process remembers of the fences it has seen, whatever the database remembers."""

    def __init__(self) -> None:
        self.number = 0
        self.database_id: str | None = None
        """As the database tells it; None: it was not asked yet."""
        self._lock = threading.Lock()

    @property
    def redis_key(self) -> str:
        """Where Redis keeps the greatest one of all processes."""
        return f"leadway:fence:{self.database_id}"

    def saw(self, fence: int) -> None:
        with self._lock:
            self.number = max(self.number, fence)


class next_fence(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """The next fence, as an expression of an UPDATE of one row. `count_fence` has to follow in the transaction."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(next_fence, "postgresql")
def _in_postgresql(_element: next_fence, _compiler: object, **_options: object) -> str:
    return "nextval('fence_numbers')"


@compiles(next_fence, "sqlite")
def _in_sqlite(_element: next_fence, _compiler: object, **_options: object) -> str:
    return "(SELECT number + 1 FROM fence_counter)"


def count_fence(connection: Connection) -> None:
    """Moves SQLite's counter on. PostgreSQL's sequence has moved by itself."""
    if not on_postgresql(connection):
        connection.execute(_COUNT)


def last(connection: Connection) -> int:
    """The last fence that was given out."""
    return int(connection.execute(_LAST_OF_SEQUENCE if on_postgresql(connection) else _LAST_COUNTED).scalar_one())


def move_to(connection: Connection, fence: int) -> None:
    """The next fence is greater than this one. One caller at a time; fences never go back."""
    connection.execute(_MOVE_SEQUENCE if on_postgresql(connection) else _MOVE_COUNTER, {"fence": fence})


def first_of(life: int) -> int:
    """Less than every fence of this life, and greater than those of all lives before."""
    return life << BITS_OF_THE_NUMBER


def life_of(fence: int) -> int:
    """The life in which the fence was given out."""
    return fence >> BITS_OF_THE_NUMBER


_counter = sa.table("fence_counter", sa.column("number", sa.BigInteger))
_COUNT = sa.update(_counter).values(number=_counter.c.number + 1)
_LAST_COUNTED = sa.select(_counter.c.number)
_MOVE_COUNTER = (
    sa.update(_counter).where(_counter.c.number < sa.bindparam("fence")).values(number=sa.bindparam("fence"))
)
_LAST_OF_SEQUENCE = sa.text("SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM fence_numbers")
_MOVE_SEQUENCE = sa.text("SELECT setval('fence_numbers', :fence) FROM fence_numbers WHERE last_value < :fence")
