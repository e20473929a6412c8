"""`leadway-calls calls show ID`, also `leadway-calls call ID`: the timeline of one call."""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from models.accounts import accounts, pauses
from models.accounts.accounts import UnknownAccount
from models.accounts.pauses import Pause
from models.follow_ups.languages import Language
from models.reports import next_steps, timeline
from models.reports.timeline import KnownCall, OwedFollowUp, Timeline
from workers.cli.acting import json_option, show_json, words_option
from workers.cli.opened import opened
from workers.cli.screen import NOTHING, because, heading, known, say, show_facts, show_table, when
from workers.cli.selecting import find_call


@click.command
@click.argument("call_id", metavar="ID")
@click.option("--location", help="The account, where several have a call with this id.")
@words_option
@click.option("--transcript", "words", is_flag=True, hidden=True)
@json_option
def call(call_id: str, location: str | None, words: bool, in_json: bool) -> None:
    """Shows one call's timeline: notifications, attempts, what is stored, its actions, its follow-ups, what is next.

    ID may be the beginning of one, where no other call's begins so.

    \b
    Examples:
      leadway-calls calls show 68f0c2b1e4
      leadway-calls calls show 68f0c2b1e4 --words
    """
    with opened(reads_only=True) as this, this.database.reading() as connection:
        found = timeline.of_call(connection, find_call(connection, call_id, location=location))
        paused = pauses.of_account(connection, found.call.location_id)
        try:
            language: str = accounts.get(connection, found.call.location_id).language
        except UnknownAccount:
            language = Language.EN
    if in_json:
        show_json(_as_json(found, paused, language, words=words))
        return
    heading(f"Call {found.call.call_id}")
    show_facts(_facts(found.call, paused, words=words))
    heading("What happened")
    show_table(("at", "what"), ((when(event.at), event.text) for event in timeline.events(found)))
    _show_actions(found)
    _show_follow_ups(found, paused, language, words=words)
    if words:
        log = found.call.stored
        heading("Summary")
        say((log and log.summary) or NOTHING)
        heading("Transcript")
        say((log and log.transcript) or NOTHING)


def _facts(call: KnownCall, paused: Sequence[Pause], *, words: bool) -> Iterator[tuple[str, str | None]]:
    yield "status", because(call.status, call.dead_cause)
    yield "why", next_steps.why(call)
    yield "account", call.location_id
    if log := call.stored:
        yield "started", when(log.started_at)
        yield "lasted", None if log.duration_seconds is None else f"{log.duration_seconds:g} s"
        yield "direction", log.direction
        yield "agent", log.agent_id or NOTHING
        yield "contact", log.contact_id or NOTHING
        yield "from", log.from_number if words else None
        yield "trial call", "yes: it gets no follow-ups" if log.trial_call else None
        yield "last reading", f"{when(log.read_at)}, by {log.read_from}"
        yield "words", known(log.emptied_at, ": deleted after the retention time")
    else:
        yield "log", "not stored yet"
    yield "attempts", str(call.attempts) if call.work else None
    yield "next", next_steps.of_call(call, paused)
    yield "last error", call.last_error


def _show_actions(found: Timeline) -> None:
    if found.actions:
        heading("Actions")
        rows = ((when(each.executed_at), each.action_key, each.action_type, each.action_name) for each in found.actions)
        show_table(("executed", "key", "type", "name"), rows)


def _show_follow_ups(found: Timeline, paused: Sequence[Pause], language: str, *, words: bool) -> None:
    heading("Follow-ups")
    if none := next_steps.why_no_follow_up(found):
        say(f"  {none}")
    for owed in found.follow_ups:
        each = owed.follow_up
        remote = f", {each.kind} {each.remote_id}" if each.remote_id else ""
        is_over = each.status in ("done", "skipped")
        say(f"  {each.follow_up_id}")
        show_facts((
            ("  status", because(owed.status, each.skip_reason or owed.dead_cause) + remote),
            ("  why", next_steps.why(owed)),
            ("  of", f"rule {each.rule_id}, action {each.action_key}"),
            ("  next attempt", next_steps.attempt_of_follow_up(owed, paused)),
            ("  last error", owed.last_error),
            ("  what to do", None if is_over else next_steps.of_follow_up(owed, language)),
            ("  words", each.body if words else None),
        ))  # fmt: skip


def _as_json(found: Timeline, paused: Sequence[Pause], language: str, *, words: bool) -> dict[str, Any]:
    """The contract of `--json`: every key is always there, null where nothing is known, but for `words`."""
    call, log = found.call, found.call.stored
    told: dict[str, Any] = {
        "call_id": call.call_id, "location_id": call.location_id, "state": call.status, "dead_cause": call.dead_cause,
        "why": next_steps.why(call), "next": next_steps.of_call(call, paused), "due_at": call.due_at,
        "attempts": call.attempts, "last_error": call.last_error, "first_heard_at": call.first_heard_at,
        "origin": call.origin, "paused_by": sorted({each.cause for each in paused}),
        **{
            name: getattr(log, name, None)
            for name in (
                "started_at", "duration_seconds", "direction", "agent_id", "agent_name", "contact_id", "trial_call",
                "stored_at", "settled_at", "read_at", "read_from", "emptied_at",
            )
        },
        "notifications": [
            {
                "notification_id": each.notification_id, "received_at": each.received_at, "repeats": each.repeats,
                "status": each.status, "reason": each.reason, "dialect": each.dialect,
                "authenticated_by": each.authenticated_by,
            }
            for each in found.notifications
        ],
        "attempts_ended": [{name: getattr(each, name) for name in _OF_ATTEMPT} for each in found.attempts],
        "events": [{"at": each.at, "what": each.text} for each in timeline.events(found)],
        "actions": [
            {
                "action_key": each.action_key, "action_type": each.action_type, "action_name": each.action_name,
                "executed_at": each.executed_at,
            }
            for each in found.actions
        ],
        "follow_ups": [_follow_up_as_json(each, paused, language, words=words) for each in found.follow_ups],
        "why_no_follow_up": next_steps.why_no_follow_up(found),
    }  # fmt: skip
    if words:
        spoken = ("from_number", "summary", "transcript")
        told["words"] = {name: getattr(log, name, None) for name in spoken}
    return told


_OF_ATTEMPT = (
    "kind", "subject", "started_at", "ended_at", "outcome", "error", "http_status", "trace_id", "worker",
)  # fmt: skip


def _follow_up_as_json(owed: OwedFollowUp, paused: Sequence[Pause], language: str, *, words: bool) -> dict[str, Any]:
    names = ("follow_up_id", "kind", "rule_id", "action_key", "contact_id", "planned_at", "intent_at", "unclear_since")
    told: dict[str, Any] = {
        **{name: getattr(owed.follow_up, name) for name in names},
        "state": owed.status, "skip_reason": owed.follow_up.skip_reason, "dead_cause": owed.dead_cause,
        "why": next_steps.why(owed), "due_at": owed.due_at, "attempts": owed.attempts, "last_error": owed.last_error,
        "needs_a_person": owed.needs_a_person, "what_to_do": next_steps.of_follow_up(owed, language),
        "done_at": owed.follow_up.done_at, "remote_id": owed.follow_up.remote_id,
    }  # fmt: skip
    if words:
        told["words"] = {"title": owed.follow_up.title, "body": owed.follow_up.body}
    return told
