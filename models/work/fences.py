"""Fences: the number of every claim, from one sequence for all kinds of work, so that readings can be ordered by it.

A fence has 24 bits for the life of the database and 40 for the number within it; the life is 0 so far. PostgreSQL has
the sequence `fence_numbers`. SQLite has no sequences: `fence_counter` has one row, the number of the last fence, which
changes under the database's write lock. Neither is one of `metadata`'s tables: each exists on one database only.
"""

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from models.database import on_postgresql

BITS_OF_THE_NUMBER = 40


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


_counter = sa.table("fence_counter", sa.column("number", sa.BigInteger))
_COUNT = sa.update(_counter).values(number=_counter.c.number + 1)
