"""an index of the calls that Leadway does not find, which signed notifications are compared with when they are taken in

Only an index: code from before it may run beside it.
"""

import sqlalchemy as sa

from migrations import indexes

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

NOT_FOUND = sa.text("last_error = 'not_found'")


def upgrade() -> None:
    indexes.create_concurrently(
        "ix_work_not_found", "work", ["location_id"], postgresql_where=NOT_FOUND, sqlite_where=NOT_FOUND
    )


def downgrade() -> None:
    indexes.drop_concurrently("ix_work_not_found", "work")
