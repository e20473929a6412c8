"""Stores readings of calls, fetched or listed, and plans their follow-ups, in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from models.accounts import circuit_breaker
from models.accounts.accounts import Account
from models.calls import storing
from models.calls.call_log import YOUNG, ActionType
from models.calls.calls import OPTIONAL_PARTS
from models.calls.storing import ReadByClaim, Reading, Stored
from models.failpoints import failpoint
from models.intake import notifications
from models.work.lifecycle import Claim
from models.work.work_rows import Lane
from workers.follow_ups.planning import plan_follow_ups
from workers.leadway.documents import read_told_call
from workers.process.connections import Connections
from workers.telemetry import metrics

LONGEST_REREAD_WHILE_YOUNG_SECONDS = 45.0
LONGEST_REREAD_SECONDS = 600.0
"""The longest interval between two readings of a call that is not settled."""


@dataclass(frozen=True)
class Read:
    """What one claim has read: a log, or a page of them."""

    claim: Claim
    account: Account
    readings: Sequence[Reading]
    lane: Lane
    """Of the calls."""


def store_readings(connection: Connection, this: Connections, reads: Sequence[Read]) -> list[dict[str, Stored]]:
    """Stores what claims have read, and plans the follow-ups of calls that want them.

    Returns what is stored then, by call id, for each of them. The caller ends the work in the same transaction.
    """
    reads = _with_what_was_told(connection, reads)
    stored = storing.store(connection, [_by_claim(read) for read in reads])
    for read, of_read in zip(reads, stored, strict=True):
        account, read_at = read.account, read.claim.claimed_at
        for reading in read.readings:
            each = of_read[reading.call_log.call_id]
            if each.wants_follow_ups or (reading.request is not None and reading.request.wants_follow_ups):
                plan_follow_ups(
                    connection, this.rules, each.call_log, each.keyed_actions, account=account, lane=read.lane,
                    read_at=read_at, stored_at=None if each.is_new else each.stored_at, is_newest=each.is_newest,
                )  # fmt: skip
            _measure(reading, each)
        if account.outages_in_a_row:
            circuit_breaker.record_success(connection, account.location_id)
    failpoint("call_before_commit")
    return stored


def _by_claim(read: Read) -> ReadByClaim:
    return ReadByClaim(
        read.account.location_id, read.readings, fence=read.claim.fence, read_at=read.claim.claimed_at,
        time_zone=read.account.time_zone,
    )  # fmt: skip


def _with_what_was_told(connection: Connection, reads: Sequence[Read]) -> Sequence[Read]:
    """The same, each reading that lacks a part with what Leadway signed about its call."""
    lacking = {
        (read.account.location_id, each.call_log.call_id)
        for read in reads
        for each in read.readings
        if any(not getattr(each.call_log, name) for name in OPTIONAL_PARTS)
    }
    if not lacking:
        return reads
    told = {}
    for location_id, call_id, document in notifications.signed_documents(connection, lacking):
        found = read_told_call(document, call_id)
        if found is not None:
            told[location_id, call_id] = found
    return [
        replace(
            read,
            readings=[
                replace(each, told=told.get((read.account.location_id, each.call_log.call_id)))
                for each in read.readings
            ],
        )
        for read in reads
    ]


def reread_after(this: Connections, unsettled_for: timedelta) -> float:
    """Seconds until an unsettled call is read again.

    The interval is as long as the call has been unsettled, so it doubles: from twice the first delay (10 s) to 10 min.
    While the call is young it is under a minute, so that an action that is written late gets its note in time.
    """
    longest = LONGEST_REREAD_WHILE_YOUNG_SECONDS if unsettled_for < YOUNG else LONGEST_REREAD_SECONDS
    return min(longest, max(2 * this.settings.leadway_retry_seconds, unsettled_for.total_seconds()))


def _measure(reading: Reading, stored: Stored) -> None:
    if stored.is_new:
        metrics.STORED_SECONDS.observe((datetime.now(UTC) - stored.first_heard_at).total_seconds())
    if reading.call_log.unknown_fields:
        metrics.UNKNOWN_FIELDS.inc(len(reading.call_log.unknown_fields))
    if reading.call_log.zoneless_times:
        metrics.ZONELESS_TIMES.inc(reading.call_log.zoneless_times)
    for name in reading.call_log.unread_fields:
        metrics.UNREAD_FIELDS.labels(name).inc()
    unknown = sum(action.action_type not in ActionType.__members__ for action in reading.call_log.actions)
    if unknown:
        metrics.UNKNOWN_ACTION_TYPES.inc(unknown)
