"""What an error from Leadway means for the row and for its account: later, how much later, or never.

Only what says something about the row itself counts towards giving it up. An outage, the budget, a pause never do.
"""

from typing import Any

import structlog
from sqlalchemy import Connection

from models.accounts import accounts, circuit_breaker, oauth_grants, pauses
from models.accounts.accounts import Account
from models.accounts.pauses import ALL_WORK, PauseCause
from models.work import lifecycle
from models.work.history import Outcome
from models.work.lifecycle import FAILURES_ALLOWED, Claim
from models.work.work_rows import WorkStatus
from workers.leadway.credentials import REFRESH
from workers.leadway.errors import ErrorKind, LeadwayError, RetryableLeadwayError
from workers.process.connections import Connections
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

NOT_A_TRY = (ErrorKind.BUDGET, ErrorKind.NO_TIME)
PAUSING = {
    ErrorKind.TOKEN: (
        PauseCause.TOKEN,
        "Leadway does not accept the API token: it was revoked, mistyped or never set. Make a new one in the portal and"
        " set it with `leadway-calls accounts set-token`.",
    ),
    ErrorKind.LOCATION: (
        PauseCause.LOCATION,
        "The API token has no access to this location: it belongs to another one. Compare the location id, or set the"
        " location's own token with `leadway-calls accounts set-token`.",
    ),
    ErrorKind.VERSION: (
        PauseCause.VERSION,
        "Leadway does not accept the Version header: set LEADWAY_API_VERSION to a published one (default 2021-07-28).",
    ),
    ErrorKind.SCOPE: (
        PauseCause.SCOPE,
        "The API token lacks a scope: voice-ai-dashboard.readonly for call logs; contacts.readonly and contacts.write"
        " for notes. Add it to the token in the portal.",
    ),
}
GRANT_REFUSED = (
    "Leadway does not renew the access token: the app was removed from the location, or the refresh token was used"
    " elsewhere. Install the app again and set what it gives with `leadway-calls accounts connect`."
)
SHORTEST_WAIT_SECONDS = 0.05


def apply_policy(
    connection: Connection, this: Connections, claim: Claim, error: LeadwayError, *, account: Account, **values: Any
) -> None:
    """Puts the row back or gives it up, as the error says; pauses or rests the account where it is about that.

    Only for errors that say nothing was done: reads, and writes that provably were not executed. A follow-up whose
    outcome was unclear stays so, and is never given up: it waits for a person. `values` are columns. Raises LeaseLost.
    """
    unclear = claim.row.get("unclear_since") is not None
    values = {"status": WorkStatus.UNCLEAR if unclear else WorkStatus.PENDING, **values}
    facts: dict[str, Any] = {
        "error": str(error.kind),
        "http_status": error.http_status,
        "trace_id": error.trace_id,
        **values,
    }
    first_delay = this.settings.leadway_retry_seconds
    wait = error.retry_after if isinstance(error, RetryableLeadwayError) else None
    if error.kind in NOT_A_TRY:
        seconds = max(wait or first_delay, SHORTEST_WAIT_SECONDS)
        lifecycle.reschedule(connection, claim, seconds=seconds, tried=False, error=str(error.kind), **values)
    elif error.kind is ErrorKind.THROTTLED:
        seconds = wait or first_delay
        circuit_breaker.open_breaker(connection, account.location_id, seconds=seconds)
        lifecycle.reschedule(connection, claim, seconds=seconds, **facts)
    elif error.kind in PAUSING:
        if not _has_another_token(connection, error, account=account):
            pause_for(connection, error.kind, account=account, work=claim.work.name)
        lifecycle.reschedule(connection, claim, seconds=first_delay, **facts)
    elif error.kind is ErrorKind.OUTAGE:
        record_outage(connection, account=account, first_delay=first_delay)
        seconds = max(lifecycle.backoff(claim.attempts, first_seconds=first_delay), wait or 0)
        lifecycle.reschedule(connection, claim, seconds=seconds, counted=True, outcome=Outcome.FAILED, **facts)
    elif isinstance(error, RetryableLeadwayError) and claim.failures + 1 < FAILURES_ALLOWED:
        seconds = max(lifecycle.backoff(claim.attempts, first_seconds=first_delay), wait or 0)
        lifecycle.reschedule(
            connection, claim, seconds=seconds, counted=True, failed=True, outcome=Outcome.FAILED, **facts
        )
    elif values["status"] is WorkStatus.UNCLEAR:
        lifecycle.reschedule(connection, claim, seconds=None, counted=True, outcome=Outcome.UNCLEAR, **facts)
        log.error("person_needed", work=claim.work.name, key=claim.key, why=str(error.kind))
    else:
        lifecycle.dead_letter(connection, claim, cause=str(error.kind), **{**facts, "status": WorkStatus.DEAD})
        log.error("work_dead_lettered", work=claim.work.name, key=claim.key, cause=str(error.kind))


def _has_another_token(connection: Connection, error: LeadwayError, *, account: Account) -> bool:
    """Whether the account's token is, or by a refresh will be, not the one that was refused."""
    if account.token_expires_at is None:
        return accounts.get(connection, account.location_id).api_token_encrypted != account.api_token_encrypted
    refused = error.kind is ErrorKind.TOKEN and error.endpoint != REFRESH
    return refused and oauth_grants.expire_token(connection, account.location_id, account.api_token_encrypted)


def pause_for(connection: Connection, kind: ErrorKind, *, account: Account, work: str) -> None:
    cause, detail = PAUSING[kind]
    if cause is PauseCause.TOKEN and account.token_expires_at is not None:
        detail = GRANT_REFUSED
    held = work if cause is PauseCause.SCOPE else ALL_WORK
    if pauses.pause(connection, account.location_id, cause=cause, detail=detail, work=held):
        metrics.PAUSES.labels(cause).inc()
        log.error("account_paused", location_id=account.location_id, cause=str(cause), work=held)


def record_outage(connection: Connection, *, account: Account, first_delay: float) -> None:
    """Counts an outage of the account's API, which may open its circuit breaker."""
    seconds = circuit_breaker.record_outage(connection, account.location_id, first_seconds=first_delay)
    if seconds is not None:
        log.warning("circuit_breaker_opened", location_id=account.location_id, rests_seconds=seconds)
