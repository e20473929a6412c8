"""The commands as a person runs them, on a database of their own."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.database import Database
from tests.support.rows import ENCRYPTION_KEY, add_account
from tests.support.world import World
from workers.cli import main


class Commands:
    """`run("accounts", "list")`: the words as typed; everything that was ever printed is kept."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.printed = ""

    def __call__(self, *words: str, stdin: str | bytes | None = None, **environment: str) -> Result:
        result = CliRunner(env={**self.environment, **environment}).invoke(main, list(words), input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert "Traceback" not in result.output
        self.printed += result.output
        return result


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"TOKEN_ENCRYPTION_KEYS": ENCRYPTION_KEY, "COLUMNS": "80"}


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEADWAY_LOCATION_ID", "LEADWAY_API_TOKEN", "LEADWAY_INTAKE_SECRET", "REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(environment: dict[str, str], database_url: str) -> Commands:
    """On a database with the schema."""
    return Commands({**environment, "DATABASE_URL": database_url})


@pytest.fixture
def served(unserved: Database) -> Database:
    """The same database, with one account that has its credentials."""
    add_account(unserved, name="Dental Madrid")
    return unserved


@pytest.fixture
def world(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[World]:
    with World(tmp_path, database_url=database_url, redis_url=redis_url) as world:
        world.processes.finish("release")
        yield world


def run_alone(world: World, *words: str) -> tuple[int, str]:
    """A command as a process, with no worker beside it: exit status, and what it printed."""
    name = f"command-{len(list(world.processes.folder.glob('command-*.log')))}"
    world.processes.run(["leadway-calls", *words], name=name)
    return world.processes.wait(name), " ".join(world.processes.log(name).split())


def days_ago(world: World, days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")


def call_ids(world: World) -> list[str]:
    return sorted(row["call_id"] for row in world.rows("SELECT call_id FROM calls"))
