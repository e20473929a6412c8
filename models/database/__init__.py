"""The connection to the database: transactions, deadlines of statements, the database's clock, column types.

There are two databases: PostgreSQL, and SQLite (WAL, full sync, writes begun immediately). Statements are SQLAlchemy
Core on plain connections (docs/decisions/0001).

SQLite has one writer at a time for each file. So a table that nobody may wait for has a file of its own there: it is
read as any other table, beside them, and written through `Database.inbox` (docs/decisions/0090).
"""

from models.database.address import UnusableDatabase, libpq_words
from models.database.columns import (
    OWN_FILE,
    Json,
    UtcDateTime,
    columns_of,
    earlier_of,
    insert,
    metadata,
    moment,
    now,
    on_postgresql,
)
from models.database.connections import Database, KeptConnection, WriterTimeout, is_of_one_row
from models.database.limits import (
    COMMAND,
    GROUPED,
    HEARTBEAT,
    LOOKING,
    RECEIPTS,
    WEB,
    WORKER,
    Limits,
    connections_needed,
    limits_of_web,
    limits_of_worker,
)
from models.database.postgresql import is_behind_pooler
from models.database.requirements import problem_of, refuse_unusable_database
from models.database.sqlite import inbox_file, own_file_url

__all__ = [
    "COMMAND",
    "GROUPED",
    "HEARTBEAT",
    "LOOKING",
    "OWN_FILE",
    "RECEIPTS",
    "WEB",
    "WORKER",
    "Database",
    "Json",
    "KeptConnection",
    "Limits",
    "UnusableDatabase",
    "UtcDateTime",
    "WriterTimeout",
    "columns_of",
    "connections_needed",
    "earlier_of",
    "inbox_file",
    "insert",
    "is_behind_pooler",
    "is_of_one_row",
    "libpq_words",
    "limits_of_web",
    "limits_of_worker",
    "metadata",
    "moment",
    "now",
    "on_postgresql",
    "own_file_url",
    "problem_of",
    "refuse_unusable_database",
]
