"""The rules about an account: pauses, the circuit breaker, its webhook, how far it is complete."""

from datetime import timedelta

from models.accounts import circuit_breaker
from models.accounts.pauses import ALL_WORK, PauseCause
from models.reports.verdict.evidence import BEHIND, Evidence
from models.reports.verdict.findings import Around
from models.reports.verdict.rule import Trouble, Troubles, ago
from models.reports.wording import when

WINDOW_LONG = timedelta(hours=1)


def paused(evidence: Evidence, _: Around) -> Troubles:
    for each in evidence.pauses:
        if each.cause != PauseCause.PERSON and each.location_id in evidence.accounts:
            yield Trouble(
                f"{pause_told(each.work)} paused by {each.cause} since {when(each.paused_at)}",
                f"{each.detail.rstrip('.')}. It is looked at again by itself",
                each.location_id,
            )


def paused_by_person(evidence: Evidence, _: Around) -> Troubles:
    for each in evidence.pauses:
        if each.cause == PauseCause.PERSON and each.location_id in evidence.accounts:
            yield Trouble(
                f"{pause_told(each.work)} paused by a person since {when(each.paused_at)}: {each.detail}",
                f"`leadway-calls accounts resume {each.location_id}` when it is time",
                each.location_id,
            )


def breaker_open(evidence: Evidence, _: Around) -> Troubles:
    for account in evidence.accounts.values():
        if account.outages_in_a_row >= circuit_breaker.OUTAGES_BEFORE_OPEN:
            since = f" since {when(account.outages_since)}" if account.outages_since else ""
            yield Trouble(
                f"Leadway does not answer as it should: {account.outages_in_a_row} outages in a row{since}, the circuit"
                f" breaker is {circuit_breaker.state_of(account, evidence.at)}",
                "look at Leadway's status page and the network; nothing is lost, and it goes on by itself",
                account.location_id,
            )


def without_token(evidence: Evidence, _: Around) -> Troubles:
    for account in evidence.accounts.values():
        if account.api_token_encrypted is None and account.token_expires_at is None:
            yield Trouble(
                "it has no API token", f"`leadway-calls accounts set-token {account.location_id}`", account.location_id
            )


def references_lost(evidence: Evidence, _: Around) -> Troubles:
    for account in evidence.accounts.values():
        if account.references_lost_at is not None:
            yield Trouble(
                "Leadway returned a note without our reference line, by which it would be found again. Whether an"
                " unclear note is there is left to a person",
                "look for a workflow or an app that changes notes",
                account.location_id,
            )


def webhook_alarm(evidence: Evidence, _: Around) -> Troubles:
    for location_id, found in evidence.coverage.items():
        if found.alarm is not None and location_id in evidence.accounts:
            cause, __, do = found.alarm.sentence.partition(": ")
            since = f" since {when(found.alarm_since)}" if found.alarm_since else ""
            yield Trouble(
                f"the webhook does not tell of every call{since} ({found.unannounced_in_the_last_day} of"
                f" {found.calls_in_the_last_day} in the last day came unannounced): {cause}",
                f"{do}; compare the webhook in Leadway with the page /ops/setup",
                location_id,
            )


def completeness_behind(evidence: Evidence, _: Around) -> Troubles:
    held_up = {each.location_id: each.error for each in evidence.windows if each.kind == "regular" and each.error}
    for account in evidence.accounts.values():
        until = account.complete_until
        if until is not None and evidence.at - until > BEHIND and account.location_id not in evidence.stopped:
            why = held_up.get(account.location_id)
            yield Trouble(
                f"complete until {when(until)} only, {ago(evidence, until)} ago" + (f" ({why})" if why else ""),
                "look whether workers run and what they log of windows of the list",
                account.location_id,
            )


def window_open_long(evidence: Evidence, _: Around) -> Troubles:
    for each in evidence.windows:
        is_long = evidence.at - each.started_at > WINDOW_LONG
        if is_long and each.location_id in evidence.accounts and each.location_id not in evidence.stopped:
            why = f" ({each.error})" if each.error else ""
            yield Trouble(
                f"a {each.kind} window of Leadway's list has been open for {ago(evidence, each.started_at)}{why}",
                "look at the account's budget and circuit breaker; docs/reconciling.md tells what holds a window up",
                each.location_id,
            )


def no_account(evidence: Evidence, _: Around) -> Troubles:
    if not evidence.is_any_served:
        yield Trouble(
            "no account yet",
            "set LEADWAY_LOCATION_ID and LEADWAY_API_TOKEN, or add one with `leadway-calls accounts add LOCATION`; the"
            " page /ops/setup tells the rest",
        )


def pause_told(work: str) -> str:
    return "everything" if work == ALL_WORK else f"{work.replace('_', '-')}s"
