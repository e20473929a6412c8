"""`leadway-calls call ID`: the timeline of one call."""

from collections.abc import Sequence

import click
from sqlalchemy import Connection

from models.accounts import pauses
from models.calls import calls
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp
from models.reports import timeline
from models.reports.timeline import KnownCall, Timeline
from models.work.work_rows import WorkStatus
from workers.cli.opened import Failure, opened
from workers.cli.screen import NOTHING, because, heading, known, say, show_facts, show_table, when


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
        found = timeline.of_call(connection, find_call(connection, call_id, location=location))
        held_back = [each for each in pauses.of_account(connection, found.call.location_id) if each.work != "follow_up"]
    heading(f"Call {call_id}")
    show_facts(_facts(found.call, [each.cause for each in held_back]))
    heading("What happened")
    show_table(("at", "what"), ((when(event.at), event.text) for event in timeline.events(found)))
    _show_actions(found)
    _show_follow_ups(found)
    if transcript:
        heading("Summary")
        log = found.call.stored
        say(log.summary or NOTHING if log else NOTHING)
        heading("Transcript")
        say(log.transcript or NOTHING if log else NOTHING)


def find_call(connection: Connection, call_id: str, *, location: str | None) -> KnownCall:
    """The call. Raises Failure when there is none, or when several accounts have one and none is named."""
    found = [each for each in calls.find(connection, call_id) if location in (None, each.location_id)]
    if not found:
        whose = f" of the account {location}" if location else ""
        raise Failure(f"no call {call_id!r}{whose} is known; it was neither announced nor listed")
    if len(found) > 1:
        accounts = ", ".join(each.location_id for each in found)
        raise Failure(f"several accounts have a call {call_id!r} ({accounts}): name one with --location")
    known = timeline.known_call(connection, found[0].location_id, call_id)
    if known is None:
        raise Failure(f"the call {call_id!r} has gone within this moment; try again")
    return known


def find_follow_up(connection: Connection, follow_up_id: str) -> FollowUp:
    """The follow-up. Raises Failure when there is none."""
    found = follow_ups.get(connection, follow_up_id)
    if found is None:
        raise Failure(f"no follow-up {follow_up_id!r}; `leadway-calls call ID` names those of a call")
    return found


def _facts(call: KnownCall, paused: list[str]) -> Sequence[tuple[str, str | None]]:
    log = call.stored
    return (
        ("status", because(call.status, call.dead_cause)),
        ("account", call.location_id),
        ("started", when(log.started_at if log else None)),
        ("lasted", None if log is None or log.duration_seconds is None else f"{log.duration_seconds:g} s"),
        ("agent", (log.agent_id if log else None) or NOTHING),
        ("contact", (log.contact_id if log else None) or NOTHING),
        ("trial call", "yes: it gets no follow-ups" if log and log.trial_call else None),
        ("last reading", known(log.read_at, f", by {log.read_from}") if log else None),
        ("attempts", str(call.attempts) if call.work else None),
        ("next", _next(call, paused)),
        ("last error", call.last_error),
    )


def _next(call: KnownCall, paused: list[str]) -> str:
    work = call.work
    if work is None:
        return "nothing: it is complete"
    if work.status is WorkStatus.DEAD:
        return f"nothing by itself; `leadway-calls replay call {call.call_id}` fetches it again"
    if work.status is WorkStatus.RUNNING:
        return f"it is being fetched; should that break off, again at {when(work.due_at)}"
    what = "fetched" if call.stored is None else "read again, the log was not settled"
    waits = f", but the account is paused by {', '.join(paused)}" if paused else ""
    return f"{what} at {when(work.due_at)}{waits}"


def _show_actions(found: Timeline) -> None:
    if found.actions:
        heading("Actions")
        rows = ((when(each.executed_at), each.action_key, each.action_type, each.action_name) for each in found.actions)
        show_table(("executed", "key", "type", "name"), rows)


def _show_follow_ups(found: Timeline) -> None:
    if found.follow_ups:
        heading("Follow-ups")
    for owed in found.follow_ups:
        each = owed.follow_up
        remote = f", {each.kind} {each.remote_id}" if each.remote_id else ""
        say(f"  {each.follow_up_id}")
        show_facts((
            ("  status", because(each.status, each.skip_reason or owed.dead_cause) + remote),
            ("  of", f"rule {each.rule_id}, action {each.action_key}"),
            ("  next attempt", known(owed.due_at)),
            (
                "  next",
                f"a person looks: `leadway-calls follow-up {each.follow_up_id}`" if owed.needs_a_person else None,
            ),
            ("  last error", owed.last_error),
        ))  # fmt: skip
