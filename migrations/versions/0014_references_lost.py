"""accounts whose CRM does not keep our reference lines

A new column only: code from before it may run beside it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "accounts",
        sa.Column(
            "references_lost_at", sa.DateTime(timezone=True), nullable=True,
            comment="when Leadway last returned a note without our reference line; null: it keeps them",
        ),
    )  # fmt: skip


def downgrade() -> None:
    with op.batch_alter_table("accounts") as batch:
        batch.drop_column("references_lost_at")
