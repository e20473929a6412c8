"""What every command that shows or acts shares: `--json`, `--dry-run`, and the question before more than one row."""

import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeVar

import click
from sqlalchemy import Connection

from workers.cli.opened import Failure, Opened
from workers.cli.screen import when

T = TypeVar("T")

IN_ONE_TRANSACTION = 200
"""Rows that are changed in one transaction."""

json_option = click.option("--json", "in_json", is_flag=True, help="For programs: one JSON object.")
words_option = click.option("--words", is_flag=True, help="Also what people said, and their numbers.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only tell what would be done.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask before more than one is changed.")


def show_json(value: Any) -> None:
    """Times as ISO 8601 in UTC."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_as_json))


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return when(value)
    if isinstance(value, StrEnum):
        return str(value)
    raise TypeError(type(value).__name__)


def agree(number: int, question: str, *, yes: bool, asked_before: bool = True) -> None:
    """Asks a person before more than one row is changed. Raises Failure for a no, and where nobody can answer.

    `asked_before`: whether this form of the command always asked. One that did not is not asked where its standard
    input is no terminal: scripts use it.
    """
    if number < 2 or yes or (not asked_before and not sys.stdin.isatty()):
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise Failure(f"{question} Nobody answered, and nothing was changed: --yes answers in advance") from None
    if not agreed:
        raise Failure("nothing was changed")


def change_all(this: Opened, rows: Sequence[T], write: Callable[[Connection, T], bool]) -> list[T]:
    """Calls `write` for each row, several in a transaction; returns those that it says it changed."""
    changed: list[T] = []
    for start in range(0, len(rows), IN_ONE_TRANSACTION):
        changed += this.database.transact(_writes(rows[start : start + IN_ONE_TRANSACTION], write))
    return changed


def _writes(rows: Sequence[T], write: Callable[[Connection, T], bool]) -> Callable[[Connection], list[T]]:
    return lambda connection: [each for each in rows if write(connection, each)]
