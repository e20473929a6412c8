"""`leadway-calls notifications …`: what Leadway sent, and what became of each."""

from datetime import datetime
from typing import Any

import click

from models.intake.notifications import NotificationStatus, StoredNotification
from models.intake.reasons import sentence_of
from models.reconciling.unresolved import found_by
from models.reports import notification_list
from models.reports.notification_list import NotificationCursor, NotificationFilter
from workers.cli.acting import json_option, show_json
from workers.cli.calls import limit_option
from workers.cli.listing import Time
from workers.cli.opened import opened
from workers.cli.screen import NOTHING, say, show_table, when
from workers.cli.selecting import find_call, known_location, tell_next


class AfterNotification(click.ParamType[NotificationCursor]):
    """The cursor that a page of notifications ends with."""

    name = "cursor"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> NotificationCursor:
        found = value if isinstance(value, NotificationCursor) else NotificationCursor.read(str(value))
        if found is None:
            self.fail("that is no cursor: paste the one that the page before ended with", param, ctx)
        return found


@click.group()
def notifications() -> None:
    """What Leadway sent, and what became of each. What was refused is only counted: `leadway-calls rejections`.

    \b
    Example:
      leadway-calls notifications list
    """


@notifications.command("list", short_help="Notifications, newest first.")
@click.option("--location", metavar="LOCATION", help="Of this account only.")
@click.option("--call", "call_id", metavar="ID", help="Of this call only.")
@click.option("--status", type=click.Choice([each.value for each in NotificationStatus]), help="What became of them.")
@click.option("--since", type=Time(), metavar="TIME", help="That came at this time or later.")
@click.option("--until", type=Time(), metavar="TIME", help="That came before this time.")
@limit_option
@click.option("--after", type=AfterNotification(), metavar="CURSOR", help="The next page, by what the last one told.")
@json_option
def list_notifications(
    location: str | None,
    call_id: str | None,
    status: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    after: NotificationCursor | None,
    in_json: bool,
) -> None:
    """Lists notifications, newest first; a repeat is counted at its first. Their bodies are in the database only.

    \b
    Examples:
      leadway-calls notifications list --status unresolved
      leadway-calls notifications list --call 68f0c2b1e4 --json
    """
    with opened(reads_only=True) as this, this.database.reading() as connection:
        location = None if location is None else known_location(connection, location)
        if call_id is not None:
            call = find_call(connection, call_id, location=location)
            location, call_id = call.location_id, call.call_id
        of_status = None if status is None else NotificationStatus(status)
        wanted = NotificationFilter(location, call_id, of_status, since, until)
        page = notification_list.newest(connection, wanted, limit=limit, after=after)
    if in_json:
        told = [_as_json(each) for each in page.notifications]
        show_json({"notifications": told, "next": None if page.following is None else str(page.following)})
        return
    if not page.notifications:
        say("No notification is like that.")
        return
    show_table(("came", "status", "account", "call", "how", "why"), (_row(each) for each in page.notifications))
    tell_next(page.following)


def _row(each: StoredNotification) -> tuple[str, ...]:
    repeats = f", {each.repeats} repeats" if each.repeats else ""
    return (
        when(each.received_at), each.status, each.location_id or NOTHING, each.call_id or NOTHING,
        f"{each.dialect}, by {each.authenticated_by}{repeats}", sentence_of(each.reason) if each.reason else NOTHING,
    )  # fmt: skip


def _as_json(each: StoredNotification) -> dict[str, Any]:
    """The contract of `--json`: every key is always there, null where nothing is known. No words of people."""
    names = (
        "notification_id", "location_id", "call_id", "contact_id", "webhook_id", "event_type", "dialect",
        "authenticated_by", "status", "reason", "received_at", "last_received_at", "repeats",
    )  # fmt: skip
    told = {name: getattr(each, name) for name in names}
    return {**told, "why": sentence_of(each.reason) if each.reason else None, "found_by": found_by(each)}
