"""Brings a database to the newest schema: what `leadway-calls migrate` and every test call. Needs Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from migrations.running import PATIENCE_SECONDS, Report
from models.database import COMMAND, Database


def _silently(_line: str) -> None:
    pass


def migrate(
    database_url: str,
    *,
    revision: str = "head",
    patience_seconds: float = PATIENCE_SECONDS,
    beside_processes: bool = False,
    report: Report = _silently,
) -> None:
    """Upgrades, or downgrades to an older revision ("base": nothing left). Safe to be run by several at once.

    Each migration has its own transaction: what ran before one that fails stays, and the next run goes on from there.
    `patience_seconds`: how long a migration is tried again that does not get a lock. `beside_processes`: what needs
    a stop runs though processes are alive. `report` gets a line for each migration that runs and for each wait.

    Raises MigrationBlocked, StatementTooLong, StopNeeded (migrations/running.py), and whatever a migration raises.
    """
    config = _config()
    config.attributes.update(
        database_url=database_url, patience_seconds=patience_seconds, beside_processes=beside_processes, report=report
    )
    script = ScriptDirectory.from_config(config)
    older = revision != "head" and _is_older(script, _present(database_url), revision)
    (command.downgrade if older else command.upgrade)(config, revision)


def _config() -> Config:
    """Of an installed package too, where no pyproject.toml is near."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))  # it interpolates
    config.set_main_option("path_separator", "os")
    return config


def _present(database_url: str) -> str | None:
    database = Database(database_url, limits=COMMAND)
    try:
        with database.reading() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        database.close()


def _is_older(script: ScriptDirectory, present: str | None, wanted: str) -> bool:
    if present is None:
        return False
    return wanted == "base" or wanted in {each.revision for each in script.iterate_revisions(present, "base")} - {
        present
    }
