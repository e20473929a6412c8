"""the field's words for columns and tables: circuit breaker, enqueue mark, isolation, rejection counts, seen ids

Needs a stop: code from before this migration reads the old names. Nothing is rewritten: names only, within a moment.
"""

from collections.abc import Iterable

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
NEEDS_A_STOP = True

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

COMMENTS: dict[tuple[str, str | None], tuple[str, str]] = {
    ("accounts", "complete_until"): (
        "… to here (the watermark) has its row in calls",
        "… to here has its row in calls",
    ),
    ("accounts", "open_until"): (
        "circuit breaker: no request is sent until then; null: closed",
        "the API is given a rest until then",
    ),
    ("accounts", "outages_in_a_row"): (
        "without a success between",
        "outages in a row, without a success between",
    ),
    ("accounts", "request_burst"): (
        "requests at once after a pause; null: 1",
        "at once after a rest; null: 1",
    ),
    ("calls", "settled_at"): (
        "when its log was settled",
        "when its log was final",
    ),
    ("follow_ups", "absences"): (
        "answered probes that did not find it",
        "answered looks that did not find it",
    ),
    ("follow_ups", "appointment_id"): (
        "of the booked appointment in its words",
        "the booked appointment that it tells",
    ),
    ("oauth_grants", None): (
        "where an account's tokens come from, if they expire",
        "where an account's tokens come from, if they expire; models/oauth_grants.py",
    ),
    ("oauth_grants", "refreshing"): (
        "fence of that claim",
        "fencing number of that hold",
    ),
    ("oauth_grants", "refreshing_until"): (
        "a process has claimed the refresh until then",
        "one process holds it, to refresh, until then",
    ),
    ("seen_ids", None): (
        "the calls that the list of an open window has shown so far; deleted when the window ends",
        "What the list of an open window has shown so far; emptied when the window ends.",
    ),
    ("seen_ids", "inside"): (
        "it started within the window, which no list is trusted for",
        "it started within the window: no list is trusted in that",
    ),
}
"""By table and column (None: the table itself): the new comment and the one before."""
SCHEDULE = {
    "enqueued_at": (
        "enqueue mark: when its message was put into Redis",
        "when a message for it was put into Redis",
    ),
    "enqueued_epoch": (
        "the epoch of Redis that the message went into",
        "which life of Redis holds that message",
    ),
    "failures": (
        "of those, what counts towards dead-lettering",
        "of those, what counts towards dead",
    ),
    "lost_isolated": (
        "of those, lost in isolation",
        "of those, while it ran alone",
    ),
    "replayed": (
        "by a person, since the claim",
        "a person asked since the claim",
    ),
    "requested": (
        "raised each time it is requested",
        "raised when it is asked for again",
    ),
}
for table in ("calls", "follow_ups"):
    COMMENTS |= {(table, column): both for column, both in SCHEDULE.items()}

LOCKED = ("oauth_grants", "refusals", "listed_calls", "follow_ups", "accounts", "calls")
"""Every table that changes, by its old name. Each receipt uses the last two, so they are locked last: a try that does
not get the others keeps no receipt waiting."""


def upgrade() -> None:
    lock(LOCKED)
    rename(TABLES, COLUMNS)
    for (table, column), (new, _) in COMMENTS.items():
        comment(table, column, new)


def downgrade() -> None:
    lock(TABLES.get(name, name) for name in LOCKED)
    for (table, column), (_, old) in COMMENTS.items():
        comment(table, column, old)
    rename(
        {new: old for old, new in TABLES.items()},
        {table: {new: old for old, new in names.items()} for table, names in COLUMNS.items()},
    )


def lock(tables: Iterable[str]) -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS EXCLUSIVE MODE")


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
