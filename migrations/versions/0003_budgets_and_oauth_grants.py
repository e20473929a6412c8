"""budgets of single accounts, and OAuth grants

A new table, and columns of a small table that the older code does not read: safe while it still runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NAMES = ("token_expires_at", "requests_per_10_seconds", "request_burst", "requests_per_day")


def upgrade() -> None:
    op.create_table(
        "oauth_grants",
        sa.Column("location_id", sa.Text(), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("client_secret_encrypted", sa.Text(), nullable=False),
        sa.Column("refresh_token_encrypted", sa.Text(), nullable=False, comment="each use brings the next one"),
        sa.Column(
            "refreshed_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it last brought an access token",
        ),
        sa.Column(
            "refreshing_until",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="one process holds it, to refresh, until then",
        ),
        sa.Column("refreshing", sa.Integer(), nullable=False, comment="fencing number of that hold"),
        sa.ForeignKeyConstraint(
            ["location_id"],
            ["accounts.location_id"],
            name=op.f("fk_oauth_grants_location_id_accounts"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("location_id", name=op.f("pk_oauth_grants")),
        comment="where an account's tokens come from, if they expire; models/oauth_grants.py",
    )
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column(
                "token_expires_at",
                sa.DateTime(timezone=True),
                nullable=True,
                comment="null: a static token, which never does",
            )
        )
        batch_op.add_column(
            sa.Column(
                "requests_per_10_seconds",
                sa.Integer(),
                nullable=True,
                comment="allowed by Leadway; null: as set for all",
            )
        )
        batch_op.add_column(
            sa.Column("request_burst", sa.Integer(), nullable=True, comment="at once after a rest; null: 1")
        )
        batch_op.add_column(
            sa.Column("requests_per_day", sa.Integer(), nullable=True, comment="allowed by Leadway; null: 200,000")
        )


def downgrade() -> None:
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        for name in reversed(NAMES):
            batch_op.drop_column(name)
    op.drop_table("oauth_grants")
