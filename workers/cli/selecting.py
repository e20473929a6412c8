"""Which calls, follow-ups and accounts a command is about: by the pages' filters, or by ids, also short ones."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, TypeVar

import click
from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp
from models.reports import call_list, search, timeline
from models.reports.call_filter import CallFilter, CallState, FollowUpFilter
from models.reports.call_list import Cursor, Key, ListedCall
from models.reports.timeline import KnownCall
from workers.cli.listing import Time
from workers.cli.opened import Failure
from workers.cli.screen import say

Command = TypeVar("Command", bound=Callable[..., Any])

TELLS_ROWS = 20
"""Rows that a command shows of what it would do."""
READ_AT_ONCE = 500
TOLD_OF_SEVERAL = 5
"""Ids that are named where one is too short to tell them apart."""


def _choices(of: type[CallState] | type[FollowUpFilter]) -> click.Choice[str]:
    return click.Choice([each.value for each in of])


_FILTERS = (
    click.option("--location", metavar="LOCATION", help="Of this account only."),
    click.option("--state", type=_choices(CallState), help="Of the call: that of its work; complete: nothing is open."),
    click.option("--follow-up", type=_choices(FollowUpFilter), help="With a follow-up like that; none: without any."),
    click.option("--action", metavar="TYPE", help="With an action of this type, such as APPOINTMENT_BOOKING."),
    click.option("--agent", metavar="AGENT", help="The agent's id or whole name."),
    click.option("--direction", metavar="DIRECTION", help="inbound or outbound, where the log tells."),
    click.option("--trial/--no-trial", default=None, help="Trial calls only, or none of them."),
    click.option("--since", type=Time(), metavar="TIME", help="That became known at this time or later."),
    click.option("--until", type=Time(), metavar="TIME", help="That became known before this time."),
)


def call_filters(command: Command) -> Command:
    """Gives a command the options of a `CallFilter`; it gets the filter as `wanted`."""

    @wraps(command)
    def with_filter(**options: Any) -> Any:
        names = ("location", "state", "follow_up", "action", "agent", "direction", "trial", "since", "until")
        told = {name: options.pop(name) for name in names}
        state, follow_up = told.pop("state"), told.pop("follow_up")
        wanted = CallFilter(
            location_id=told.pop("location"),
            state=None if state is None else CallState(state),
            follow_up=None if follow_up is None else FollowUpFilter(follow_up),
            **told,
        )
        return command(**options, wanted=wanted)

    for option in reversed(_FILTERS):
        with_filter = option(with_filter)
    return with_filter  # type: ignore[return-value]  # click's options keep the function


class After(click.ParamType[Cursor]):
    """The cursor that a page of a list ends with."""

    name = "cursor"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Cursor:
        found = value if isinstance(value, Cursor) else Cursor.read(str(value))
        if found is None:
            self.fail("that is no cursor: paste the one that the page before ended with", param, ctx)
        return found


def named_or_filtered(ids: Sequence[str], wanted: CallFilter, *, what: str) -> None:
    """Raises UsageError unless either ids or filters say what is meant: nothing acts on everything by oversight."""
    filtered = replace(wanted, location_id=None) != CallFilter()
    if bool(ids) == filtered and not (not ids and wanted.location_id):
        raise click.UsageError(f"name {what} by their ids, or say by filters which are meant")


def chosen_calls(connection: Connection, ids: Sequence[str], wanted: CallFilter) -> list[Key]:
    """The keys of the calls that are named, else of those that the filter lets through. Raises Failure."""
    if ids:
        named = [find_call(connection, each, location=wanted.location_id) for each in ids]
        return list(dict.fromkeys((each.location_id, each.call_id) for each in named))
    return [each.key for each in every_call(connection, of_known_account(connection, wanted))]


def every_call(connection: Connection, wanted: CallFilter) -> Iterator[ListedCall]:
    """All that the filter lets through, newest first."""
    after = None
    while True:
        page = call_list.read_on(connection, wanted, limit=READ_AT_ONCE, after=after)
        yield from page.calls
        after = page.following
        if after is None:
            return


def of_known_account(connection: Connection, wanted: CallFilter) -> CallFilter:
    """The filter with the whole id of its account. Raises Failure."""
    if wanted.location_id is None:
        return wanted
    return replace(wanted, location_id=known_location(connection, wanted.location_id))


def known_location(connection: Connection, text: str) -> str:
    """The id of the account with this id, or whose id alone begins so. Raises UnknownAccount, Failure."""
    known = search.known_accounts(connection)
    found = [each for each in known if each == text] or [each for each in known if each.startswith(text)]
    if not found or len(text) < search.SHORTEST:
        return accounts.get(connection, text).location_id
    return only(found, text, "account")


def find_call(connection: Connection, text: str, *, location: str | None = None) -> KnownCall:
    """The call with this id, or whose id alone begins so. Raises Failure when there is none, or when several accounts
    have one and none is named."""
    if location is not None:
        location = known_location(connection, location)
    keys = [key for key in search.of_call_id(connection, text) if location in (None, key[0])]
    if not keys:
        whose = f" of the account {location}" if location else ""
        raise Failure(f"no call {text!r}{whose} is known; it was neither announced nor listed")
    call_id = only(sorted({call_id for _, call_id in keys}), text, "call")
    if len(keys) > 1:
        told = ", ".join(sorted(each for each, _ in keys))
        raise Failure(f"several accounts have a call {call_id!r} ({told}): name one with --location")
    known = timeline.known_call(connection, *keys[0])
    if known is None:
        raise Failure(f"the call {call_id!r} has gone within this moment; try again")
    return known


def find_follow_up(connection: Connection, text: str) -> FollowUp:
    """The follow-up with this id, or whose id alone begins so. Raises Failure."""
    ids = search.of_follow_up_id(connection, text)
    found = follow_ups.get(connection, only(ids, text, "follow-up")) if ids else None
    if found is None:
        raise Failure(f"no follow-up {text!r}; `leadway-calls calls show ID` names those of a call")
    return found


def only(ids: list[str], text: str, noun: str) -> str:
    """Raises Failure, which names some of them, when there are several."""
    if len(ids) > 1:
        more = f" and {len(ids) - TOLD_OF_SEVERAL} more" if len(ids) > TOLD_OF_SEVERAL else ""
        told = ", ".join(ids[:TOLD_OF_SEVERAL])
        raise Failure(f"several {noun}s begin with {text!r} ({told}{more}): write more of it")
    return ids[0]


def tell_next(following: object) -> None:
    """How to get the next page. Where rows are piped it goes to standard error, so that only rows are piped."""
    if following is not None:
        click.echo(f"There are more: add --after '{following}'", err=not sys.stdout.isatty())


def show_pauses(connection: Connection, location_id: str) -> None:
    causes = sorted({each.cause for each in pauses.of_account(connection, location_id)})
    if causes:
        say(
            f"Its account is paused by {', '.join(causes)}: it waits until that ends. See `leadway-calls accounts show"
            f" {location_id}`."
        )
