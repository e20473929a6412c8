"""`make migration`: writes the next migration from what the models have and the migrations do not.

It compares with a temporary PostgreSQL, for SQLite knows neither comments nor most types.
"""

import argparse
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.operations import MigrationScript
from alembic.util import CommandError

from migrations.upgrading import migrate
from tests.support.services import PostgresServer

PROJECT = Path(__file__).parents[2] / "pyproject.toml"
NOTHING_NEW = (
    "the models say nothing that the migrations do not: change a table in models/ first, or add EMPTY=1 for a migration"
    " that you write by hand"
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("--empty", action="store_true")
    asked = parser.parse_args()
    if not asked.name.strip():
        parser.exit(2, 'Say what it does: make migration NAME="add the index of the calls\' agents"\n')
    try:
        make(asked.name.strip(), empty=asked.empty)
    except CommandError as error:
        parser.exit(1, f"No migration was written: {error}\n")


def make(name: str, *, empty: bool) -> None:
    with PostgresServer() as server:
        url = server.create_database("newest")
        migrate(url)
        config = Config(toml_file=PROJECT)
        config.attributes["database_url"] = url
        command.revision(
            config, name, autogenerate=not empty, process_revision_directives=None if empty else _refuse_nothing
        )


def _refuse_nothing(_context: object, _revision: object, directives: list[MigrationScript]) -> None:
    if all(operations.is_empty() for each in directives for operations in each.upgrade_ops_list):
        raise CommandError(NOTHING_NEW)


if __name__ == "__main__":
    main()
