"""`leadway-calls rules`: what the follow-up rules ask for, and what a changed file would write for a stored call."""

from collections.abc import Sequence
from pathlib import Path

import click

from models.accounts import accounts
from models.calls import calls
from models.calls.calls import Call
from models.database import now
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp
from models.follow_ups.references import reference_for
from models.follow_ups.rules import FollowUpKind, PlannedFollowUp, Rule, Rules
from models.follow_ups.rules_file import load_rules
from models.follow_ups.templates import WordingError
from workers.cli.opened import Failure, Opened, expected_errors, opened, read_checked_settings
from workers.cli.screen import heading, say, show_facts, show_table
from workers.cli.selecting import find_call
from workers.follow_ups.planning import follow_ups_asked_for
from workers.follow_ups.wording import WordedFollowUp, words_of

_BUILT_IN = "the built-in rules"


@click.group()
def rules() -> None:
    """What the follow-up rules ask for; tries a changed file on a stored call."""


@rules.command("try")
@click.argument("call_id", metavar="[CALL_ID]", required=False)
@click.option(
    "--file", type=click.Path(path_type=Path, dir_okay=False), help="This file instead of LEADWAY_RULES_FILE."
)
@click.option("--location", help="The account, where several have a call with this id; without a call: its rules.")
def try_rules(call_id: str | None, file: Path | None, location: str | None) -> None:
    """Reads the rules and shows them; with CALL_ID, what they would write for that stored call. Writes nothing.

    Tells the line of a mistake, as the start of a worker would. Words are shown as they would be sent now, in the
    account's language. Leadway is not asked, so a booking's appointment is left out: it is looked up when the note is
    sent.

    \b
    Examples:
      leadway-calls rules try --file rules.toml
      leadway-calls rules try 68f0c2b1e4 --file rules.toml
    """
    with expected_errors():
        settings = read_checked_settings()
        path = file or settings.leadway_rules_file
        found = load_rules(path)
    heading(f"Rules of {path or _BUILT_IN}")
    if call_id is None:
        _show(found, location)
        return
    with opened() as this, this.database.reading() as connection:
        known = find_call(connection, call_id, location=location)
        if known.stored is None:
            raise Failure(f"its log is not stored yet: `leadway-calls call {call_id}` tells why")
        call = known.stored
    _try(this, call, found)


def _show(found: Rules, location: str | None) -> None:
    rows = [(rule, "all") for rule in found.everywhere] if location is None else []
    for account, of_account in found.by_account.items():
        if location in (None, account):
            rows += [(rule, account) for rule in of_account]
    if location is not None and not rows:
        rows = [(rule, "all") for rule in found.everywhere]
    show_table(
        ("rule", "when the agent did", "leaves", "accounts", "on"),
        [(rule.id, _when(rule), str(rule.kind), whose, "yes" if rule.enabled else "no") for rule, whose in rows],
    )


def _when(rule: Rule) -> str:
    return f"{rule.action} {rule.action_name!r}" if rule.action_name else rule.action


def _try(this: Opened, call: Call, found: Rules) -> None:
    with this.database.reading() as connection:
        account = accounts.get(connection, call.location_id)
        keyed = calls.keyed_actions(connection, call.location_id, call.call_id)
        at = now(connection)
        planned = follow_ups_asked_for(connection, found, call.call_log, keyed, account=account, now=at)
        there = {each.follow_up_id: each for each in follow_ups.of_call(connection, call.location_id, call.call_id)}
    if not planned:
        say(
            f"They ask for nothing. The agent did: {', '.join(action.action_type for _, action in keyed) or 'nothing'}."
        )
    for each in planned:
        rule = found.find(each.rule_id, location_id=call.location_id)
        assert rule is not None, "it was planned by one of these rules"
        reference = reference_for(call.location_id, call.call_id, each.rule_id, each.action_key)
        heading(f"{each.kind.capitalize()} by {each.rule_id}, for the action {each.action_key}")
        show_facts((("what becomes of it", _becomes(each, there.get(reference))),))
        try:
            worded = words_of(rule, call, dict(keyed).get(each.action_key), account=account, reference=reference, at=at)
        except WordingError as error:
            raise Failure(f"rule {each.rule_id!r}: {error}") from None
        show_facts(_words(each.kind, worded))
    say("Nothing was written." if planned else "")


def _becomes(planned: PlannedFollowUp, there: FollowUp | None) -> str:
    if there is not None:
        return f"it is planned already ({there.status}); a changed rule changes the words of what is not sent yet"
    return "it would be sent" if planned.skip_reason is None else f"skipped: {planned.skip_reason}"


def _words(kind: FollowUpKind, worded: WordedFollowUp) -> Sequence[tuple[str, str | None]]:
    due = f"{worded.due_at:%Y-%m-%dT%H:%M:%SZ}" if worded.due_at else None
    name = {FollowUpKind.TAG: "tags", FollowUpKind.WORKFLOW: "workflow"}.get(kind, "body")
    return (("title", worded.title), ("due", due), ("assigned to", worded.assigned_to), (name, worded.body))
