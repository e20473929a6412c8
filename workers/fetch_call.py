"""Fetches one call log and stores it: one attempt per task."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from models.accounts import circuit_breaker
from models.accounts.accounts import Account
from models.calls import calls
from models.calls.call_log import SETTLED_AS_IT_IS_AFTER, CallLog
from models.calls.calls import CALL, Origin, work_key
from models.calls.storing import Reading, Stored
from models.failpoints import failpoint
from models.intake import notifications
from models.reconciling import schedule, unknown_calls
from models.work import lifecycle
from models.work.history import Outcome
from models.work.lifecycle import Claim
from workers.app import app
from workers.attempts.attempt import Attempt, AttemptFailed, claimed, tell_celery
from workers.attempts.failure_policy import apply_policy
from workers.attempts.storing import Read, reread_after, store_readings
from workers.leadway.errors import ErrorKind, LeadwayError
from workers.process.connections import Connections

NOT_FOUND_FOR_GOOD_SECONDS = 24 * 3600.0
"""A call that was never stored and is still not found at this age becomes dead."""
WRONG_KIND = "call_id_of_another_kind"
"""Reason of a notification whose id names something other than a call."""


_SUCCEEDED = ("settled", "unsettled", "not_found_yet", ErrorKind.BUDGET, ErrorKind.NO_TIME)
"""Outcomes with which nothing is wrong: the call is stored, not ready yet, or waits for its turn."""


@app.task(name=CALL.task, throws=(AttemptFailed,))
def fetch_call(location_id: str, call_id: str) -> None:
    """Makes one attempt at this call, if it is due."""
    with claimed(work_key(location_id, call_id)) as attempt:
        if attempt is None:
            return
        account = attempt.this.accounts.get(location_id)
        read = _get_call_log(attempt, account=account)
        if isinstance(read, CallLog):
            failpoint("call_fetched")
            call_log = read
            attempt.outcome = attempt.commit_with_others(_store_all, (attempt, call_log, account))
            failpoint("call_stored")
        else:
            error = read
            attempt.this.accounts.forget(location_id)
            attempt.outcome = attempt.commit(
                lambda connection: _without_log(connection, attempt, error, account=account)
            )
    tell_celery(attempt, succeeded=_SUCCEEDED)


def _get_call_log(attempt: Attempt, *, account: Account) -> CallLog | LeadwayError:
    claim = attempt.claim
    client = attempt.this.leadway.for_account(account, lane=claim.lane, deadline=claim.deadline)
    try:
        return client.get_call_log(claim.key.subject)
    except LeadwayError as error:
        return error


def _store_all(connection: Connection, fetched: Sequence[tuple[Attempt, CallLog, Account]]) -> list[str]:
    """Stores the logs and ends their attempts; returns their outcomes. Raises LeaseLost."""
    this = fetched[0][0].this
    reads = [
        Read(attempt.claim, account, [Reading(call_log, attempt.claim.request)], attempt.claim.lane)
        for attempt, call_log, account in fetched
    ]
    stored = store_readings(connection, this, reads)
    return [
        _end(connection, this, read.claim, call)
        for read, calls_of in zip(reads, stored, strict=True)
        for call in calls_of.values()
    ]


def _end(connection: Connection, this: Connections, claim: Claim, call: Stored) -> str:
    if call.settled:
        lifecycle.complete(connection, claim)
        return "settled"
    unsettled_for = claim.claimed_at - min(call.stored_at, claim.claimed_at)
    seconds = reread_after(this, unsettled_for)
    lifecycle.reschedule(connection, claim, seconds=seconds, outcome=Outcome.UNSETTLED, stored=True)
    return "unsettled"


def _without_log(connection: Connection, attempt: Attempt, error: LeadwayError, *, account: Account) -> str:
    """Ends an attempt that brought no log; returns its outcome. Raises LeaseLost."""
    claim, facts = attempt.claim, _facts(error)
    stored = calls.get(connection, account.location_id, claim.key.subject)
    if error.kind is ErrorKind.WRONG_KIND and stored is None:
        notifications.become_unresolved(connection, account.location_id, claim.key.subject, reason=WRONG_KIND)
        schedule.look_for_unresolved(connection, account.location_id)
        lifecycle.discard(connection, claim, **facts)
        return "wrong_kind"
    if error.kind is ErrorKind.NOT_FOUND:
        circuit_breaker.record_success(connection, account.location_id)  # an answer: the API works
        first_heard_at = claim.created_at if stored is None else stored.first_heard_at
        age = claim.claimed_at - first_heard_at
        if stored is None and age.total_seconds() >= NOT_FOUND_FOR_GOOD_SECONDS:
            lifecycle.dead_letter(connection, claim, cause="not_found", **facts)
            return "not_found_for_good"
        if stored is not None and age >= SETTLED_AS_IT_IS_AFTER:
            calls.settle(connection, account.location_id, stored.call_id)
            lifecycle.complete(connection, claim)
            return "settled"
        if stored is None and _is_beyond_the_ceiling(connection, claim):
            reason = unknown_calls.TOO_MANY
            notifications.become_unresolved(connection, account.location_id, claim.key.subject, reason=reason)
            lifecycle.discard(connection, claim, **facts)
            return "unknown"
        seconds = reread_after(attempt.this, age)
        lifecycle.reschedule(connection, claim, seconds=seconds, outcome=Outcome.UNSETTLED, **facts)
        return "not_found_yet"
    apply_policy(connection, attempt.this, claim, error, account=account)
    return str(error.kind)


def _is_beyond_the_ceiling(connection: Connection, claim: Claim) -> bool:
    """Whether only signed notifications tell of the call, of an account that had too many unknown ones today."""
    if claim.request is None or claim.request.origin != Origin.NOTIFICATION:
        return False
    location_id, call_id = claim.key.location_id, claim.key.subject
    is_only_signed = unknown_calls.is_only_signed(connection, location_id, call_id)
    return is_only_signed and unknown_calls.are_too_many(connection, location_id)


def _facts(error: LeadwayError) -> dict[str, Any]:
    return {"error": str(error.kind), "http_status": error.http_status, "trace_id": error.trace_id}
