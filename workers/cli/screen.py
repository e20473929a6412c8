"""What a command prints: times, ages, facts and tables, with colour on a terminal, plain elsewhere."""

import os
from collections.abc import Iterable, Sequence
from datetime import datetime

import click
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from models.accounts.pauses import ALL_WORK, Pause
from models.reports.wording import age as age  # as every other word of the screen, for the commands
from models.reports.wording import count as count

NOTHING = "–"
PIPED_WIDTH = 400
"""Characters: lines for another program are not broken. COLUMNS, where it is set, decides there too."""


def when(moment: datetime | None) -> str:
    """`2026-03-01T09:30:00Z`; None: a dash."""
    return NOTHING if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def known(moment: datetime | None, more: str = "") -> str | None:
    """`2026-03-01T09:30:00Z` and what more is known with that time; None, so no fact to show, without a time."""
    return None if moment is None else when(moment) + more


def because(text: str, reason: str | None) -> str:
    """`dead: not_found`; the text alone where there is no reason."""
    return f"{text}: {reason}" if reason else text


def work_of(pause: Pause) -> str:
    """`everything`, `calls`, `follow-ups`."""
    return "everything" if pause.work == ALL_WORK else f"{pause.work.replace('_', '-')}s"


def say(text: str) -> None:
    _print(_text(text))


def heading(text: str, *, wrong: bool = False) -> None:
    _print(_text(text, "bold red" if wrong else "bold"))


def show_facts(facts: Iterable[tuple[str, str | None]]) -> None:
    """Prints one fact a line, indented, the name left of the value. Leaves out a fact without a value."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts:
        if value:
            grid.add_row(_text(name, "dim"), _text(value))
    _print(Padding(grid, (0, 0, 0, 2), expand=False))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, unbroken: int = 1) -> None:
    """Prints rows under the columns' names in capitals. The first `unbroken` columns are never broken."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for position, name in enumerate(columns):
        table.add_column(name.upper(), no_wrap=position < unbroken, overflow="fold")
    for row in rows:
        table.add_row(*(_text(cell) for cell in row))
    _print(Padding(table, (0, 0, 0, 2), expand=False))


def printable(text: str) -> str:
    """Replaces control characters: text from outside must not steer a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in text)


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style=style)


def _print(what: RenderableType) -> None:
    """Prints without the blanks at the right edge of a table."""
    console = _console()
    with console.capture() as printed:
        console.print(what)
    click.echo("\n".join(line.rstrip() for line in printed.get().split("\n")), nl=False)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console = Console(highlight=False, width=PIPED_WIDTH)
    return console
