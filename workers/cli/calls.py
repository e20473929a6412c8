"""`leadway-calls calls …`: finds calls, newest first, by filters or by what a customer knows; shows one."""

from typing import Any

import click

from models.reports import call_list, search
from models.reports.call_filter import CallFilter
from models.reports.call_list import CallPage, Cursor, ListedCall, OwedState
from workers.cli.acting import json_option, show_json, words_option
from workers.cli.call import call
from workers.cli.opened import opened
from workers.cli.screen import NOTHING, because, say, show_table, when
from workers.cli.selecting import After, call_filters, of_known_account, tell_next

SHORT_PAGE = 20

limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=SHORT_PAGE, show_default=True, help="At most so many."
)
after_option = click.option("--after", type=After(), metavar="CURSOR", help="The next page, by what the last one told.")


@click.group()
def calls() -> None:
    """Calls, newest first by when they became known; what people said is told only with --words.

    \b
    Examples:
      leadway-calls calls search "+34 600 111 222"
      leadway-calls calls list --follow-up dead
      leadway-calls calls show 68f0c2b1e4
    """


calls.add_command(call, name="show")


@calls.command("list", short_help="Calls by filters, newest first.")
@call_filters
@limit_option
@after_option
@words_option
@json_option
def list_calls(wanted: CallFilter, limit: int, after: Cursor | None, words: bool, in_json: bool) -> None:
    """Lists calls, newest first by when they became known, with their actions and follow-ups.

    Everything that is given has to hold. Every page takes as long, however far back it is; a filter that fits few of
    many calls is looked for until the page is full or no call is left.

    \b
    Examples:
      leadway-calls calls list --state dead
      leadway-calls calls list --follow-up none --action APPOINTMENT_BOOKING --since 2026-03-01 --json
    """
    with opened(reads_only=True) as this, this.database.reading() as connection:
        wanted = of_known_account(connection, wanted)
        page = call_list.read_on(connection, wanted, limit=limit, after=after)
    _show(page, words=words, in_json=in_json, none="No call is like that.")


@calls.command("search", short_help="Calls by number, id, contact, reference or words.")
@click.argument("text", nargs=-1, required=True)
@call_filters
@limit_option
@after_option
@words_option
@json_option
def search_calls(
    text: tuple[str, ...], wanted: CallFilter, limit: int, after: Cursor | None, words: bool, in_json: bool
) -> None:
    """Finds calls by what a customer knows: the caller's number however it is written, the call's or contact's id, the
    reference in a note (all but the number also by their first 6 characters), else words of the summary.

    \b
    Examples:
      leadway-calls calls search "+34 600 111 222"
      leadway-calls calls search 5f0f4d0e
      leadway-calls calls search limpieza dental --since 2026-03-01
    """
    typed = " ".join(text)
    with opened(reads_only=True) as this, this.database.reading() as connection:
        page = search.calls(connection, typed, of_known_account(connection, wanted), limit=limit, after=after)
        found = [*page.calls]
        while page.following is not None and len(found) < limit:  # a person waits for words, a page does not
            page = search.calls(
                connection, typed, of_known_account(connection, wanted), limit=limit - len(found), after=page.following
            )
            found += page.calls
    _show(CallPage(found, page.following), words=words, in_json=in_json, none="No call is known by that.")


def _show(page: CallPage, *, words: bool, in_json: bool, none: str) -> None:
    if in_json:
        show_json({"calls": [_as_json(each, words=words) for each in page.calls], "next": _cursor(page.following)})
        return
    if not page.calls:
        say(none)
        return
    columns = ("call", "started", "account", "state", "actions", "follow-ups", *(("from", "summary") if words else ()))
    show_table(columns, (_row(each, words=words) for each in page.calls), unbroken=2)
    tell_next(page.following)


def _row(listed: ListedCall, *, words: bool) -> tuple[str, ...]:
    return (
        listed.call_id,
        when(listed.started_at or listed.first_heard_at),
        listed.name or listed.location_id,
        because(listed.status, listed.dead_cause) + (", trial" if listed.trial_call else ""),
        ", ".join(listed.action_types) or NOTHING,
        ", ".join(f"{each.kind} {state_told(each)}" for each in listed.follow_ups) or NOTHING,
        *((listed.from_number or NOTHING, listed.summary or NOTHING) if words else ()),
    )


def state_told(owed: OwedState) -> str:
    """`dead: contact_unknown`."""
    return because(owed.status, owed.skip_reason or owed.dead_cause)


def _cursor(following: Cursor | None) -> str | None:
    return None if following is None else str(following)


def _as_json(listed: ListedCall, *, words: bool) -> dict[str, Any]:
    """The contract of `--json`: every key is always there, null where nothing is known, but for `words`."""
    names = (
        "call_id", "location_id", "first_heard_at", "started_at", "duration_seconds", "direction", "contact_id",
        "agent_id", "agent_name", "trial_call", "stored_at", "settled_at", "dead_cause",
    )  # fmt: skip
    told: dict[str, Any] = {
        **{name: getattr(listed, name) for name in names},
        "state": listed.status,
        "actions": list(listed.action_types),
        "follow_ups": [follow_up_as_json(each) for each in listed.follow_ups],
    }
    if words:
        told["words"] = {"from_number": listed.from_number, "summary": listed.summary}
    return told


def follow_up_as_json(owed: OwedState) -> dict[str, Any]:
    names = (
        "follow_up_id", "kind", "rule_id", "skip_reason", "dead_cause", "last_error", "due_at", "planned_at", "done_at",
        "remote_id",
    )  # fmt: skip
    return {**{name: getattr(owed, name) for name in names}, "state": owed.status}
