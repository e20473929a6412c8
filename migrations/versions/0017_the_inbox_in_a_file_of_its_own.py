"""SQLite: the inbox in a file of its own; each arrival is taken once out of a file

Needs a stop on SQLite: the inbox's table leaves the database, and code from before writes to it there. On PostgreSQL
a table and a column are added, beside whatever runs.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

NEEDS_A_STOP = "sqlite"

COLUMNS = (
    "arrival_id, dedupe_key, location_id, call_id, contact_id, from_number, started_at, webhook_id, event_type,"
    " dialect, authenticated_by, status, reason, document, received_at"
)


def upgrade() -> None:
    op.create_table(
        "taken_arrivals",
        sa.Column("arrival_id", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("arrival_id", name=op.f("pk_taken_arrivals")),
        comment="arrivals that were taken out of a file which may still hold them",
    )
    op.add_column(
        "quarantine",
        sa.Column("raw", sa.LargeBinary(), nullable=True, comment="what could not be kept in the other columns"),
    )
    if op.get_context().dialect.name == "sqlite":
        _move(f"SELECT {COLUMNS} FROM main.inbox ORDER BY number")
        op.execute("DROP TABLE main.inbox")


def downgrade() -> None:
    op.drop_table("taken_arrivals")
    op.drop_column("quarantine", "raw")
    if op.get_context().dialect.name == "sqlite":
        if waiting := op.get_bind().execute(sa.text("SELECT count(*) FROM own_files.inbox")).scalar_one():
            raise RuntimeError(f"{waiting} notifications wait in the inbox: let a worker take them in first")
        op.execute(
            "CREATE TABLE main.inbox (number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, arrival_id TEXT NOT NULL,"
            " dedupe_key TEXT NOT NULL, location_id TEXT, call_id TEXT, contact_id TEXT, from_number TEXT,"
            " started_at DATETIME, webhook_id TEXT, event_type TEXT, dialect TEXT NOT NULL,"
            " authenticated_by TEXT NOT NULL, status TEXT NOT NULL, reason TEXT, document JSON,"
            " received_at DATETIME NOT NULL, CONSTRAINT uq_inbox_arrival_id UNIQUE (arrival_id))"
        )
        op.execute("CREATE INDEX main.ix_inbox_dedupe_key ON inbox (dedupe_key)")


def _move(rows: str) -> None:
    """Into the file first: a crash before this migration commits repeats it, and a row is known by its arrival id."""
    driver: Any = op.get_bind().connection.driver_connection
    [file] = [path for _, name, path in driver.execute("PRAGMA database_list") if name == "own_files"]
    with closing(sqlite3.connect(Path(file), timeout=30)) as inbox, inbox:
        inbox.execute("PRAGMA synchronous=FULL")
        places = ", ".join("?" for _ in COLUMNS.split(", "))
        inbox.executemany(f"INSERT OR IGNORE INTO inbox ({COLUMNS}) VALUES ({places})", driver.execute(rows))
