"""`leadway-calls status`: one screen and an exit status that say whether the system needs a person."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from models.reconciling.webhook_coverage import Completeness
from models.reports.overview import AccountOverview
from models.reports.verdict import findings
from models.reports.verdict.findings import RedisSeen, Severity, State
from workers.cli.accounts_shown import api_outages
from workers.cli.screen import NOTHING, age, count, heading, known, say, show_facts, when, work_of
from workers.cli.standing import EXIT_CODES, Standing, in_journals_told, look, reason, waiting_told


@click.command
@click.option("--json", "in_json", is_flag=True, help="For programs: the same as one JSON object.")
@click.option("--check", is_flag=True, help="For cron and health checks: prints only what needs a person.")
@click.option(
    "--least",
    type=click.Choice([each.value for each in Severity if each.needs_a_person]),
    default=Severity.WARNING.value,
    show_default=True,
    help="What is less severe needs nobody: it changes no exit status.",
)
@click.pass_context
def status(ctx: click.Context, in_json: bool, check: bool, least: str) -> None:
    """Tells in one screen whether everything is well: each account's work, the processes, database and Redis.

    Exit status: 0 fine; 1 something needs a person; 2 it cannot tell, because the database is away or not ready, or a
    setting cannot be used. The same with --check, which prints nothing when all is well.

    \b
    Examples:
      leadway-calls status
      leadway-calls status --json | jq '.findings[] | {rule, told}'
      leadway-calls status --check
      leadway-calls status --check --least critical || exit 1
    """
    standing = look()
    found = standing.verdict.for_a_person(least=Severity(least))
    if in_json:
        click.echo(json.dumps(as_json(standing), indent=2))
    elif check:
        for each in found:
            say(f"{each.severity} {each.rule}: {reason(each)}")
    else:
        show(standing)
    state = standing.verdict.state
    ctx.exit(EXIT_CODES[State.FINE if state is State.NEEDS_A_PERSON and not found else state])


def show(standing: Standing) -> None:
    for one in standing.accounts:
        heading(f"{one.account.location_id}  {one.account.name}".rstrip())
        show_facts(_facts(one, standing))
    heading("System")
    show_facts(_system_facts(standing))
    verdict = standing.verdict
    for_a_person = verdict.for_a_person()
    known = [each for each in verdict.findings if each not in for_a_person]
    if not for_a_person:
        say("Everything is well.")
    else:
        heading("Needs a person" if verdict.is_known else "Cannot tell", wrong=True)
    for each in for_a_person:
        say(f"- {reason(each)}")
    if known:
        heading("To know")
    for each in known:
        say(f"- {reason(each)}")


def as_json(standing: Standing) -> dict[str, Any]:
    """The contract of `--json`: every key is always there, null where nothing is known. Times are ISO 8601 in UTC."""
    redis = standing.around.redis
    return {
        "at": when(standing.at),
        **findings.as_json(standing.verdict),
        "reasons": [reason(each) for each in standing.verdict.for_a_person()],
        "database": {"reachable": standing.verdict.is_known},
        "redis": {
            "reachable": None if redis is None else redis.trouble is None,
            "maxmemory_policy": None if redis is None else redis.policy,
        },
        "inbox": {
            "number": standing.inbox.number,
            "oldest_seconds": round(standing.inbox.oldest_seconds, 1),
        },
        "journals": {
            "number": standing.journals.number,
            "oldest_seconds": round(standing.journals.oldest_seconds, 1),
        },
        "quarantined_notifications": standing.quarantined,
        "processes": [
            {
                "process": each.process,
                "name": each.name,
                "alive": each.is_alive,
                "version": each.version,
                "slots": each.slots,
                "started_at": when(each.started_at),
                "last_heard_seconds": round(each.seconds_ago, 1),
            }
            for each in standing.processes
        ],
        "accounts": [_account_as_json(one) for one in standing.accounts],
    }


def _account_as_json(one: AccountOverview) -> dict[str, Any]:
    oldest, unclear = one.oldest_waiting_call, one.unclear
    return {
        "location_id": one.account.location_id,
        "name": one.account.name,
        "waiting_calls": one.waiting_calls,
        "oldest_waiting_call": oldest
        and {
            "call_id": oldest.call_id,
            "waits_since": when(oldest.waits_since),
            "seconds": round(oldest.seconds, 1),
        },
        "unsettled_calls": one.unsettled_calls,
        "waiting_follow_ups": one.waiting_follow_ups,
        "running": one.running,
        "dead": [asdict(each) for each in one.dead],
        "unclear_follow_ups": {
            "number": unclear.number,
            "oldest_seconds": None if unclear.oldest_seconds is None else round(unclear.oldest_seconds, 1),
            "for_a_person": unclear.for_a_person,
            "oldest_ids_for_a_person": list(unclear.oldest_ids),
        },
        "paused": [
            {"cause": each.cause, "work": each.work, "since": when(each.paused_at), "detail": each.detail}
            for each in one.paused
        ],
        "api_outages_in_a_row": one.account.outages_in_a_row,
        "last_notification_at": known(one.last_notification_at),
        **_completeness_as_json(one.completeness),
        "today": asdict(one.today),
    }


def _completeness_as_json(found: Completeness) -> dict[str, Any]:
    return {
        "complete_from": known(found.complete_from),
        "complete_until": known(found.complete_until),
        "held_up_by": found.held_up_by,
        "calls_in_the_last_day": found.calls_in_the_last_day,
        "unannounced_in_the_last_day": found.unannounced_in_the_last_day,
        "webhook_alarm": found.alarm and {"cause": found.alarm.value, "since": when(found.alarm_since)},
        "unresolved_notifications": found.unresolved_notifications,
    }


def _facts(one: AccountOverview, standing: Standing) -> Iterator[tuple[str, str | None]]:
    oldest, unclear, last, today, found = (
        one.oldest_waiting_call, one.unclear, one.last_notification_at, one.today, one.completeness,
    )  # fmt: skip
    waiting = f"{count(one.waiting_calls, 'call')}, {count(one.waiting_follow_ups, 'follow-up')}"
    yield "waiting", waiting + (f"; the oldest call for {age(oldest.seconds)}: {oldest.call_id}" if oldest else "")
    yield "running", str(one.running)
    if one.unsettled_calls:
        yield "unsettled", f"{count(one.unsettled_calls, 'call')} stored, read again until settled"
    dead = (f"{count(each.number, each.work.replace('_', '-'))} ({each.cause})" for each in one.dead)
    yield "dead", ", ".join(dead)
    if unclear.number:
        person = f"; for a person: {unclear.for_a_person}" if unclear.for_a_person else ""
        since = f", the oldest for {age(unclear.oldest_seconds or 0)}"
        yield "unclear", f"{count(unclear.number, 'follow-up')}{since}{person}"
    for each in one.paused:
        yield "paused", f"{work_of(each)}, by {each.cause}, since {when(each.paused_at)}"
    yield "API outages", api_outages(one.account, standing.at)
    ago = f" ({age((standing.at - last).total_seconds())} ago)" if last else ""
    yield "last notification", f"{when(last)}{ago}"
    held_up = f"; does not move: {found.held_up_by}" if found.held_up_by else ""
    yield "complete until", f"{when(found.complete_until)}{held_up}"
    calls = count(found.calls_in_the_last_day, "call")
    yield "unannounced", f"{found.unannounced_in_the_last_day} of {calls} in the last day"
    if found.unresolved_notifications:
        yield "unresolved", f"{count(found.unresolved_notifications, 'notification')} that no call was found for"
    yield (
        "today",
        f"{count(today.notifications, 'notification')}, {count(today.calls_stored, 'call')} stored,"
        f" {count(today.follow_ups_done, 'follow-up')} done",
    )


def _system_facts(standing: Standing) -> Iterator[tuple[str, str]]:
    yield "at", f"{when(standing.at)}, days are UTC"
    yield "database", "answers" if standing.verdict.is_known else "not usable"
    yield "Redis", _redis_told(standing.around.redis)
    if standing.inbox.number:
        yield "inbox", waiting_told(standing.inbox)
    if standing.journals.number:
        yield "journals", in_journals_told(standing.journals)
    alive = [each for each in standing.processes if each.is_alive]
    by_kind = [(kind, sum(each.process == kind for each in alive)) for kind in dict.fromkeys(e.process for e in alive)]
    yield "alive", ", ".join(f"{number} {kind}" for kind, number in by_kind) or NOTHING
    for each in standing.processes:
        if not each.is_alive:
            yield "gone", f"{each.name}, last heard {age(each.seconds_ago)} ago"


def _redis_told(seen: RedisSeen | None) -> str:
    if seen is None:
        return "REDIS_URL is not set: not looked at"
    if seen.loses_messages:
        return f"answers, but drops what it holds when it is full (maxmemory-policy {seen.policy})"
    return seen.trouble or "answers"
