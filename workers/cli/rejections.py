"""`leadway-calls rejections`: what was refused or ignored at the door, how often, and why."""

from datetime import datetime, timedelta

import click

from models.database import now
from models.intake import rejection_counts
from models.intake.reasons import sentence_of
from models.intake.rejection_counts import IGNORED, RejectionSummary
from workers.cli.acting import json_option, show_json
from workers.cli.listing import Time
from workers.cli.opened import opened
from workers.cli.screen import say, show_table, when

SHOWN = timedelta(hours=24)


@click.command()
@click.option("--since", type=Time(), metavar="TIME", help="From this hour on; without it the last 24 hours.")
@json_option
def rejections(since: datetime | None, in_json: bool) -> None:
    """Tells how many notifications were refused or ignored and left no row, by reason, the latest first, and why.

    They are counted by the hour. Metrics count them too, and wrong paths with them.

    \b
    Examples:
      leadway-calls rejections
      leadway-calls rejections --since 2026-03-01 --json
    """
    with opened(reads_only=True) as this, this.database.reading() as connection:
        since = since or now(connection) - SHOWN
        found = rejection_counts.by_reason(rejection_counts.since(connection, since))
    if in_json:
        told = [
            {
                "reason": each.reason, "answer": _answer(each.reason), "number": each.number, "last_at": each.last_at,
                "why": sentence_of(each.reason), "last": each.trace,
            }
            for each in found
        ]  # fmt: skip
        show_json({"since": since, "rejections": told})
    elif not found:
        say(f"Nothing was refused or ignored since {when(since)}.")
    else:
        columns = ("reason", "answer", "number", "last", "why")
        show_table(columns, (_row(each) for each in found))


def _row(each: RejectionSummary) -> tuple[str, ...]:
    return each.reason, _answer(each.reason), str(each.number), when(each.last_at), sentence_of(each.reason)


def _answer(reason: str) -> str:
    return "ignored" if reason in IGNORED else "refused"
