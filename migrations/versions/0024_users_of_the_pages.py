"""users of the operators' pages, and what they did there

Adds tables: code from before it may run beside it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False, comment="viewer or operator"),
        sa.Column("password_hash", sa.Text(), nullable=False, comment="scrypt, with its salt"),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "password_set_at", sa.DateTime(timezone=True), nullable=False, comment="sessions from before it have ended"
        ),
        sa.PrimaryKeyConstraint("name", name="pk_users"),
        comment="who may sign in to the operators' pages",
    )
    op.create_table(
        "audit",
        sa.Column("audit_id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("by_user", sa.Text(), nullable=False, comment="the name with which the person was signed in"),
        sa.Column("what", sa.Text(), nullable=False, comment="signed_in, signed_out, call_opened, or an act"),
        sa.Column("location_id", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True, comment="the id of the call or follow-up"),
        sa.PrimaryKeyConstraint("audit_id", name="pk_audit"),
        comment="what people did on the operators' pages; no words of calls",
    )
    op.create_index("ix_audit_at", "audit", ["at"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("users")
