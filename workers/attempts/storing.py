"""Stores a reading of a call, fetched or listed: ends its attempt, saves the log, plans follow-ups, in one commit."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from models.accounts import circuit_breaker
from models.accounts.accounts import Account
from models.calls import calls
from models.calls.call_log import ActionType, CallLog
from models.failpoints import failpoint
from models.work import lifecycle
from models.work.history import Outcome
from models.work.lifecycle import Claim
from models.work.work_rows import Lane
from workers.follow_ups.planning import plan_follow_ups
from workers.process.connections import Connections
from workers.telemetry import metrics

LONGEST_REREAD_SECONDS = 600.0
"""The longest interval between two readings of a call that is not settled."""


def store_reading(
    connection: Connection, this: Connections, claim: Claim, call_log: CallLog, *, account: Account
) -> str:
    """Stores the reading, plans its follow-ups and ends the attempt, in the caller's transaction.

    Returns the attempt's outcome: settled or unsettled. Raises LeaseLost.
    """
    location_id = account.location_id
    stored_at = claim.row["stored_at"]
    stored_for = claim.claimed_at - (stored_at or claim.claimed_at)
    settled = call_log.is_settled_after(stored_for)
    # The attempt ends first: the UPDATE proves the fence and locks the row, so that the claim tells what is stored.
    if settled:
        lifecycle.complete(connection, claim)
    else:
        lifecycle.reschedule(connection, claim, seconds=reread_after(this, stored_for), outcome=Outcome.UNSETTLED)
    keyed_actions = calls.save(
        connection, location_id, call_log, read_at=claim.claimed_at, settled=settled, stored=claim.row
    )
    if claim.row["plans_follow_ups"] or _plans_follow_ups(connection, claim):
        plan_follow_ups(
            connection,
            this.rules,
            call_log,
            keyed_actions,
            account=account,
            lane=Lane(claim.row["lane"]),
            read_at=claim.claimed_at,
            stored_at=stored_at,
        )
    if account.outages_in_a_row:
        circuit_breaker.record_success(connection, location_id)
    failpoint("call_before_commit")
    _measure(claim, call_log)
    return "settled" if settled else "unsettled"


def reread_after(this: Connections, unsettled_for: timedelta) -> float:
    """Seconds until an unsettled call is read again.

    The interval is as long as the call has been unsettled, so it doubles: from twice the first delay (10 s) to 10 min.
    """
    return min(LONGEST_REREAD_SECONDS, max(2 * this.settings.leadway_retry_seconds, unsettled_for.total_seconds()))


def _plans_follow_ups(connection: Connection, claim: Claim) -> bool:
    """Asks again under the lock of the row: a backfilled call may have been announced since the claim."""
    call = calls.get(connection, *claim.key)
    return call is not None and call.plans_follow_ups


def _measure(claim: Claim, call_log: CallLog) -> None:
    if claim.row["stored_at"] is None:
        metrics.STORED_SECONDS.observe((datetime.now(UTC) - claim.row["created_at"]).total_seconds())
    if call_log.unknown_fields:
        metrics.UNKNOWN_FIELDS.inc(len(call_log.unknown_fields))
    unknown = sum(action.action_type not in ActionType.__members__ for action in call_log.actions)
    if unknown:
        metrics.UNKNOWN_ACTION_TYPES.inc(unknown)
