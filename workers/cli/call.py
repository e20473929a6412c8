"""`leadway-calls call ID`: the timeline of one call."""

from collections.abc import Iterator

import click
import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts import pauses
from models.calls import calls
from models.reports import timeline
from models.reports.timeline import Timeline
from models.work.work_rows import WorkStatus
from workers.cli.opened import Failure, opened
from workers.cli.screen import NOTHING, heading, say, show_facts, show_table, when


@click.command(short_help="One call's timeline, from its notification to its notes.")
@click.argument("call_id", metavar="ID")
@click.option("--location", help="The account, where several have a call with this id.")
@click.option("--transcript", is_flag=True, help="Also what was said: the summary and the transcript.")
def call(call_id: str, location: str | None, transcript: bool) -> None:
    """Shows one call's timeline: notifications, attempts, what is stored, its actions, its follow-ups, what is next.

    \b
    Example:
      leadway-calls call 68f0c2b1e4
    """
    with opened() as this, this.database.reading() as connection:
        row = find_call(connection, call_id, location=location)
        found = timeline.of_call(connection, row)
        paused = [each.cause for each in pauses.of_account(connection, row["location_id"]) if each.work != "follow_up"]
    heading(f"Call {call_id}")
    show_facts(_facts(found.call, paused))
    heading("What happened")
    show_table(("at", "what"), ((when(event.at), event.text) for event in timeline.events(found)))
    _show_actions(found)
    _show_follow_ups(found)
    if transcript:
        heading("Summary")
        say(row["summary"] or NOTHING)
        heading("Transcript")
        say(row["transcript"] or NOTHING)


def find_call(connection: Connection, call_id: str, *, location: str | None) -> sa.RowMapping:
    """The call's row. Raises Failure when there is none, or when several accounts have one and none is named."""
    found = [row for row in calls.find(connection, call_id) if location in (None, row["location_id"])]
    if not found:
        whose = f" of the account {location}" if location else ""
        raise Failure(f"no call {call_id!r}{whose} is known; it was neither announced nor listed")
    if len(found) > 1:
        accounts = ", ".join(row["location_id"] for row in found)
        raise Failure(f"several accounts have a call {call_id!r} ({accounts}): name one with --location")
    return found[0]


def _facts(row: sa.RowMapping, paused: list[str]) -> Iterator[tuple[str, str]]:
    yield "status", row["status"] + (f": {row['dead_cause']}" if row["dead_cause"] else "")
    yield "account", row["location_id"]
    yield "started", when(row["started_at"])
    if row["duration_seconds"] is not None:
        yield "lasted", f"{row['duration_seconds']:g} s"
    yield "agent", row["agent_id"] or NOTHING
    yield "contact", row["contact_id"] or NOTHING
    if row["trial_call"]:
        yield "trial call", "yes: it gets no follow-ups"
    if row["read_at"] is not None:
        yield "last reading", f"{when(row['read_at'])}, by {row['read_from']}"
    yield "attempts", str(row["attempts"])
    yield "next", _next(row, paused)
    if row["last_error"]:
        yield "last error", row["last_error"]


def _next(row: sa.RowMapping, paused: list[str]) -> str:
    match WorkStatus(row["status"]):
        case WorkStatus.DEAD:
            return f"nothing by itself; `leadway-calls replay call {row['call_id']}` fetches it again"
        case WorkStatus.RUNNING:
            return f"it is being fetched; should that break off, again at {when(row['next_attempt_at'])}"
        case _ if row["next_attempt_at"] is None:
            return "nothing: it is complete"
        case _:
            what = "fetched" if row["stored_at"] is None else "read again, the log was not settled"
            waits = f", but the account is paused by {', '.join(paused)}" if paused else ""
            return f"{what} at {when(row['next_attempt_at'])}{waits}"


def _show_actions(found: Timeline) -> None:
    if found.actions:
        heading("Actions")
        show_table(
            ("executed", "key", "type", "name"),
            (
                (when(row["executed_at"]), row["action_key"], row["action_type"], row["action_name"])
                for row in found.actions
            ),
        )


def _show_follow_ups(found: Timeline) -> None:
    if not found.follow_ups:
        return
    heading("Follow-ups")
    for row in found.follow_ups:
        reason = row["skip_reason"] or row["dead_cause"]
        remote = f", {row['kind']} {row['remote_id']}" if row["remote_id"] else ""
        facts = [
            ("status", row["status"] + (f": {reason}" if reason else "") + remote),
            ("of", f"rule {row['rule_id']}, action {row['action_key']}"),
        ]
        if row["next_attempt_at"] is not None:
            facts.append(("next attempt", when(row["next_attempt_at"])))
        elif row["status"] == WorkStatus.UNCLEAR:
            facts.append(("next", f"a person looks: `leadway-calls follow-up {row['follow_up_id']}`"))
        if row["last_error"]:
            facts.append(("last error", row["last_error"]))
        say(f"  {row['follow_up_id']}")
        show_facts((f"  {name}", value) for name, value in facts)
