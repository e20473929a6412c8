"""`leadway-calls follow-up ID`: one follow-up with its attempts; settles an unclear one by what a person saw."""

from collections.abc import Iterator

import click
import sqlalchemy as sa

from models.accounts import accounts
from models.follow_ups import follow_ups
from models.follow_ups.references import reference_line
from models.reports import timeline
from models.work import history
from models.work.work_rows import WorkStatus
from workers.cli.opened import Failure, opened
from workers.cli.screen import heading, say, show_facts, show_table, when

SKIPPED = {
    "trial_call": "It was a trial call: nothing is written for those.",
    "no_contact": "The call has no contact that a note could be written to.",
    "too_old": "The call had ended too long ago when this was planned.",
}


@click.command("follow-up", short_help="One follow-up; settles an unclear one.")
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
            row = follow_ups.get(connection, follow_up_id)
            if row is None:
                raise Failure(f"no follow-up {follow_up_id!r}; `leadway-calls call ID` names those of a call")
            attempts = history.of_follow_up(connection, follow_up_id)
            language = accounts.get(connection, row["location_id"]).language
    if is_there or send_again:
        if not settled:
            raise Failure(f"it is {row['status']}, not unclear: nothing was changed")
        say("It counts as done." if is_there else "It is written again now.")
        return
    heading(f"Follow-up {row['follow_up_id']}")
    show_facts(_facts(row))
    if attempts:
        heading("Attempts")
        show_table(("ended", "what"), ((when(each.at), each.text) for each in map(timeline.of_attempt, attempts)))
    heading("What to do")
    say(f"  {_what_to_do(row, language)}")


def _facts(row: sa.RowMapping) -> Iterator[tuple[str, str]]:
    yield "status", row["status"] + (f": {row['dead_cause']}" if row["dead_cause"] else "")
    yield "what", f"{row['kind']} by the rule {row['rule_id']}, for the action {row['action_key']}"
    yield "call", row["call_id"]
    yield "account", row["location_id"]
    yield "contact", row["contact_id"] or "none"
    yield "planned", when(row["planned_at"])
    if row["intent_at"] is not None:
        yield "last request", when(row["intent_at"])
    if row["unclear_since"] is not None:
        yield "unclear since", f"{when(row['unclear_since'])}, looked for and not found {row['absences']} times"
    if row["done_at"] is not None:
        yield "done", when(row["done_at"])
    if row["remote_id"] is not None:
        yield f"{row['kind']} id", row["remote_id"]
    yield "attempts", str(row["attempts"])
    if row["next_attempt_at"] is not None:
        yield "next attempt", when(row["next_attempt_at"])
    if row["last_error"]:
        yield "last error", row["last_error"]


def _what_to_do(row: sa.RowMapping, language: str) -> str:
    match WorkStatus(row["status"]):
        case WorkStatus.DONE:
            return "Nothing: it is done."
        case WorkStatus.SKIPPED:
            why = SKIPPED.get(row["skip_reason"], f"It was skipped: {row['skip_reason']}.")
            return f"{why} If that is no longer right: `leadway-calls replay plan {row['call_id']}`."
        case WorkStatus.DEAD:
            return (
                "It is dead. Put right what the last error names, then"
                f" `leadway-calls replay follow-up {row['follow_up_id']}`."
            )
        case WorkStatus.UNCLEAR if row["next_attempt_at"] is None:
            return f"{_where_to_look(row, language)} There: run this again with --is-there. Not there: --send-again."
        case WorkStatus.UNCLEAR:
            return f"Nothing: it is looked for again at {when(row['next_attempt_at'])}."
        case _:
            return "Nothing: it is tried by itself, unless its account is paused (`leadway-calls status`)."


def _where_to_look(row: sa.RowMapping, language: str) -> str:
    if row["kind"] in ("note", "task"):
        line = reference_line(row["follow_up_id"], language)
        return f"Look among the {row['kind']}s of the contact {row['contact_id']} for one that ends with “{line}”."
    return f"Look at the contact {row['contact_id']} in Leadway, whether its {row['kind']} is there."
