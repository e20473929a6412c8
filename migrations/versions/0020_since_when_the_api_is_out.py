"""since when an account's requests fail, for the verdict

A column that the older code neither reads nor writes: safe while it still runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
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


def downgrade() -> None:
    with op.batch_alter_table("accounts") as batch:
        batch.drop_column("outages_since")
