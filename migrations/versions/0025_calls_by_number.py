"""an index of calls by their caller's number, by which people look for them

Only an index: code from before it may run beside it.
"""

import sqlalchemy as sa

from migrations import indexes

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

HAS_NUMBER = sa.text("from_number IS NOT NULL")


def upgrade() -> None:
    indexes.create_concurrently(
        "ix_calls_from_number", "calls", ["from_number"], postgresql_where=HAS_NUMBER, sqlite_where=HAS_NUMBER
    )


def downgrade() -> None:
    indexes.drop_concurrently("ix_calls_from_number", "calls")
