"""The read contract: the views `leadway_v1.…` on PostgreSQL and `v1_…` on SQLite, one template of SQL for each.

A template is one SELECT. Its first lines of comment describe the view; the comment behind a column of its first branch
describes that column, and `[words]` there marks what a reader without words does not see. Within a version columns are
only added, at the end: CREATE OR REPLACE keeps what others have built on a view, and every grant.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from jinja2 import Environment, StrictUndefined
from sqlalchemy import Connection

from models.database import on_postgresql
from models.database.requirements import READ_CONTRACT

SCHEMA = READ_CONTRACT
SQLITE_PREFIX = "v1_"
MADE_BY = "0023"
"""The newest migration that makes the views. Older ones leave it to that one, whose tables the templates read."""
NAMES = ("contract", "accounts", "calls", "call_turns", "call_actions", "call_fields", "follow_ups", "agents",
         "coverage", "usage")  # fmt: skip
"""In the order in which they are made: a view reads only earlier ones."""
FOLDER = Path(__file__).parent
WORDS = "[words] "
_TEMPLATES = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)  # noqa: S701 - SQL
_COLUMN = re.compile(r"^ {4}.*\bAS (\w+),?\s+-- (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Column:
    """A column of a view: what it means, and whether it holds what people said, their numbers, or a note's words."""

    name: str
    meaning: str
    has_words: bool


@dataclass(frozen=True)
class View:
    name: str
    meaning: str
    columns: tuple[Column, ...]


def described(name: str) -> View:
    """The view as its template describes it."""
    text = (FOLDER / f"{name}_v1.sql").read_text()
    head, _, _ = text.partition("SELECT\n")
    meaning = " ".join(line.removeprefix("-- ") for line in head.splitlines() if line.startswith("-- "))
    first_branch = text.partition("\nFROM ")[0]
    columns = (
        Column(column, comment.removeprefix(WORDS), comment.startswith(WORDS))
        for column, comment in _COLUMN.findall(first_branch)
    )
    return View(name, meaning, tuple(columns))


def make(connection: Connection, *, by: str) -> None:
    """Makes or extends every view, when the migration `by` is the newest one that does."""
    if by != MADE_BY:
        return
    if not on_postgresql(connection):
        for name in reversed(NAMES):
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {SQLITE_PREFIX}{name}")
        for name in NAMES:
            connection.exec_driver_sql(f"CREATE VIEW {SQLITE_PREFIX}{name} AS\n{_rendered(name, postgresql=False)}")
        return
    if connection.execute(sa.text("SELECT to_regnamespace(:name)"), {"name": SCHEMA}).scalar_one() is None:
        connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")  # IF NOT EXISTS asks for the right to do so even then
    connection.execute(sa.text(f"COMMENT ON SCHEMA {SCHEMA} IS 'What readers are promised: docs/data/README.md'"))
    for name in NAMES:
        view = described(name)
        select = _rendered(name, postgresql=True).replace("%", "%%")
        connection.exec_driver_sql(f"CREATE OR REPLACE VIEW {SCHEMA}.{name} WITH (security_barrier) AS\n{select}")
        for kind, thing, meaning in (
            ("VIEW", f"{SCHEMA}.{name}", view.meaning),
            *(("COLUMN", f"{SCHEMA}.{name}.{each.name}", each.meaning) for each in view.columns),
        ):
            quoted = meaning.replace("'", "''").replace("%", "%%")
            connection.exec_driver_sql(f"COMMENT ON {kind} {thing} IS '{quoted}'")
    readers = "SELECT r.name, r.with_words FROM readers r JOIN pg_roles ON rolname = r.name ORDER BY 1"
    for reader in connection.exec_driver_sql(readers).all():
        grant(connection, reader.name, with_words=reader.with_words)  # of the columns that are new


def grant(connection: Connection, role: str, *, with_words: bool) -> None:
    """Lets a role of PostgreSQL read the views; without words each column but those that hold words."""
    connection.exec_driver_sql(f'GRANT USAGE ON SCHEMA {SCHEMA} TO "{role}"')
    for view in map(described, NAMES):
        seen = ", ".join(each.name for each in view.columns if not each.has_words)
        columns = "" if with_words else f" ({seen})"
        connection.exec_driver_sql(f'GRANT SELECT{columns} ON {SCHEMA}.{view.name} TO "{role}"')


def drop(connection: Connection) -> None:
    """Drops the views. Raises SQLAlchemyError while others have built something on them."""
    if on_postgresql(connection):
        for name in reversed(NAMES):
            connection.exec_driver_sql(f"DROP VIEW IF EXISTS {SCHEMA}.{name}")
        connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {SCHEMA}")
        return
    for name in reversed(NAMES):
        connection.exec_driver_sql(f"DROP VIEW IF EXISTS {SQLITE_PREFIX}{name}")


def _rendered(name: str, *, postgresql: bool) -> str:
    prefix = f"{SCHEMA}." if postgresql else SQLITE_PREFIX
    text = (FOLDER / f"{name}_v1.sql").read_text()
    return _TEMPLATES.from_string(text).render(
        pg=postgresql, view=lambda other: f"{prefix}{other}", seen=_seen if postgresql else lambda _column: "1 = 1"
    ).rstrip().rstrip(";")  # fmt: skip


def _seen(column: str) -> str:
    """Whether the role that asks may see this account: every role but one that `readers add --location` made."""
    is_restricted = "coalesce((SELECT r.restricted FROM readers r WHERE r.name = current_user), false)"
    own = "SELECT 1 FROM reader_locations l WHERE l.reader = current_user AND l.location_id"
    return f"(NOT {is_restricted} OR EXISTS ({own} = {column}))"
