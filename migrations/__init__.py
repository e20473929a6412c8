"""The schema, step by step: `upgrading` brings a database to the newest one, a module of `versions` makes each step.

What every process asks is told here, without Alembic, whose import takes 7 MB and a tenth of a second.
"""

from pathlib import Path

import sqlalchemy as sa

from models.database import Database

VERSIONS = Path(__file__).parent / "versions"


def newest() -> str:
    """The version of the schema that this code expects, by the names of the migrations' files."""
    return max(each.name.partition("_")[0] for each in VERSIONS.glob("[0-9]*.py"))


def is_current(database: Database) -> bool:
    """Whether the database has the schema that this code expects."""
    with database.reading() as connection:
        if not sa.inspect(connection).has_table("alembic_version"):
            return False
        present = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
    return present == [newest()]
