"""`leadway-calls replay plan`: plans the follow-ups of calls again, from their stored logs, with today's rules."""

from collections.abc import Sequence
from dataclasses import dataclass

import click
from sqlalchemy import Connection

from models.accounts import accounts
from models.calls import calls
from models.calls.calls import Call
from models.database import now
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUpState
from models.follow_ups.references import reference_for
from models.follow_ups.rules import PlannedFollowUp, Rules, SkipReason
from models.follow_ups.rules_file import load_rules
from models.reports.call_filter import CallFilter
from workers.cli.acting import agree, change_all, dry_run_option, json_option, show_json, yes_option
from workers.cli.opened import Failure, opened
from workers.cli.screen import count, say, show_table
from workers.cli.selecting import TELLS_ROWS, call_filters, chosen_calls, named_or_filtered, show_pauses
from workers.follow_ups.planning import follow_ups_asked_for


@dataclass(frozen=True)
class _Plan:
    """What today's rules ask for and is neither done nor under way."""

    call: Call
    new: Sequence[PlannedFollowUp]
    skipped: Sequence[PlannedFollowUp]
    """Not stored: a row that says "skipped: too old" would stand in the way of a later --even-if-old."""


@click.command(short_help="Plans follow-ups with today's rules.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@call_filters
@click.option("--even-if-old", is_flag=True, help="Also for a call beyond the account's follow-up age.")
@dry_run_option
@yes_option
@json_option
def plan(ids: tuple[str, ...], wanted: CallFilter, even_if_old: bool, dry_run: bool, yes: bool, in_json: bool) -> None:
    """Plans calls' follow-ups again, from the stored logs, with today's rules.

    What was planned before stays as it is; what is owed by today's rules and is not there yet is added and sent. What
    was skipped for a reason that no longer holds is sent too.

    \b
    Examples:
      leadway-calls replay plan 68f0c2b1e4 --dry-run
      leadway-calls replay plan 68f0c2b1e4 --even-if-old
      leadway-calls replay plan --follow-up none --action CALL_TRANSFER --since 2026-03-01 --dry-run
    """
    named_or_filtered(ids, wanted, what="calls")
    with opened() as this:
        rules = load_rules(this.settings.leadway_rules_file)
        with this.database.reading() as connection:
            keys = chosen_calls(connection, ids, wanted)
            plans, left_out = [], 0
            for key in keys:
                call = calls.get(connection, *key)
                if (reason := _why_not_planned(call, key[1])) is None and call is not None:
                    plans.append(_plan(connection, call, rules, even_if_old=even_if_old))
                elif len(ids) == 1:
                    raise Failure(str(reason))
                else:
                    left_out += 1
        plans = [each for each in plans if each.new or each.skipped]
        to_write = [each for each in plans if each.new]
        number = sum(len(each.new) for each in to_write)
        if not in_json:
            _tell(plans, keys=len(keys), left_out=left_out, dry_run=dry_run, number=number)
        if not dry_run and to_write:
            agree(number, f"Send {count(number, 'follow-up')}?", yes=yes or len(to_write) == 1)
            change_all(this, to_write, _write)
        if in_json:
            show_json(_as_json(plans, number=number, left_out=left_out, dry_run=dry_run))
        elif not dry_run and number:
            say(f"{count(number, 'follow-up')} will be sent now.")
            with this.database.reading() as connection:
                for location_id in sorted({each.call.location_id for each in to_write}):
                    show_pauses(connection, location_id)


def _why_not_planned(call: Call | None, call_id: str) -> str | None:
    if call is None:
        return f"its log is not stored yet: `leadway-calls calls show {call_id}` tells why"
    if call.settled_at is None:
        return "its log is not settled yet: it is planned by itself when it is read again"
    if call.emptied_at is not None:
        return "its log was emptied when its retention time ran out: there is nothing left to plan from"
    return None


def _plan(connection: Connection, call: Call, rules: Rules, *, even_if_old: bool) -> _Plan:
    key = (call.location_id, call.call_id)
    planned = follow_ups_asked_for(
        connection,
        rules,
        call.call_log,
        calls.keyed_actions(connection, *key),
        account=accounts.get(connection, call.location_id),
        now=now(connection),
        even_if_old=even_if_old,
    )
    under_way = {
        each.follow_up_id for each in follow_ups.of_call(connection, *key) if each.status != FollowUpState.SKIPPED
    }
    left = [each for each in planned if reference_for(*key, each.rule_id, each.action_key) not in under_way]
    new = [each for each in left if each.skip_reason is None]
    return _Plan(call, new, [each for each in left if each.skip_reason is not None])


def _write(connection: Connection, each: _Plan) -> bool:
    key = (each.call.location_id, each.call.call_id)
    follow_ups.take_up_skipped(connection, *key, each.new)
    follow_ups.plan(connection, *key, each.new)
    return True


def _tell(plans: Sequence[_Plan], *, keys: int, left_out: int, dry_run: bool, number: int) -> None:
    several = keys != 1
    if left_out:
        say(f"{count(left_out, 'call')} left out: the log is not stored, not settled, or emptied.")
    if not plans:
        say("Today's rules ask for nothing that is not planned already.")
        return
    rows = [
        (each.rule_id, each.action_key, each.kind, becomes, *((one.call.call_id,) if several else ()))
        for one in plans
        for each, becomes in ((each, _why_skipped(each) or "is sent") for each in (*one.new, *one.skipped))
    ]
    show_table(("rule", "action", "kind", "what becomes of it", *(("call",) if several else ())), rows[:TELLS_ROWS])
    if len(rows) > TELLS_ROWS:
        say(f"  and {len(rows) - TELLS_ROWS} more")
    if dry_run:
        say(f"Only shown: nothing was planned. {count(number, 'follow-up')} would be sent.")
    elif not number:
        say("Nothing was planned.")


def _why_skipped(planned: PlannedFollowUp) -> str | None:
    if planned.skip_reason is None:
        return None
    hint = "; --even-if-old sends it" if planned.skip_reason is SkipReason.TOO_OLD else ""
    return f"not sent: {planned.skip_reason}{hint}"


def _as_json(plans: Sequence[_Plan], *, number: int, left_out: int, dry_run: bool) -> dict[str, object]:
    told = [
        {
            "location_id": one.call.location_id, "call_id": one.call.call_id, "rule_id": each.rule_id,
            "action_key": each.action_key, "kind": each.kind, "skip_reason": each.skip_reason,
        }
        for one in plans
        for each in (*one.new, *one.skipped)
    ]  # fmt: skip
    return {"dry_run": dry_run, "number": number, "left_out": left_out, "follow_ups": told}
