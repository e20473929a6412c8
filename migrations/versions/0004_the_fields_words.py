"""the field's words for columns and tables: circuit breaker, enqueue mark, isolation, rejection counts, seen ids

Needs a stop: code from before this migration reads the old names. Nothing is rewritten: names only, within a moment.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = {"refusals": "rejection_counts", "listed_calls": "seen_ids"}
COLUMNS = {
    "accounts": {"held_until": "open_until", "outages": "outages_in_a_row"},
    "calls": {
        "sent_at": "enqueued_at",
        "sent_generation": "enqueued_epoch",
        "lost_alone": "lost_isolated",
        "runs_alone": "isolated",
    },
}
COLUMNS["follow_ups"] = COLUMNS["calls"]


COMMENTS = {
    ("accounts", "open_until"): (
        "circuit breaker: no request is sent until then; null: closed",
        "the API is given a rest until then",
    ),
    ("accounts", "outages_in_a_row"): (
        "without a success between",
        "outages in a row, without a success between",
    ),
    ("oauth_grants", None): (
        "where an account's tokens come from, if they expire; models/accounts/oauth_grants.py",
        "where an account's tokens come from, if they expire; models/oauth_grants.py",
    ),
}
"""By table and column (None: the table itself): the new comment and the one before."""


def upgrade() -> None:
    rename(TABLES, COLUMNS)
    for (table, column), (new, _) in COMMENTS.items():
        comment(table, column, new)


def downgrade() -> None:
    for (table, column), (_, old) in COMMENTS.items():
        comment(table, column, old)
    rename(
        {new: old for old, new in TABLES.items()},
        {table: {new: old for old, new in names.items()} for table, names in COLUMNS.items()},
    )


def rename(tables: dict[str, str], columns: dict[str, dict[str, str]]) -> None:
    for old, new in tables.items():
        op.rename_table(old, new)
    for table, names in columns.items():
        for old, new in names.items():
            op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    if op.get_bind().dialect.name == "postgresql":
        for table, names in columns.items():
            rename_constraints(table, names)
        for old, new in tables.items():
            rename_constraints(new, {old: new})


def rename_constraints(table: str, names: dict[str, str]) -> None:
    """PostgreSQL keeps the names of keys, and from 18 on those of NOT NULL, when a table or a column is renamed."""
    constraints = sa.text("SELECT conname FROM pg_constraint WHERE conrelid = to_regclass(:table)")
    for name in op.get_bind().execute(constraints, {"table": table}).scalars().all():
        renamed = name
        for old, new in names.items():
            renamed = renamed.replace(f"_{old}_", f"_{new}_") if f"_{old}_" in renamed else renamed
            if renamed.startswith(f"{old}_"):
                renamed = new + renamed.removeprefix(old)
            if renamed.endswith(f"_{old}"):
                renamed = renamed.removesuffix(old) + new
        if renamed != name:
            op.execute(f'ALTER TABLE {table} RENAME CONSTRAINT "{name}" TO "{renamed}"')


def comment(table: str, column: str | None, text: str) -> None:
    """SQLite keeps no comments."""
    if op.get_bind().dialect.name == "postgresql":
        what = f"TABLE {table}" if column is None else f"COLUMN {table}.{column}"
        quoted = text.replace("'", "''")
        op.execute(f"COMMENT ON {what} IS '{quoted}'")
