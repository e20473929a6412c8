"""`leadway-calls export`: what is asked for, where it goes, and what is told of it."""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.accounts import accounts
from workers.cli.credentials import checked_location
from workers.cli.export.files import FORMATS, ExportedFile, Lines, refuse_missing_library
from workers.cli.export.rows import CALLS, COVERAGE, OF_CALLS, Asked, Row, Snapshot, snapshot
from workers.cli.opened import WRONG_USAGE, Failure, opened
from workers.cli.screen import count, say
from workers.telemetry.release import release

VIEWS = (CALLS, *OF_CALLS, COVERAGE)
MANIFEST = "manifest.json"
STANDARD_OUTPUT = "-"
_DAY = click.DateTime(["%Y-%m-%d"])


@click.command
@click.argument("folder", metavar="FOLDER|-")
@click.option("--from", "first", type=_DAY, required=True, metavar="DAY", help="The first day, as 2026-03-01.")
@click.option("--to", "last", type=_DAY, metavar="DAY", help="The last day, included. [default: the first day]")
@click.option("--format", "form", type=click.Choice(FORMATS), default="csv", show_default=True)
@click.option("--location", "locations", multiple=True, metavar="LOCATION", help="Only this account; may be repeated.")
@click.option("--view", "only", multiple=True, type=click.Choice(VIEWS), help="Only this view; may be repeated.")
@click.option("--without-words", is_flag=True, help="Without summaries, transcripts, numbers, extracted data, notes.")
def export(
    folder: str,
    first: datetime,
    last: datetime | None,
    form: str,
    locations: tuple[str, ...],
    only: tuple[str, ...],
    without_words: bool,
) -> None:
    """Writes the calls that began on some days, and all that belongs to them, as files into FOLDER.

    One file for each view of the read contract (docs/data/README.md), all as they were at one moment, and
    manifest.json with rows, bytes and checksums. It is written last: without it an export is not complete. A day is
    that of the account's time zone; coverage tells for each day whether all of its calls are there. Calls whose start
    is not known yet belong to no day. `-` writes one view, as csv or ndjson, to standard output.

    \b
    Examples:
      leadway-calls export --from 2026-03-01 --to 2026-03-31 --format parquet /exports/2026-03
      leadway-calls export --from 2026-03-01 --view calls --without-words - | head
    """
    asked = Asked(
        first.date(), (last or first).date(), tuple(checked_location(each) for each in locations), not without_words
    )
    if asked.last < asked.first:
        raise Failure("--to is before --from", exit_code=WRONG_USAGE)
    views = only or VIEWS
    if folder == STANDARD_OUTPUT and (len(views) != 1 or form == "parquet"):
        raise Failure("to standard output: one view, as csv or ndjson (--view calls)", exit_code=WRONG_USAGE)
    refuse_missing_library(form)
    with opened(reads_only=True) as this:
        with this.database.reading() as connection:
            for location in asked.locations:
                accounts.get(connection, location)
        with snapshot(this.database, asked) as found:
            if folder == STANDARD_OUTPUT:
                _print(found, asked, views[0], form)
            else:
                _write(found, asked, views, form, Path(folder))


def _print(found: Snapshot, asked: Asked, view: str, form: str) -> None:
    lines = Lines(sys.stdout.buffer.write, asked.columns(view), form=form)
    for _, rows in _parts(found, (view,)):
        lines.add(rows)


def _write(found: Snapshot, asked: Asked, views: tuple[str, ...], form: str, folder: Path) -> None:
    made_at = datetime.now(UTC)
    manifest = folder / MANIFEST
    if manifest.exists():
        raise Failure(f"{manifest} exists, and an export replaces nothing: choose another folder")
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            files = {
                view: stack.enter_context(ExportedFile(folder, view, asked.columns(view), form=form)) for view in views
            }
        except OSError as error:
            raise Failure(f"{folder} cannot be written to: {error.strerror}") from None
        advance = stack.enter_context(_progress(found.number_of_calls()))
        for view, rows in _parts(found, views):
            files[view].add(rows)
            advance(len(rows) if view == CALLS else 0)
    told = {
        "contract": "v1", "release": release(), "made_at": made_at.isoformat(timespec="seconds"),
        "from": asked.first.isoformat(), "to": asked.last.isoformat(), "locations": list(asked.locations) or None,
        "with_words": asked.with_words, "format": form, "files": [each.facts for each in files.values()],
    }  # fmt: skip
    manifest.write_text(json.dumps(told, indent=2) + "\n")
    calls = next((each.facts["rows"] for view, each in files.items() if view == CALLS), None)
    say(f"{folder}: {count(len(files), 'file')}" + (f", {count(int(calls), 'call')}." if calls is not None else "."))


def _parts(found: Snapshot, views: tuple[str, ...]) -> Iterator[tuple[str, list[Row]]]:
    """The rows of these views, part by part."""
    of_calls = [view for view in OF_CALLS if view in views]
    if CALLS in views or of_calls:
        for calls in found.calls():
            if CALLS in views:
                yield CALLS, calls
            for view in of_calls:
                yield view, list(found.of_calls(view, calls))
    if COVERAGE in views:
        yield COVERAGE, list(found.coverage())


@contextmanager
def _progress(calls: int) -> Iterator[Any]:
    """On a terminal a bar of calls; elsewhere nothing."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("calls", total=calls)
        yield lambda number: bar.advance(task, number)
