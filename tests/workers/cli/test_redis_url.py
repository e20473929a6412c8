"""A REDIS_URL that is none: every command says so in one sentence, and shows nothing of it."""

import pytest

from models.database import Database
from tests.workers.cli.conftest import Commands

COMMANDS = ("migrate", "accounts list", "status", "doctor", "reconcile")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_names_the_setting_and_not_its_value(run: Commands, served: Database, command: str) -> None:
    result = run(*command.split(), REDIS_URL="redis://:hidden/secret@localhost:6379/0")
    assert result.exit_code == 2, result.output
    assert "REDIS_URL has no usable host and port" in " ".join(run.printed.split())
    assert "hidden" not in run.printed
