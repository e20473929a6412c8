"""The rules about what waits, stands still or is slow."""

from datetime import timedelta

from models.calls.calls import CALL
from models.follow_ups.follow_ups import FOLLOW_UP
from models.reports.backlog import Group
from models.reports.verdict.evidence import NOTED_WITHIN, Evidence
from models.reports.verdict.findings import Around
from models.reports.verdict.rule import Trouble, Troubles, ago
from models.reports.wording import age, count, verb
from models.work.work_rows import WorkStatus

LATE = timedelta(minutes=10)
"""A call or a follow-up that waits longer is late: retries after a few failures take less."""
STILL = timedelta(minutes=1)
"""Work that is due, and no attempt that ends: a worker dispatches each second, and gives an attempt up after 20 s."""
SLOW_NOTE_SECONDS = 300.0
"""95 in 100 notes are written sooner; a note may wait two minutes for its call's summary."""
FEWEST_NOTES = 5
"""Fewer tell nothing about the rest."""
GROWING_AFTER = timedelta(minutes=2)
"""A burst that is worked off within this time is no backlog that grows."""


def not_taken_in(evidence: Evidence, _: Around) -> Troubles:
    waiting = evidence.inbox
    if waiting.is_too_long:
        yield Trouble(
            f"{count(waiting.number, 'notification')} {verb('waits', waiting.number)} to be taken in, the oldest for"
            f" {age(waiting.oldest_seconds)}",
            "look whether a worker runs, and what it logs",
        )


def stands_still(evidence: Evidence, _: Around) -> Troubles:
    if evidence.last_attempt_at is not None and evidence.at - evidence.last_attempt_at < STILL:
        return
    due = [
        group.due_since
        for group in evidence.served_groups
        if group.due_since is not None and evidence.at - group.due_since > STILL and evidence.goes_on(group)
    ]
    if due:
        last = "never" if evidence.last_attempt_at is None else f"{ago(evidence, evidence.last_attempt_at)} ago"
        yield Trouble(
            f"work has been due for {ago(evidence, min(due))}, and the last attempt ended {last}",
            "look whether the workers and Redis answer, and what the workers log; restart them",
        )


def calls_late(evidence: Evidence, _: Around) -> Troubles:
    for group in evidence.served_groups:
        if _is_late(evidence, group, CALL.name):
            oldest = evidence.oldest_calls.get(group.location_id)
            which = f": {oldest.call_id}" if oldest else ""
            yield Trouble(
                f"{count(group.number, 'call')} {verb('waits', group.number)} to be fetched, the oldest for"
                f" {ago(evidence, group.since)}{which}",
                "`leadway-calls call ID` tells what keeps it waiting",
                group.location_id,
            )


def notes_late(evidence: Evidence, _: Around) -> Troubles:
    for group in evidence.served_groups:
        if _is_late(evidence, group, FOLLOW_UP.name):
            yield Trouble(
                f"{count(group.number, 'follow-up')} {verb('waits', group.number)} to be sent, the oldest for"
                f" {ago(evidence, group.since)}",
                "`leadway-calls follow-up ID` tells what keeps it waiting; the list of calls names them",
                group.location_id,
            )


def _is_late(evidence: Evidence, group: Group, work: str) -> bool:
    """Lateness of paused work is no news."""
    waits = group.work == work and group.status == WorkStatus.PENDING and not group.backfilled
    return waits and not evidence.is_paused(group) and evidence.at - group.since > LATE


def notes_slow(evidence: Evidence, _: Around) -> Troubles:
    seconds = evidence.note_seconds
    if len(seconds) < FEWEST_NOTES:
        return
    slow = seconds[min(len(seconds) - 1, int(0.95 * len(seconds)))]
    if slow > SLOW_NOTE_SECONDS:
        yield Trouble(
            f"of {len(seconds)} notes about calls of the last {age(NOTED_WITHIN.total_seconds())}, one in twenty took"
            f" {age(slow)} or more from its notification, half took {age(seconds[len(seconds) // 2])}",
            "look at the account's budget and circuit breaker, and start another worker if all slots are taken",
        )


def backlog_grows(evidence: Evidence, _: Around) -> Troubles:
    flow = evidence.flow
    oldest = max((each.seconds for each in evidence.oldest_calls.values()), default=0.0)
    if flow is not None and flow.added > flow.drained and oldest > GROWING_AFTER.total_seconds():
        yield Trouble(
            f"the backlog of calls grows: in the last 5 min {flow.added} came to wait and {flow.drained} of those that"
            " waited were stored",
            "start another worker, or look at the accounts' budgets",
        )
