"""Fetches one call log, stores it, plans its follow-ups: one attempt per task."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from models.accounts import accounts, circuit_breaker
from models.accounts.accounts import Account
from models.calls import calls
from models.calls.call_log import SETTLED_AS_IT_IS_AFTER, Action, ActionType, CallLog
from models.calls.calls import CALL
from models.database import moment
from models.failpoints import failpoint
from models.follow_ups import follow_ups
from models.follow_ups.rules import CALL_KEY, follow_ups_for, is_too_old
from models.intake import notifications
from models.work import lifecycle
from models.work.history import Outcome
from models.work.lifecycle import Claim
from models.work.work_rows import Lane
from workers.app import app
from workers.attempts.attempt import attempt
from workers.attempts.failure_policy import apply_policy
from workers.leadway.errors import ErrorKind, LeadwayError, PermanentLeadwayError, RetryableLeadwayError
from workers.process.connections import Connections
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

LATEST_REREAD_SECONDS = 600.0
NOT_FOUND_FOR_GOOD_SECONDS = 24 * 3600.0
SUMMARY_PATIENCE_SECONDS = 120.0
WRONG_KIND = "call_id_of_another_kind"


@app.task(name="calls.fetch")
def fetch_call(location_id: str, call_id: str) -> None:
    attempt(CALL, (location_id, call_id), _fetch)


def _fetch(this: Connections, claim: Claim) -> str:
    location_id, call_id = claim.key
    with this.database.reading() as connection:
        account = accounts.get(connection, location_id)
    client = this.leadway.for_account(account, lane=Lane(claim.row["lane"]), deadline=claim.deadline)
    try:
        call_log = client.get_call_log(call_id)
    except (RetryableLeadwayError, PermanentLeadwayError) as error:
        setback = error
    else:
        failpoint("call_fetched")
        outcome = this.database.transact(lambda connection: take_in(connection, this, claim, call_log, account=account))
        failpoint("call_stored")
        return outcome
    return this.database.transact(lambda connection: _without_log(connection, this, claim, setback, account=account))


def take_in(connection: Connection, this: Connections, claim: Claim, call_log: CallLog, *, account: Account) -> str:
    """Stores the log, plans what it calls for and ends the attempt, all in the caller's one transaction."""
    location_id = account.location_id
    age = _seconds_since(claim.row["stored_at"] or claim.claimed_at, claim.claimed_at)
    settled = call_log.is_settled_after(timedelta(seconds=age))
    # First the end of the attempt: it proves the fence and locks the row, so that the claim tells what is stored.
    if settled:
        lifecycle.complete(connection, claim)
    else:
        lifecycle.reschedule(connection, claim, seconds=_reread_after(this, age), outcome=Outcome.UNSETTLED)
    keyed_actions = calls.save(
        connection, location_id, call_log, read_at=claim.claimed_at, settled=settled, stored=claim.row
    )
    if claim.row["plans_follow_ups"] or _plans_follow_ups(connection, claim):
        plan_follow_ups(connection, this, call_log, keyed_actions, account=account, claim=claim)
    if account.outages_in_a_row:
        circuit_breaker.record_success(connection, location_id)
    failpoint("call_before_commit")
    _measure(claim, call_log)
    return "settled" if settled else "unsettled"


def _plans_follow_ups(connection: Connection, claim: Claim) -> bool:
    """Asked again, under the lock of the row: a backfilled call may have been announced since the claim."""
    row = calls.get(connection, *claim.key)
    return row is not None and bool(row["plans_follow_ups"])


def plan_follow_ups(
    connection: Connection,
    this: Connections,
    call_log: CallLog,
    keyed_actions: Sequence[tuple[str, Action]],
    *,
    account: Account,
    claim: Claim,
) -> None:
    """Writes down what the log calls for. Without a summary yet, follow-ups wait for it, but not long."""
    planned = follow_ups_for(
        call_log,
        keyed_actions,
        this.rules,
        location_id=account.location_id,
        too_old=is_too_old(call_log, now=claim.claimed_at, age_hours=account.follow_up_age_hours),
        planned_as_call=claim.row["stored_at"] is not None
        and follow_ups.has_action_key(connection, account.location_id, call_log.call_id, CALL_KEY),
    )
    age = _seconds_since(claim.row["stored_at"] or claim.claimed_at, claim.claimed_at)
    complete = bool(call_log.summary.strip()) or not call_log.duration_seconds
    patience = 0.0 if complete else max(0.0, SUMMARY_PATIENCE_SECONDS - age)
    lane = Lane(claim.row["lane"])
    follow_ups.plan(
        connection,
        account.location_id,
        call_log.call_id,
        planned,
        delay_seconds=patience,
        lane=lane if lane.is_background else Lane.FOLLOW_UP,
    )


def _without_log(
    connection: Connection, this: Connections, claim: Claim, error: LeadwayError, *, account: Account
) -> str:
    never_stored = claim.row["stored_at"] is None
    facts: dict[str, Any] = {"error": str(error.kind), "http_status": error.http_status, "trace_id": error.trace_id}
    if error.kind is ErrorKind.WRONG_KIND and never_stored:
        notifications.become_unresolved(connection, *claim.key, reason=WRONG_KIND)
        lifecycle.discard(connection, claim, **facts)
        return "wrong_kind"
    if error.kind is ErrorKind.NOT_FOUND:
        circuit_breaker.record_success(connection, account.location_id)  # an answer, if not the one hoped for
        age = _seconds_since(claim.row["created_at"], claim.claimed_at)
        if never_stored and age >= NOT_FOUND_FOR_GOOD_SECONDS:
            lifecycle.dead_letter(connection, claim, cause="not_found", **facts)
            return "not_found_for_good"
        if not never_stored and age >= SETTLED_AS_IT_IS_AFTER.total_seconds():
            lifecycle.complete(connection, claim, settled_at=moment())
            return "settled"
        lifecycle.reschedule(connection, claim, seconds=_reread_after(this, age), outcome=Outcome.UNSETTLED, **facts)
        return "not_found_yet"
    apply_policy(connection, this, claim, error, account=account)
    return str(error.kind)


def _reread_after(this: Connections, age_seconds: float) -> float:
    """As long again as it has been unsettled: intervals double, from twice the first delay (10 s) to 10 min."""
    return min(LATEST_REREAD_SECONDS, max(2 * this.settings.leadway_retry_seconds, age_seconds))


def _seconds_since(then: datetime, now: datetime) -> float:
    return (now.astimezone(UTC) - then.astimezone(UTC)).total_seconds()


def _measure(claim: Claim, call_log: CallLog) -> None:
    if claim.row["stored_at"] is None:
        metrics.STORED_SECONDS.observe(_seconds_since(claim.row["created_at"], datetime.now(UTC)))
    if call_log.unknown_fields:
        metrics.UNKNOWN_FIELDS.inc(len(call_log.unknown_fields))
    unknown = sum(action.action_type not in ActionType.__members__ for action in call_log.actions)
    if unknown:
        metrics.UNKNOWN_ACTION_TYPES.inc(unknown)
