"""Indexes of large tables: built, on PostgreSQL, while others write to the table.

Behind a pooler they are built in the migration's transaction, and others wait: a statement outside of any transaction
has neither limits there nor the search_path that DATABASE_URL may name.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alembic import op

from migrations.running import LOCK_SECONDS
from models.database import is_behind_pooler, on_postgresql


def create_concurrently(name: str, table: str, columns: Sequence[Any], **options: Any) -> None:
    """CREATE INDEX CONCURRENTLY; on SQLite and behind a pooler CREATE INDEX. `options` are those of `op.create_index`.

    A migration that calls this does nothing else: what stands before the call is committed, and is run again when the
    index fails. A build that failed leaves an invalid index, so an index of that name is dropped first.
    """
    if not _may_leave_the_transaction():
        op.drop_index(name, table, if_exists=True)
        op.create_index(name, table, columns, **options)
        return
    with _without_transaction():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)
        op.create_index(name, table, columns, postgresql_concurrently=True, **options)


def drop_concurrently(name: str, table: str) -> None:
    """DROP INDEX CONCURRENTLY; on SQLite and behind a pooler DROP INDEX. A migration that calls this does nothing else
    either."""
    if not _may_leave_the_transaction():
        op.drop_index(name, table, if_exists=True)
        return
    with _without_transaction():
        op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)


def _may_leave_the_transaction() -> bool:
    return on_postgresql(op.get_bind()) and not is_behind_pooler(op.get_bind())


@contextmanager
def _without_transaction() -> Iterator[None]:
    """Without a lock time-out too: these statements wait for older transactions to end, and nobody waits for them.

    What bounds them is the statement time-out.
    """
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")
        yield
        op.execute(f"SET lock_timeout = {int(LOCK_SECONDS * 1000)}")
