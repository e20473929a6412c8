"""`leadway-calls`: every command explains itself, and docs/commands.md shows every command as it is."""

import re
import shlex

import click
import pytest

from tests.support.clock import ROOT
from tests.workers.cli.conftest import Commands
from workers.cli import main
from workers.telemetry.release import release

TEXT = (ROOT / "docs" / "commands.md").read_text()
SHOWN = sorted(
    set(re.findall(r"(?m)(?:^|\| )leadway-calls (.+)$", "\n".join(re.findall(r"(?s)```sh\n(.*?)```", TEXT))))
)


def commands_of(group: click.Group, before: str = "") -> list[str]:
    found = []
    for name, command in group.commands.items():
        words = f"{before} {name}".strip()
        found += commands_of(command, words) if isinstance(command, click.Group) else [words]
    return found


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_shown_is_understood(environment: dict[str, str], line: str) -> None:
    result = Commands(environment)(*shlex.split(line), "--help")
    assert result.exit_code == 0, result.output


def test_every_command_is_shown() -> None:
    lines = "\n".join(SHOWN)
    assert [words for words in commands_of(main) if words not in lines] == []


def test_the_commands_tell_their_release(environment: dict[str, str]) -> None:
    assert Commands(environment)("--version").output == f"leadway-calls {release()}\n"


@pytest.mark.parametrize("words", ["", "accounts", "replay", *commands_of(main)])
def test_every_command_explains_itself_without_a_database(environment: dict[str, str], words: str) -> None:
    result = Commands(environment)(*words.split(), "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert words in ("", "accounts") or "Example" in result.output
