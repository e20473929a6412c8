"""`leadway-calls replay …`: a person asks for a fetch, a planning or a sending again."""

from collections.abc import Sequence

import click
from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.calls import calls
from models.calls.calls import Call
from models.database import now
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp, FollowUpState
from models.follow_ups.references import reference_for
from models.follow_ups.rules import PlannedFollowUp, Rules, SkipReason
from models.follow_ups.rules_file import load_rules
from models.reports.timeline import KnownCall
from workers.cli.call import find_call, find_follow_up
from workers.cli.opened import Failure, opened
from workers.cli.screen import count, say, show_table
from workers.follow_ups.planning import follow_ups_asked_for


class BareIdIsACall(click.Group):
    """`replay ID` is `replay call ID`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["call", *args]
        return super().parse_args(ctx, args)


@click.group(cls=BareIdIsACall)
def replay() -> None:
    """Asks for something again: `call` fetches, `plan` plans the follow-ups, `follow-up` sends one.

    `replay ID` with nothing before it is `replay call ID`. None of them writes a note twice.

    \b
    Examples:
      leadway-calls replay 68f0c2b1e4
      leadway-calls replay call --dead --location ve9EPM428h8vShlRW1KT
      leadway-calls replay plan 68f0c2b1e4 --dry-run
      leadway-calls replay follow-up 5f0f4d0e-6a5b-5a55-8f5d-0d5c3a3f9b11
    """


@replay.command("call", short_help="Fetches one call's log again, or all dead ones.")
@click.argument("call_id", metavar="[ID]", required=False)
@click.option("--location", help="The account, where several have a call with this id; with --dead: only its calls.")
@click.option("--dead", is_flag=True, help="All dead calls.")
def replay_call(call_id: str | None, location: str | None, dead: bool) -> None:
    """Fetches a call's log again, whatever its status; a fuller log adds follow-ups and repeats none.

    \b
    Examples:
      leadway-calls replay call 68f0c2b1e4
      leadway-calls replay call --dead
    """
    if (call_id is None) is not dead:
        raise click.UsageError("name one call, or --dead for all dead ones")
    with opened() as this:
        if call_id is None:
            with this.database.reading() as connection:
                if location is not None:
                    accounts.get(connection, location)
            number = this.database.transact(lambda connection: calls.replay_dead(connection, location_id=location))
            say(f"{count(number, 'dead call')} will be fetched.")
            return
        with this.database.reading() as connection:
            found = find_call(connection, call_id, location=location)
        this.database.transact(lambda connection: calls.replay(connection, found.location_id, call_id))
        say(f"Call {call_id} will be fetched {'again when the present attempt ends' if found.is_running else 'now'}.")
        with this.database.reading() as connection:
            _show_pauses(connection, found.location_id)


@replay.command("plan", short_help="Plans a call's follow-ups with today's rules.")
@click.argument("call_id", metavar="ID")
@click.option("--location", help="The account, where several have a call with this id.")
@click.option("--even-if-old", is_flag=True, help="Also for a call beyond the account's follow-up age.")
@click.option("--dry-run", is_flag=True, help="Only show what would be planned.")
def replay_plan(call_id: str, location: str | None, even_if_old: bool, dry_run: bool) -> None:
    """Plans a call's follow-ups again, from the stored log, with today's rules.

    What was planned before stays as it is; what is owed by today's rules and is not there yet is added and sent. What
    was skipped for a reason that no longer holds is sent too.

    \b
    Examples:
      leadway-calls replay plan 68f0c2b1e4 --dry-run
      leadway-calls replay plan 68f0c2b1e4 --even-if-old
    """
    with opened() as this:
        rules = load_rules(this.settings.leadway_rules_file)
        with this.database.reading() as connection:
            call = _stored(find_call(connection, call_id, location=location))
            planned = _planned(connection, call, rules, even_if_old=even_if_old)
            new, skipped = _not_planned_yet(connection, call, planned)
        if not new and not skipped:
            say("Today's rules ask for nothing that is not planned already.")
            return
        show_table(
            ("rule", "action", "kind", "what becomes of it"),
            [(each.rule_id, each.action_key, each.kind, "is sent") for each in new]
            + [(each.rule_id, each.action_key, each.kind, _why_not(each)) for each in skipped],
        )
        if dry_run or not new:
            say("Nothing was planned." if not dry_run else "Only shown: nothing was planned.")
            return

        def write(connection: Connection) -> None:
            follow_ups.take_up_skipped(connection, call.location_id, call_id, new)
            follow_ups.plan(connection, call.location_id, call_id, new)

        this.database.transact(write)
        say(f"{count(len(new), 'follow-up')} will be sent now.")
        with this.database.reading() as connection:
            _show_pauses(connection, call.location_id)


@replay.command("follow-up", short_help="Tries a dead or unclear one again.")
@click.argument("follow_up_id", metavar="ID")
def replay_follow_up(follow_up_id: str) -> None:
    """Tries a dead or unclear follow-up again. If an earlier request may have written it, it is looked for first.

    \b
    Example:
      leadway-calls replay follow-up 5f0f4d0e-6a5b-5a55-8f5d-0d5c3a3f9b11
    """
    with opened() as this:
        tried = this.database.transact(lambda connection: follow_ups.resend(connection, follow_up_id))
        with this.database.reading() as connection:
            found = find_follow_up(connection, follow_up_id)
            if not tried:
                raise Failure(f"it is {_standing(found)}: nothing was changed")
            how = "looked for now, and written again if it is not there" if found.is_unclear else "tried again now"
            say(f"Follow-up {follow_up_id} is {how}.")
            _show_pauses(connection, found.location_id)


def _stored(known: KnownCall) -> Call:
    call = known.stored
    if call is None:
        raise Failure(f"its log is not stored yet: `leadway-calls call {known.call_id}` tells why")
    if call.settled_at is None:
        raise Failure("its log is not settled yet: it is planned by itself when it is read again")
    if call.emptied_at is not None:
        raise Failure("its log was emptied when its retention time ran out: there is nothing left to plan from")
    return call


def _planned(connection: Connection, call: Call, rules: Rules, *, even_if_old: bool) -> tuple[PlannedFollowUp, ...]:
    return follow_ups_asked_for(
        connection,
        rules,
        call.call_log,
        calls.keyed_actions(connection, call.location_id, call.call_id),
        account=accounts.get(connection, call.location_id),
        now=now(connection),
        even_if_old=even_if_old,
    )


def _not_planned_yet(
    connection: Connection, call: Call, planned: Sequence[PlannedFollowUp]
) -> tuple[list[PlannedFollowUp], list[PlannedFollowUp]]:
    """Of `planned`, what is neither done nor under way: first what is to be sent, then what has a reason to be skipped.

    The second is not stored: a row that says "skipped: too old" would stand in the way of a later --even-if-old.
    """
    key = (call.location_id, call.call_id)
    under_way = {
        each.follow_up_id for each in follow_ups.of_call(connection, *key) if each.status != FollowUpState.SKIPPED
    }
    left = [each for each in planned if reference_for(*key, each.rule_id, each.action_key) not in under_way]
    return [each for each in left if each.skip_reason is None], [each for each in left if each.skip_reason is not None]


def _why_not(planned: PlannedFollowUp) -> str:
    hint = "; --even-if-old sends it" if planned.skip_reason is SkipReason.TOO_OLD else ""
    return f"not sent: {planned.skip_reason}{hint}"


def _standing(found: FollowUp) -> str:
    match found.status:
        case FollowUpState.DONE:
            return "done, and is never written twice"
        case FollowUpState.SKIPPED:
            return f"skipped ({found.skip_reason}); `leadway-calls replay plan {found.call_id}` judges that again"
        case status:
            return f"{status}, and goes on by itself"


def _show_pauses(connection: Connection, location_id: str) -> None:
    causes = sorted({each.cause for each in pauses.of_account(connection, location_id)})
    if causes:
        say(
            f"Its account is paused by {', '.join(causes)}: it waits until that ends. See `leadway-calls accounts show"
            f" {location_id}`."
        )
