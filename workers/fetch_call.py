"""Fetches one call log and stores it: one attempt per task."""

from typing import Any

from sqlalchemy import Connection

from models.accounts import accounts, circuit_breaker
from models.accounts.accounts import Account
from models.calls.call_log import SETTLED_AS_IT_IS_AFTER
from models.calls.calls import CALL
from models.database import moment
from models.failpoints import failpoint
from models.intake import notifications
from models.work import lifecycle
from models.work.history import Outcome
from models.work.lifecycle import Claim
from models.work.work_rows import Lane
from workers.app import app
from workers.attempts.attempt import attempt
from workers.attempts.failure_policy import apply_policy
from workers.attempts.storing import reread_after, store_reading
from workers.leadway.errors import ErrorKind, LeadwayError
from workers.process.connections import Connections

NOT_FOUND_FOR_GOOD_SECONDS = 24 * 3600.0
"""A call that was never stored and is still not found at this age becomes dead."""
WRONG_KIND = "call_id_of_another_kind"
"""Reason of a notification whose id names something other than a call."""


@app.task(name="calls.fetch")
def fetch_call(location_id: str, call_id: str) -> None:
    """Makes one attempt at this call, if it is due."""
    attempt(CALL, (location_id, call_id), _fetch)


def _fetch(this: Connections, claim: Claim) -> str:
    location_id, call_id = claim.key
    with this.database.reading() as connection:
        account = accounts.get(connection, location_id)
    client = this.leadway.for_account(account, lane=Lane(claim.row["lane"]), deadline=claim.deadline)
    try:
        call_log = client.get_call_log(call_id)
    except LeadwayError as raised:
        error = raised
    else:
        failpoint("call_fetched")
        outcome = this.database.transact(
            lambda connection: store_reading(connection, this, claim, call_log, account=account)
        )
        failpoint("call_stored")
        return outcome
    return this.database.transact(lambda connection: _without_log(connection, this, claim, error, account=account))


def _without_log(
    connection: Connection, this: Connections, claim: Claim, error: LeadwayError, *, account: Account
) -> str:
    """Ends an attempt that brought no log; returns its outcome. Raises LeaseLost."""
    never_stored = claim.row["stored_at"] is None
    facts: dict[str, Any] = {"error": str(error.kind), "http_status": error.http_status, "trace_id": error.trace_id}
    if error.kind is ErrorKind.WRONG_KIND and never_stored:
        notifications.become_unresolved(connection, *claim.key, reason=WRONG_KIND)
        lifecycle.discard(connection, claim, **facts)
        return "wrong_kind"
    if error.kind is ErrorKind.NOT_FOUND:
        circuit_breaker.record_success(connection, account.location_id)  # an answer: the API works
        age = claim.claimed_at - claim.row["created_at"]
        if never_stored and age.total_seconds() >= NOT_FOUND_FOR_GOOD_SECONDS:
            lifecycle.dead_letter(connection, claim, cause="not_found", **facts)
            return "not_found_for_good"
        if not never_stored and age >= SETTLED_AS_IT_IS_AFTER:
            lifecycle.complete(connection, claim, settled_at=moment())
            return "settled"
        lifecycle.reschedule(connection, claim, seconds=reread_after(this, age), outcome=Outcome.UNSETTLED, **facts)
        return "not_found_yet"
    apply_policy(connection, this, claim, error, account=account)
    return str(error.kind)
