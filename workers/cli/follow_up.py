"""`leadway-calls follow-up ID`: one follow-up with its attempts; settles an unclear one by what a person saw."""

from collections.abc import Sequence

import click

from models.accounts import accounts
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp, FollowUpState
from models.follow_ups.references import reference_line
from models.reports import timeline
from models.reports.timeline import OwedFollowUp
from models.work import history
from workers.cli.call import find_follow_up, if_it_breaks_off
from workers.cli.opened import Failure, opened
from workers.cli.screen import because, count, heading, known, say, show_facts, show_table, when

SKIPPED = {
    "trial_call": "It was a trial call: nothing is written for those.",
    "no_contact": "The call has no contact that a note could be written to.",
    "too_old": "The call had ended too long ago when this was planned.",
}


@click.command("follow-up")
@click.argument("follow_up_id", metavar="ID")
@click.option("--is-there", is_flag=True, help="You looked: Leadway has it. It counts as done.")
@click.option("--send-again", is_flag=True, help="You looked: Leadway does not have it. It is written again.")
def follow_up(follow_up_id: str, is_there: bool, send_again: bool) -> None:
    """Shows one follow-up, or settles an unclear one.

    Unclear means: a request went out, but whether Leadway carried it out is not known. Most settle by themselves: the
    contact's notes are searched for the reference line. For the rest a person looks into the CRM and says what is
    there. Send it again only if you have looked: this is the one way in which a note can be written twice.

    \b
    Examples:
      leadway-calls follow-up 5f0f4d0e-6a5b-5a55-8f5d-0d5c3a3f9b11
      leadway-calls follow-up 5f0f4d0e-6a5b-5a55-8f5d-0d5c3a3f9b11 --is-there
    """
    if is_there and send_again:
        raise click.UsageError("--is-there and --send-again exclude each other")
    with opened() as this:
        if is_there or send_again:
            settled = this.database.transact(
                lambda connection: follow_ups.settle_by_person(connection, follow_up_id, is_there=is_there)
            )
        with this.database.reading() as connection:
            found = find_follow_up(connection, follow_up_id)
            owed = timeline.owed(connection, found)
            attempts = history.of_subjects(connection, found.location_id, [follow_up_id])
            language = accounts.get(connection, found.location_id).language
    if is_there or send_again:
        if not settled:
            raise Failure(f"it is {found.status}, not unclear: nothing was changed")
        say("It counts as done." if is_there else "It is written again now.")
        return
    heading(f"Follow-up {follow_up_id}")
    show_facts(_facts(owed))
    if attempts:
        heading("Attempts")
        show_table(("ended", "what"), ((when(each.ended_at), timeline.of_attempt(each)) for each in attempts))
    heading("What to do")
    say(f"  {_what_to_do(owed, language)}")


def _facts(owed: OwedFollowUp) -> Sequence[tuple[str, str | None]]:
    found = owed.follow_up
    return (
        ("status", because(owed.status, found.skip_reason or owed.dead_cause)),
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
        ("next attempt", known(owed.due_at, if_it_breaks_off(owed))),
        ("last error", owed.last_error),
    )


def _what_to_do(owed: OwedFollowUp, language: str) -> str:
    found = owed.follow_up
    match found.status:
        case FollowUpState.DONE:
            return "Nothing: it is done."
        case FollowUpState.SKIPPED:
            why = SKIPPED.get(found.skip_reason or "", f"It was skipped: {found.skip_reason}.")
            return f"{why} If that is no longer right: `leadway-calls replay plan {found.call_id}`."
        case FollowUpState.DEAD:
            again = f"`leadway-calls replay follow-up {found.follow_up_id}`"
            return f"It is dead. Put right what the last error names, then {again}."
        case FollowUpState.UNCLEAR if owed.needs_a_person:
            return f"{_where_to_look(found, language)} There: run this again with --is-there. Not there: --send-again."
        case FollowUpState.UNCLEAR:
            return f"Nothing: it is looked for {'now' if owed.is_running else f'at {when(owed.due_at)}'}."
        case _ if owed.is_running:
            return "Nothing: it is being written."
        case _:
            return "Nothing: it is tried by itself, unless its account is paused (`leadway-calls status`)."


def _where_to_look(found: FollowUp, language: str) -> str:
    if found.kind in ("note", "task"):
        line = reference_line(found.follow_up_id, language)
        return f"Look among the {found.kind}s of the contact {found.contact_id} for one that ends with “{line}”."
    return f"Look at the contact {found.contact_id} in Leadway, whether its {found.kind} is there."
