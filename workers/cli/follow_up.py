"""`leadway-calls follow-up ID`: one follow-up with its attempts; settles an unclear one by what a person saw."""

from collections.abc import Sequence
from typing import Any

import click

from models.accounts import accounts
from models.follow_ups import follow_ups
from models.reports import next_steps, timeline
from models.reports.timeline import OwedFollowUp
from models.work import history
from models.work.history import EndedAttempt
from workers.cli.acting import dry_run_option, json_option, show_json
from workers.cli.opened import Failure, opened
from workers.cli.screen import because, count, heading, known, say, show_facts, show_table, when
from workers.cli.selecting import find_follow_up


@click.command("follow-up")
@click.argument("follow_up_id", metavar="ID")
@click.option("--is-there", is_flag=True, help="You looked: Leadway has it. It counts as done.")
@click.option("--send-again", is_flag=True, help="You looked: Leadway does not have it. It is written again.")
@dry_run_option
@json_option
def follow_up(follow_up_id: str, is_there: bool, send_again: bool, dry_run: bool, in_json: bool) -> None:
    """Shows one follow-up, or settles an unclear one. ID may be the beginning of one, where no other begins so.

    Unclear means: a request went out, but whether Leadway carried it out is not known. Most settle by themselves: the
    contact's notes are searched for the reference line. For the rest a person looks into the CRM and says what is
    there. Send it again only if you have looked: this is the one way in which a note can be written twice.

    \b
    Examples:
      leadway-calls follow-up 5f0f4d0e-6a5b-5a55-8f5d-0d5c3a3f9b11
      leadway-calls follow-up 5f0f4d0e --is-there
    """
    if is_there and send_again:
        raise click.UsageError("--is-there and --send-again exclude each other")
    settles = is_there or send_again
    with opened() as this:
        with this.database.reading() as connection:
            found = find_follow_up(connection, follow_up_id)
        if settles and not dry_run:
            settled = this.database.transact(
                lambda connection: follow_ups.settle_by_person(connection, found.follow_up_id, is_there=is_there)
            )
        with this.database.reading() as connection:
            found = find_follow_up(connection, found.follow_up_id)
            owed = timeline.owed(connection, found)
            attempts = history.of_subjects(connection, found.location_id, [found.follow_up_id])
            language = accounts.get(connection, found.location_id).language
    if settles:
        if not (found.is_unclear if dry_run else settled):
            raise Failure(f"it is {found.status}, not unclear: nothing was changed")
        told = "It counts as done." if is_there else "It is written again now."
        if in_json:
            show_json({"follow_up_id": found.follow_up_id, "dry_run": dry_run, "told": told})
        else:
            say(f"Only told, nothing was changed: {told}" if dry_run else told)
    elif in_json:
        show_json(_as_json(owed, attempts, language))
    else:
        _show(owed, attempts, language)


def _show(owed: OwedFollowUp, attempts: Sequence[EndedAttempt], language: str) -> None:
    heading(f"Follow-up {owed.follow_up.follow_up_id}")
    show_facts(_facts(owed))
    if attempts:
        heading("Attempts")
        show_table(("ended", "what"), ((when(each.ended_at), timeline.of_attempt(each)) for each in attempts))
    heading("What to do")
    say(f"  {next_steps.of_follow_up(owed, language)}")


def _facts(owed: OwedFollowUp) -> Sequence[tuple[str, str | None]]:
    found = owed.follow_up
    return (
        ("status", because(owed.status, found.skip_reason or owed.dead_cause)),
        ("why", next_steps.why(owed)),
        ("what", f"{found.kind} by the rule {found.rule_id}, for the action {found.action_key}"),
        ("call", found.call_id),
        ("account", found.location_id),
        ("contact", found.contact_id or "none"),
        ("planned", when(found.planned_at)),
        ("last request", known(found.intent_at)),
        ("unclear since", known(found.unclear_since, f", looked for and not found: {count(found.absences, 'time')}")),
        ("done", known(found.done_at)),
        (f"{found.kind} id", found.remote_id),
        ("attempts", str(owed.attempts) if owed.work else None),
        ("next attempt", next_steps.attempt_of_follow_up(owed)),
        ("last error", owed.last_error),
    )


def _as_json(owed: OwedFollowUp, attempts: Sequence[EndedAttempt], language: str) -> dict[str, Any]:
    """The contract of `--json`: every key is always there, null where nothing is known."""
    found = owed.follow_up
    names = (
        "follow_up_id", "location_id", "call_id", "contact_id", "kind", "rule_id", "action_key", "planned_at",
        "intent_at", "unclear_since", "absences", "posts", "done_at", "remote_id", "skip_reason",
    )  # fmt: skip
    of_attempt = ("started_at", "ended_at", "outcome", "error", "http_status", "trace_id", "worker")
    return {
        **{name: getattr(found, name) for name in names},
        "state": owed.status, "dead_cause": owed.dead_cause, "why": next_steps.why(owed), "due_at": owed.due_at,
        "attempts": owed.attempts, "last_error": owed.last_error, "needs_a_person": owed.needs_a_person,
        "what_to_do": next_steps.of_follow_up(owed, language),
        "attempts_ended": [{name: getattr(each, name) for name in of_attempt} for each in attempts],
    }  # fmt: skip
