"""listed rows that could not be taken in; windows that are read row by row

New things only: code from before it may run beside it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "quarantined_rows",
        sa.Column("location_id", sa.Text(), nullable=False),
        sa.Column("row_key", sa.Text(), nullable=False, comment="the row's digest, or its place in a list"),
        sa.Column("call_id", sa.Text(), nullable=True, comment="if it has a usable one"),
        sa.Column(
            "reason", sa.Text(), nullable=False, comment="no_call_id, no_object, too_large, or the database's error"
        ),
        sa.Column(
            "window_from", sa.DateTime(timezone=True), nullable=False, comment="of the window that listed it last"
        ),
        sa.Column("window_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False, comment="how often it was listed"),
        sa.Column("first_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("location_id", "row_key", name=op.f("pk_quarantined_rows")),
        comment="listed rows that could not be taken in",
    )
    _comment_on_unreadable("rows of the list being read that could not be taken in")
    op.add_column(
        "reconciliations",
        sa.Column(
            "page_size", sa.Integer(), nullable=False, server_default="50", comment="calls that a page is asked for"
        ),
    )


def downgrade() -> None:
    _comment_on_unreadable("listed rows without a usable id")
    with op.batch_alter_table("reconciliations") as batch:
        batch.drop_column("page_size")
    op.drop_table("quarantined_rows")


def _comment_on_unreadable(comment: str) -> None:
    if op.get_context().dialect.name == "postgresql":  # SQLite keeps no comments
        op.alter_column("reconciliations", "unreadable", existing_type=sa.Integer(), comment=comment)
