"""`leadway-calls replay …`: a person asks for a fetch, a planning or a sending again, of one or of many."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

import click
from sqlalchemy import Connection

from models.calls import calls
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp, FollowUpState
from models.reports import search
from models.reports.call_filter import CallFilter, CallState, FollowUpFilter
from models.work.work_rows import Lane
from workers.cli.acting import agree, change_all, dry_run_option, json_option, show_json, yes_option
from workers.cli.opened import Failure, Opened, opened
from workers.cli.replay_plan import plan
from workers.cli.screen import count, say, show_table
from workers.cli.selecting import (
    TELLS_ROWS,
    call_filters,
    chosen_calls,
    every_call,
    find_call,
    find_follow_up,
    named_or_filtered,
    of_known_account,
    show_pauses,
)


class BareIdIsACall(click.Group):
    """`replay ID` is `replay refetch ID`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["refetch", *args]
        return super().parse_args(ctx, args)


@click.group(cls=BareIdIsACall)
def replay() -> None:
    """Asks for something again: `refetch` reads logs, `plan` plans follow-ups, `send` sends them.

    Of calls that are named, or of all that the filters of `calls list` name. --dry-run tells what would be done; more
    than one is asked about first, unless --yes is given. None of them writes a note twice. `replay ID` with nothing
    before it is `replay refetch ID`; `call` and `follow-up` are other names of `refetch` and `send`.

    \b
    Examples:
      leadway-calls replay 68f0c2b1e4
      leadway-calls replay refetch --state dead --location ve9EPM428h8vShlRW1KT
      leadway-calls replay plan 68f0c2b1e4 --dry-run
      leadway-calls replay send --follow-up dead --since 2026-03-01T09:00
    """


@click.command(short_help="Fetches logs again.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@call_filters
@click.option("--dead", is_flag=True, help="All dead calls; as --state dead.")
@dry_run_option
@yes_option
@json_option
def refetch(ids: tuple[str, ...], wanted: CallFilter, dead: bool, dry_run: bool, yes: bool, in_json: bool) -> None:
    """Fetches calls' logs again, whatever their state; a fuller log adds follow-ups and repeats none.

    Several go behind live calls.

    \b
    Examples:
      leadway-calls replay refetch 68f0c2b1e4
      leadway-calls replay refetch --state dead --since 2026-03-01 --dry-run
    """
    wanted = replace(wanted, state=CallState.DEAD) if dead else wanted
    named_or_filtered(ids, wanted, what="calls")
    with opened() as this:
        with this.database.reading() as connection:
            keys = chosen_calls(connection, ids, wanted)
            running = len(ids) == 1 and find_call(connection, ids[0], location=wanted.location_id).is_running
        number = count(len(keys), "dead call" if wanted.state is CallState.DEAD else "call")
        if not dry_run:
            agree(len(keys), f"Fetch {number} again?", yes=yes, asked_before=not dead)
            lane = Lane.LIVE if len(keys) == 1 else Lane.RETRY
            change_all(this, keys, lambda connection, key: calls.replay(connection, *key, lane=lane))
        if in_json:
            told = [{"location_id": location_id, "call_id": call_id} for location_id, call_id in keys]
            show_json({"dry_run": dry_run, "number": len(keys), "calls": told})
            return
        if len(ids) == 1:
            when = "again when the present attempt ends" if running else "now"
            say(f"Call {keys[0][1]} {'would' if dry_run else 'will'} be fetched {when}.")
        else:
            if dry_run and keys:
                show_table(("call", "account"), [(call_id, location_id) for location_id, call_id in keys[:TELLS_ROWS]])
            say(f"{number} {'would' if dry_run else 'will'} be fetched.")
        _show_pauses_of(this, [location_id for location_id, _ in keys])


@dataclass(frozen=True)
class _Owed:
    location_id: str
    call_id: str
    follow_up_id: str
    kind: str
    status: FollowUpState


@click.command(short_help="Sends dead and unclear follow-ups again.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@call_filters
@dry_run_option
@yes_option
@json_option
def send(ids: tuple[str, ...], wanted: CallFilter, dry_run: bool, yes: bool, in_json: bool) -> None:
    """Tries dead or unclear follow-ups again. If an earlier request may have written one, it is looked for first.

    ID is a follow-up's, or that of a call, for all of its own that are dead or unclear. By filters only the dead ones
    are sent, or with --follow-up unclear the unclear ones.

    \b
    Examples:
      leadway-calls replay send 5f0f4d0e
      leadway-calls replay send --follow-up dead --location ve9EPM428h8vShlRW1KT --dry-run
    """
    named_or_filtered(ids, wanted, what="follow-ups or calls")
    if wanted.follow_up not in (None, FollowUpFilter.DEAD, FollowUpFilter.UNCLEAR):
        raise click.UsageError("only dead and unclear ones are sent again; `replay plan` takes up what was skipped")
    with opened() as this:
        with this.database.reading() as connection:
            owed = [each for text in ids for each in _owed_by(connection, text, wanted.location_id)]
            owed = list(dict.fromkeys(owed)) if ids else _owed_by_filter(connection, wanted)
        number = count(len(owed), "follow-up")
        sent = owed
        if not dry_run:
            agree(len(owed), f"Send {number} again?", yes=yes)
            sent = change_all(this, owed, lambda connection, each: follow_ups.resend(connection, each.follow_up_id))
        if in_json:
            told = [
                {"follow_up_id": e.follow_up_id, "call_id": e.call_id, "location_id": e.location_id, "was": e.status}
                for e in sent
            ]
            show_json({"dry_run": dry_run, "number": len(sent), "follow_ups": told})
            return
        _tell_sent(owed, sent, dry_run=dry_run)
        _show_pauses_of(this, [each.location_id for each in sent])


replay.add_command(refetch)
replay.add_command(plan)
replay.add_command(send)
for _name, _command in (("call", refetch), ("follow-up", send)):
    _again = copy(_command)
    _again.short_help = f"The same as {_command.name}."
    replay.add_command(_again, name=_name)


def _tell_sent(owed: Sequence[_Owed], sent: Sequence[_Owed], *, dry_run: bool) -> None:
    would = "would be" if dry_run else "is"
    if len(owed) == 1 and len(sent) == 1:
        is_unclear = sent[0].status is FollowUpState.UNCLEAR
        how = "looked for now, and written again if it is not there" if is_unclear else "tried again now"
        say(f"Follow-up {sent[0].follow_up_id} {would} {how}.")
        return
    if dry_run and owed:
        rows = [(e.follow_up_id, f"{e.kind} {e.status}", e.call_id, e.location_id) for e in owed[:TELLS_ROWS]]
        show_table(("follow-up", "state", "call", "account"), rows)
    unclear = sum(each.status is FollowUpState.UNCLEAR for each in sent)
    say(f"{count(len(sent), 'follow-up')} {'would be' if dry_run else 'will be'} tried again.")
    if unclear:
        say(f"{unclear} of them {'is' if unclear == 1 else 'are'} unclear, and looked for first.")
    if len(sent) < len(owed):
        say(f"{len(owed) - len(sent)} had changed meanwhile, and stay as they are.")


def _owed_by(connection: Connection, text: str, location: str | None) -> list[_Owed]:
    """What may be sent again of a follow-up's id or a call's. Raises Failure when nothing may."""
    if search.of_follow_up_id(connection, text):
        found = find_follow_up(connection, text)
        if found.status not in (FollowUpState.DEAD, FollowUpState.UNCLEAR):
            raise Failure(f"it is {_standing(found)}: nothing was changed")
        return [_owed_of(found)]
    if not search.of_call_id(connection, text):
        raise Failure(f"no follow-up and no call {text!r}; `leadway-calls calls search` finds calls")
    call = find_call(connection, text, location=location)
    of_call = follow_ups.of_call(connection, call.location_id, call.call_id)
    owed = [_owed_of(each) for each in of_call if each.status in (FollowUpState.DEAD, FollowUpState.UNCLEAR)]
    if not owed:
        told = "; ".join(f"{each.kind} {_standing(each)}" for each in of_call) or "it has none"
        raise Failure(f"call {call.call_id} has no dead or unclear follow-up ({told}): nothing was changed")
    return owed


def _owed_by_filter(connection: Connection, wanted: CallFilter) -> list[_Owed]:
    wanted = replace(of_known_account(connection, wanted), follow_up=wanted.follow_up or FollowUpFilter.DEAD)
    states = wanted.follow_up.states if wanted.follow_up else frozenset()
    return [
        _Owed(listed.location_id, listed.call_id, each.follow_up_id, each.kind, each.own_status)
        for listed in every_call(connection, wanted)
        for each in listed.follow_ups
        if each.own_status in states
    ]


def _owed_of(found: FollowUp) -> _Owed:
    return _Owed(found.location_id, found.call_id, found.follow_up_id, found.kind, found.status)


def _show_pauses_of(this: Opened, location_ids: Sequence[str]) -> None:
    with this.database.reading() as connection:
        for location_id in sorted(set(location_ids)):
            show_pauses(connection, location_id)


def _standing(found: FollowUp) -> str:
    match found.status:
        case FollowUpState.DONE:
            return "done, and is never written twice"
        case FollowUpState.SKIPPED:
            return f"skipped ({found.skip_reason}); `leadway-calls replay plan {found.call_id}` judges that again"
        case status:
            return f"{status}, and goes on by itself"
