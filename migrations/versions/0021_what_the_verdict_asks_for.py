"""what the verdict asks for: since when an account's requests fail, and indexes of what is counted for a day only

A column that the older code neither reads nor writes, and indexes of small tables: safe while it still runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "accounts",
        sa.Column(
            "outages_since", sa.DateTime(timezone=True), nullable=True,
            comment="when the first of them came; null: there is none",
        ),
    )  # fmt: skip
    op.create_index("ix_rejection_counts_hour", "rejection_counts", ["hour"])
    op.create_index("ix_quarantine_quarantined_at", "quarantine", ["quarantined_at"])


def downgrade() -> None:
    op.drop_index("ix_quarantine_quarantined_at", "quarantine")
    op.drop_index("ix_rejection_counts_hour", "rejection_counts")
    with op.batch_alter_table("accounts") as batch:
        batch.drop_column("outages_since")
