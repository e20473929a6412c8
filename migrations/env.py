"""What Alembic runs around the migrations: one transaction for all, one migrating process at a time."""

from typing import Any, Literal

import sqlalchemy as sa
from alembic import context
from alembic.autogenerate.api import AutogenContext

from models.database import UtcDateTime
from models.schema import metadata

ONE_AT_A_TIME = 4_617_001
"""The key of PostgreSQL's advisory lock. SQLite needs none: its transaction begins with the write lock."""


def plain_types(kind: str, thing: Any, autogen: AutogenContext) -> str | Literal[False]:
    """A migration does not import the models: they move on, it stays."""
    if kind == "type" and isinstance(thing, UtcDateTime):
        return "sa.DateTime(timezone=True)"
    return False


connection: sa.Connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_item=plain_types,
    compare_type=True,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,  # SQLite's is too, but Alembic takes care of drivers that end the transaction
)
with context.begin_transaction():
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
        connection.execute(sa.text("SET LOCAL lock_timeout = 0"))  # however long the other one takes
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ONE_AT_A_TIME})
        connection.execute(sa.text("SET LOCAL lock_timeout TO DEFAULT"))
    context.run_migrations()
