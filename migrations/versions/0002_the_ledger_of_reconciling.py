"""the ledger of reconciling

New tables, and columns of a small table that the older code does not read: safe while it still runs.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reconciliations",
        sa.Column(
            "reconciliation_id",
            sa.Integer().with_variant(sa.BigInteger(), "postgresql"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("location_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False, comment="regular, daily, since, narrow, burst, backfill"),
        sa.Column("slot", sa.Text(), nullable=False, comment="of one slot at most one window is open"),
        sa.Column(
            "contact_id", sa.Text(), nullable=True, comment="of a narrow one: only this contact's calls are listed"
        ),
        sa.Column("notification_id", sa.BigInteger(), nullable=True, comment="of a narrow one: what it is read for"),
        sa.Column("plans_follow_ups", sa.Boolean(), nullable=False),
        sa.Column(
            "run_from", sa.DateTime(timezone=True), nullable=False, comment="the whole run; it is read window by window"
        ),
        sa.Column("run_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("window_from", sa.DateTime(timezone=True), nullable=False, comment="by the calls' start"),
        sa.Column("window_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("listed", sa.Integer(), nullable=False, comment="distinct calls that Leadway listed"),
        sa.Column("held", sa.Integer(), nullable=False, comment="of those, calls that have a row"),
        sa.Column("unannounced", sa.Integer(), nullable=False, comment="calls that only the list told of"),
        sa.Column("changed", sa.Integer(), nullable=False, comment="stored logs that were brought up to date"),
        sa.Column("unreadable", sa.Integer(), nullable=False, comment="listed rows without a usable id"),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True, comment="null: open"),
        sa.Column("error", sa.Text(), nullable=True, comment="what holds it up now, or why it ended without a result"),
        sa.Column("call_type", sa.Text(), nullable=False, comment="LIVE or TRIAL, the list being read"),
        sa.Column("pass_number", sa.Integer(), nullable=False, comment="how often that list was begun"),
        sa.Column("next_page", sa.Integer(), nullable=False),
        sa.Column("told", sa.Integer(), nullable=True, comment="the total that Leadway told last"),
        sa.Column("restless", sa.Boolean(), nullable=False, comment="that total fell during this pass"),
        sa.Column("looks", sa.Integer(), nullable=False, comment="of a narrow one: how often it was read"),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False, comment="in a row"),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("claimed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("reconciliation_id", name=op.f("pk_reconciliations")),
    )
    with op.batch_alter_table("reconciliations", schema=None) as batch_op:
        batch_op.create_index("ix_reconciliations_location_id", ["location_id", "started_at"], unique=False)
        batch_op.create_index(
            "ix_reconciliations_notification_id",
            ["notification_id"],
            unique=False,
            postgresql_where=sa.text("notification_id IS NOT NULL"),
            sqlite_where=sa.text("notification_id IS NOT NULL"),
        )
        batch_op.create_index(
            "uq_reconciliations_open",
            ["location_id", "slot"],
            unique=True,
            postgresql_where=sa.text("finished_at IS NULL"),
            sqlite_where=sa.text("finished_at IS NULL"),
        )

    op.create_table(
        "listed_calls",
        sa.Column("reconciliation_id", sa.Integer().with_variant(sa.BigInteger(), "postgresql"), nullable=False),
        sa.Column("call_type", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column(
            "inside", sa.Boolean(), nullable=False, comment="it started within the window: no list is trusted in that"
        ),
        sa.Column("first_pass", sa.Integer(), nullable=False),
        sa.Column("last_pass", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reconciliation_id"],
            ["reconciliations.reconciliation_id"],
            name=op.f("fk_listed_calls_reconciliation_id_reconciliations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("reconciliation_id", "call_type", "call_id", name=op.f("pk_listed_calls")),
        comment="What the list of an open window has shown so far; emptied when the window ends.",
    )
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.add_column(
            sa.Column("next_reconcile_at", sa.DateTime(timezone=True), nullable=True, comment="null: at once")
        )
        batch_op.add_column(
            sa.Column(
                "next_relist_at",
                sa.DateTime(timezone=True),
                nullable=True,
                comment="of the last days, once a day; null: at once",
            )
        )
        batch_op.add_column(
            sa.Column(
                "webhook_alarm", sa.Text(), nullable=True, comment="why calls come unannounced, most likely; null: none"
            )
        )
        batch_op.add_column(
            sa.Column("webhook_alarm_at", sa.DateTime(timezone=True), nullable=True, comment="since when")
        )


def downgrade() -> None:
    with op.batch_alter_table("accounts", schema=None) as batch_op:
        batch_op.drop_column("webhook_alarm_at")
        batch_op.drop_column("webhook_alarm")
        batch_op.drop_column("next_relist_at")
        batch_op.drop_column("next_reconcile_at")

    op.drop_table("listed_calls")
    with op.batch_alter_table("reconciliations", schema=None) as batch_op:
        batch_op.drop_index(
            "uq_reconciliations_open",
            postgresql_where=sa.text("finished_at IS NULL"),
            sqlite_where=sa.text("finished_at IS NULL"),
        )
        batch_op.drop_index(
            "ix_reconciliations_notification_id",
            postgresql_where=sa.text("notification_id IS NOT NULL"),
            sqlite_where=sa.text("notification_id IS NOT NULL"),
        )
        batch_op.drop_index("ix_reconciliations_location_id")

    op.drop_table("reconciliations")
