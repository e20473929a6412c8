"""`leadway-calls follow-ups …`: what is owed or written because of calls, by the calls' filters."""

from dataclasses import replace

import click

from models.reports import call_list
from models.reports.call_filter import CallFilter, FollowUpFilter
from models.reports.call_list import Cursor, ListedCall, OwedState
from workers.cli.acting import json_option, show_json
from workers.cli.calls import after_option, follow_up_as_json, limit_option, state_told
from workers.cli.opened import opened
from workers.cli.screen import say, show_table, when
from workers.cli.selecting import call_filters, of_known_account, tell_next


@click.group("follow-ups")
def follow_ups() -> None:
    """Notes, tasks, tags and workflows that calls ask for. `leadway-calls follow-up ID` shows one.

    \b
    Example:
      leadway-calls follow-ups list --follow-up dead
    """


@follow_ups.command("list", short_help="Follow-ups by their calls' filters, newest calls first.")
@call_filters
@limit_option
@after_option
@json_option
def list_follow_ups(wanted: CallFilter, limit: int, after: Cursor | None, in_json: bool) -> None:
    """Lists the follow-ups of the calls that the filters name, those of the newest call first. --limit counts calls.

    --follow-up names their state; without it all are listed.

    \b
    Examples:
      leadway-calls follow-ups list --follow-up dead
      leadway-calls follow-ups list --follow-up unclear --location ve9EPM428h8vShlRW1KT --json
    """
    wanted = with_follow_ups(wanted)
    with opened(reads_only=True) as this, this.database.reading() as connection:
        page = call_list.read_on(connection, of_known_account(connection, wanted), limit=limit, after=after)
    found = [(each, owed) for each in page.calls for owed in meant(each, wanted)]
    if in_json:
        told = [
            {**follow_up_as_json(owed), "call_id": each.call_id, "location_id": each.location_id}
            for each, owed in found
        ]
        show_json({"follow_ups": told, "next": None if page.following is None else str(page.following)})
        return
    if not found:
        say("No follow-up is like that.")
        return
    columns = ("follow-up", "state", "call", "account", "next attempt")
    show_table(columns, (_row(each, owed) for each, owed in found))
    tell_next(page.following)


def with_follow_ups(wanted: CallFilter) -> CallFilter:
    """Raises UsageError for calls without follow-ups."""
    if wanted.follow_up is FollowUpFilter.NONE:
        raise click.UsageError("none is no state of a follow-up: `calls list --follow-up none` lists such calls")
    return wanted if wanted.follow_up is not None else replace(wanted, follow_up=FollowUpFilter.ANY)


def meant(listed: ListedCall, wanted: CallFilter) -> list[OwedState]:
    """The call's follow-ups in the state that is wanted; a running one is pending."""
    states = {*wanted.follow_up.states} if wanted.follow_up else set()
    return [each for each in listed.follow_ups if each.own_status in states]


def _row(listed: ListedCall, owed: OwedState) -> tuple[str, ...]:
    return (
        owed.follow_up_id, f"{owed.kind} {state_told(owed)}", listed.call_id, listed.name or listed.location_id,
        when(owed.due_at),
    )  # fmt: skip
