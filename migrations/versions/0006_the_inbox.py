"""the inbox, and the quarantine

New tables only: code from before it may run beside it. That code takes no inbox in, so start the workers of this
release with its web processes.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

AUTOVACUUM_OF_A_QUEUE = {
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 1000,
    "autovacuum_vacuum_cost_delay": 0,
    "autovacuum_analyze_scale_factor": 0,
    "autovacuum_analyze_threshold": 1000,
}


def upgrade() -> None:
    op.create_table(
        "inbox",
        sa.Column(
            "number", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), autoincrement=True, nullable=False
        ),
        sa.Column("arrival_id", sa.Text(), nullable=False, comment="minted by the receiver"),
        sa.Column("dedupe_key", sa.Text(), nullable=False, comment="what tells a repeat from a new one"),
        *told_columns(),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_inbox")),
        sa.UniqueConstraint("arrival_id", name=op.f("uq_inbox_arrival_id")),
        sqlite_autoincrement=True,
        postgresql_with=AUTOVACUUM_OF_A_QUEUE,
    )
    op.create_index("ix_inbox_dedupe_key", "inbox", ["dedupe_key"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("arrival_id", sa.Text(), nullable=False),
        sa.Column("dedupe_key", sa.Text(), nullable=False),
        *told_columns(),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("quarantined_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("error", sa.Text(), nullable=False, comment="kind of the error; its words could quote a person's"),
        sa.PrimaryKeyConstraint("arrival_id", name=op.f("pk_quarantine")),
    )


def downgrade() -> None:
    if waiting := op.get_bind().execute(sa.text("SELECT count(*) FROM inbox")).scalar_one():
        raise RuntimeError(f"{waiting} notifications wait in the inbox: let a worker take them in first")
    op.drop_table("quarantine")
    op.drop_table("inbox")


def told_columns() -> list[sa.Column[Any]]:
    json = sa.JSON(none_as_null=True).with_variant(
        postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), "postgresql"
    )
    return [
        sa.Column("location_id", sa.Text(), nullable=True),
        sa.Column("call_id", sa.Text(), nullable=True),
        sa.Column("contact_id", sa.Text(), nullable=True),
        sa.Column("from_number", sa.Text(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True, comment="of the call, where the body tells"),
        sa.Column("webhook_id", sa.Text(), nullable=True),
        sa.Column("event_type", sa.Text(), nullable=True),
        sa.Column("dialect", sa.Text(), nullable=False),
        sa.Column("authenticated_by", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True, comment="why it is ignored or unresolved"),
        sa.Column("document", json, nullable=True, comment="the body, secrets replaced"),
    ]
