"""`leadway-calls call ID`: the timeline of one call."""

from collections.abc import Iterator, Sequence

import click
from sqlalchemy import Connection

from models.accounts import pauses
from models.accounts.pauses import ALL_WORK, Pause
from models.calls import calls
from models.calls.calls import CALL
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUp
from models.reports import timeline
from models.reports.timeline import KnownCall, OwedFollowUp, Timeline
from models.work.work_rows import POISON, WorkKind, WorkStatus
from workers.cli.opened import Failure, opened
from workers.cli.screen import NOTHING, because, heading, known, say, show_facts, show_table, when


@click.command
@click.argument("call_id", metavar="ID")
@click.option("--location", help="The account, where several have a call with this id.")
@click.option("--transcript", is_flag=True, help="Also what was said: the summary and the transcript.")
def call(call_id: str, location: str | None, transcript: bool) -> None:
    """Shows one call's timeline: notifications, attempts, what is stored, its actions, its follow-ups, what is next.

    \b
    Example:
      leadway-calls call 68f0c2b1e4
    """
    with opened(reads_only=True) as this, this.database.reading() as connection:
        found = timeline.of_call(connection, find_call(connection, call_id, location=location))
        paused = pauses.of_account(connection, found.call.location_id)
    heading(f"Call {call_id}")
    show_facts(_facts(found.call, paused))
    heading("What happened")
    show_table(("at", "what"), ((when(event.at), event.text) for event in timeline.events(found)))
    _show_actions(found)
    _show_follow_ups(found, paused)
    if transcript:
        heading("Summary")
        log = found.call.stored
        say((log and log.summary) or NOTHING)
        heading("Transcript")
        say((log and log.transcript) or NOTHING)


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


def _facts(call: KnownCall, paused: Sequence[Pause]) -> Iterator[tuple[str, str | None]]:
    yield "status", because(call.status, call.dead_cause)
    yield "account", call.location_id
    if log := call.stored:
        yield "started", when(log.started_at)
        yield "lasted", None if log.duration_seconds is None else f"{log.duration_seconds:g} s"
        yield "agent", log.agent_id or NOTHING
        yield "contact", log.contact_id or NOTHING
        yield "trial call", "yes: it gets no follow-ups" if log.trial_call else None
        yield "last reading", f"{when(log.read_at)}, by {log.read_from}"
        yield "words", known(log.emptied_at, ": deleted after the retention time")
    else:
        yield "log", "not stored yet"
    yield "attempts", str(call.attempts) if call.work else None
    yield "next", _next(call) + _held_back(call, CALL, paused)
    yield "last error", call.last_error


def _next(call: KnownCall) -> str:
    work = call.work
    if work is None:
        return "nothing is to be read: the log is complete"
    if work.status is WorkStatus.DEAD:
        revives = "nothing" if work.dead_cause == POISON else "nothing, unless it is notified of or listed again"
        return f"{revives}; `leadway-calls replay call {call.call_id}` has it read again"
    if work.status is WorkStatus.RUNNING:
        return f"it is being read; should that break off, again at {when(work.due_at)}"
    if call.stored is None:
        return f"read at {when(work.due_at)}"
    why = "it was asked for again" if call.is_settled else "the log is not settled"
    return f"read again at {when(work.due_at)}, because {why}"


def if_it_breaks_off(owed: OwedFollowUp) -> str:
    return ", should the present one break off" if owed.is_running else ""


def _held_back(owed: KnownCall | OwedFollowUp, kind: WorkKind, paused: Sequence[Pause]) -> str:
    causes = sorted({each.cause for each in paused if each.work in (ALL_WORK, kind.paused_as)})
    return f", but the account is paused by {', '.join(causes)}" if causes and owed.due_at else ""


def _show_actions(found: Timeline) -> None:
    if found.actions:
        heading("Actions")
        rows = ((when(each.executed_at), each.action_key, each.action_type, each.action_name) for each in found.actions)
        show_table(("executed", "key", "type", "name"), rows)


def _show_follow_ups(found: Timeline, paused: Sequence[Pause]) -> None:
    if found.follow_ups:
        heading("Follow-ups")
    for owed in found.follow_ups:
        each = owed.follow_up
        remote = f", {each.kind} {each.remote_id}" if each.remote_id else ""
        say(f"  {each.follow_up_id}")
        show_facts((
            ("  status", because(owed.status, each.skip_reason or owed.dead_cause) + remote),
            ("  of", f"rule {each.rule_id}, action {each.action_key}"),
            ("  next attempt", known(owed.due_at, if_it_breaks_off(owed) or _held_back(owed, FOLLOW_UP, paused))),
            (
                "  next",
                f"a person looks: `leadway-calls follow-up {each.follow_up_id}`" if owed.needs_a_person else None,
            ),
            ("  last error", owed.last_error),
        ))  # fmt: skip
