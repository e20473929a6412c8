"""The commands shown in docs/commands.md exist, with those options; every command is shown there."""

import re
import shlex
from pathlib import Path

import click
import pytest

from tests.workers.cli.conftest import Commands
from workers.cli import main

TEXT = (Path(__file__).parents[3] / "docs" / "commands.md").read_text()
SHOWN = sorted(
    set(re.findall(r"(?m)(?:^|\| )leadway-calls (.+)$", "\n".join(re.findall(r"(?s)```sh\n(.*?)```", TEXT))))
)


@pytest.mark.parametrize("line", SHOWN)
def test_every_command_shown_is_understood(environment: dict[str, str], line: str) -> None:
    result = Commands(environment)(*shlex.split(line), "--help")
    assert result.exit_code == 0, result.output


def test_every_command_is_shown() -> None:
    lines = "\n".join(SHOWN)
    assert [words for words in _commands(main, "") if words not in lines] == []


def _commands(group: click.Group, before: str) -> list[str]:
    found = []
    for name, command in group.commands.items():
        words = f"{before} {name}".strip()
        found += _commands(command, words) if isinstance(command, click.Group) else [words]
    return found
