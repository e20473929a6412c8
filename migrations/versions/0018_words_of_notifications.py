"""an index of the notifications that still have words, for emptying them after the retention time

Only an index: code from before it may run beside it.
"""

import sqlalchemy as sa

from migrations import indexes

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

HAS_WORDS = sa.text("document IS NOT NULL OR from_number IS NOT NULL")


def upgrade() -> None:
    indexes.create_concurrently(
        "ix_notifications_last_received_at", "notifications", ["last_received_at"], postgresql_where=HAS_WORDS,
        sqlite_where=HAS_WORDS,
    )  # fmt: skip


def downgrade() -> None:
    indexes.drop_concurrently("ix_notifications_last_received_at", "notifications")
