"""where each optional part of a call comes from; names of its type, agent and workflow

Needs a stop: `calls.words_from` becomes `summary_from` and `transcript_from`, and code from before writes its old name.
The rows of `calls` are updated once, in one statement.
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

NEEDS_A_STOP = True
REWRITES_A_LARGE_TABLE = True
statement_timeout_seconds = 0  # no limit: everything is stopped, so nobody waits

TOLD = "where the log tells"
FROM = "fetch, list or notification; null: nobody looked for it yet"
ADDED = {
    "call_type": f"in Leadway's words, {TOLD}",
    "agent_name": TOLD,
    "workflow_name": f"of the workflow that made the call, {TOLD}",
    "contact_from": FROM,
    "summary_from": FROM,
    "translation_from": FROM,
}
COMMENTS = {"transcript_from": FROM, "actions_from": FROM, "extracted_data_from": f"{FROM}; a list does not carry them"}
BEFORE = {
    "transcript_from": "fetch or list; null: nobody looked for them yet",
    "actions_from": "likewise",
    "extracted_data_from": "likewise; a list does not carry them",
}


def upgrade() -> None:
    op.alter_column("calls", "words_from", new_column_name="transcript_from")
    for name, comment in ADDED.items():
        op.add_column("calls", sa.Column(name, sa.Text(), nullable=True, comment=comment))
    op.execute(
        "UPDATE calls SET contact_from = read_from, translation_from = read_from, summary_from = transcript_from"
    )
    _comment(COMMENTS)
    is_there = sa.text("extracted_data IS NOT NULL")
    op.create_index(
        "ix_calls_extracting", "calls", ["location_id", "agent_id"],
        postgresql_where=is_there, sqlite_where=is_there,
    )  # fmt: skip


def downgrade() -> None:
    op.drop_index("ix_calls_extracting", table_name="calls")
    for name in ADDED:
        op.drop_column("calls", name)
    op.alter_column("calls", "transcript_from", new_column_name="words_from")
    if op.get_context().dialect.name == "postgresql":
        op.alter_column("calls", "words_from", existing_type=sa.Text(), comment=BEFORE["transcript_from"])
        for name in ("actions_from", "extracted_data_from"):
            op.alter_column("calls", name, existing_type=sa.Text(), comment=BEFORE[name])


def _comment(comments: dict[str, str]) -> None:
    if op.get_context().dialect.name == "postgresql":  # SQLite keeps no comments
        for name, comment in comments.items():
            op.alter_column("calls", name, existing_type=sa.Text(), comment=comment)
