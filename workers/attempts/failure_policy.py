"""The failure policy: what an error from Leadway means for a row of work, for its account and for the circuit breaker.

One table decides, for every kind of work. Only what says something about the row itself counts towards dead-lettering
it: an outage, the budget, a pause never do.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import structlog
from sqlalchemy import Connection

from models.accounts import accounts, circuit_breaker, oauth_grants, pauses
from models.accounts.accounts import Account
from models.accounts.pauses import ALL_WORK, PauseCause
from models.work import lifecycle
from models.work.history import Outcome
from models.work.lifecycle import FAILURES_ALLOWED, Claim
from workers.leadway.credentials import REFRESH
from workers.leadway.errors import ErrorKind, LeadwayError, RetryableLeadwayError
from workers.process.connections import Connections
from workers.telemetry import metrics

log = structlog.get_logger(__name__)


class ForTheRow(Enum):
    """What happens to the row of work."""

    WAITS = auto()
    """Nothing was sent: no try is counted, and the history keeps none."""
    POSTPONED = auto()
    """The reason is not the row's: no try is counted."""
    TRIED_AGAIN = auto()
    """A try is counted, but none that leads to dead-lettering."""
    FAILS = auto()
    """Tried again, but dead after FAILURES_ALLOWED failures."""
    DIES = auto()


class ForTheAccount(Enum):
    """What happens to the account, its circuit breaker included."""

    NOTHING = auto()
    OPENS_THE_BREAKER = auto()
    COUNTS_AN_OUTAGE = auto()
    """Several in a row open the breaker."""
    PAUSES = auto()
    """See PAUSING."""


@dataclass(frozen=True)
class Policy:
    row: ForTheRow
    account: ForTheAccount = ForTheAccount.NOTHING


POLICY: Mapping[ErrorKind, Policy] = {
    ErrorKind.BUDGET: Policy(ForTheRow.WAITS),
    ErrorKind.NO_TIME: Policy(ForTheRow.WAITS),
    ErrorKind.THROTTLED: Policy(ForTheRow.POSTPONED, ForTheAccount.OPENS_THE_BREAKER),
    ErrorKind.OUTAGE: Policy(ForTheRow.TRIED_AGAIN, ForTheAccount.COUNTS_AN_OUTAGE),
    ErrorKind.TOKEN: Policy(ForTheRow.POSTPONED, ForTheAccount.PAUSES),
    ErrorKind.LOCATION: Policy(ForTheRow.POSTPONED, ForTheAccount.PAUSES),
    ErrorKind.SCOPE: Policy(ForTheRow.POSTPONED, ForTheAccount.PAUSES),
    ErrorKind.VERSION: Policy(ForTheRow.POSTPONED, ForTheAccount.PAUSES),
    ErrorKind.PUZZLING: Policy(ForTheRow.FAILS),
    ErrorKind.NOT_FOUND: Policy(ForTheRow.FAILS),
    ErrorKind.REFUSED: Policy(ForTheRow.FAILS),
    ErrorKind.WRONG_KIND: Policy(ForTheRow.DIES),
    ErrorKind.TOO_LARGE: Policy(ForTheRow.DIES),
    ErrorKind.CONTACT_UNKNOWN: Policy(ForTheRow.DIES),
}
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
"""Errors that pause the account: the pause's cause, and its detail, which says what to do."""
GRANT_REFUSED = (
    "Leadway does not renew the access token: the app was removed from the location, or the refresh token was used"
    " elsewhere. Install the app again and set what it gives with `leadway-calls accounts connect`."
)
"""Detail of a token pause where the account's tokens come from an OAuth grant."""
SHORTEST_WAIT_SECONDS = 0.05


def apply_policy(
    connection: Connection,
    this: Connections,
    claim: Claim,
    error: LeadwayError,
    *,
    account: Account,
    may_die: bool = True,
) -> str | None:
    """Reschedules or dead-letters the row as the error says; opens the circuit breaker or pauses the account.

    Only for errors after which nothing was done: of reads, and of writes that provably were not executed. Returns the
    cause if the row is dead now. `may_die`: False for a row that has to wait for a person instead. Raises LeaseLost.
    """
    policy, kind = POLICY[error.kind], str(error.kind)
    first_delay = this.settings.leadway_retry_seconds
    apply_to_account(connection, error, account=account, work=claim.key.kind.paused_as, first_delay=first_delay)
    seconds: float | None = seconds_until_retry(error, tries=claim.attempts, first_delay=first_delay)
    facts: dict[str, Any] = {"error": kind, "http_status": error.http_status, "trace_id": error.trace_id}
    match policy.row:
        case ForTheRow.WAITS:
            lifecycle.reschedule(connection, claim, seconds=seconds, tried=False, error=kind)
        case ForTheRow.POSTPONED:
            lifecycle.reschedule(connection, claim, seconds=seconds, **facts)
        case ForTheRow.TRIED_AGAIN:
            lifecycle.reschedule(connection, claim, seconds=seconds, counted=True, outcome=Outcome.FAILED, **facts)
        case ForTheRow.FAILS | ForTheRow.DIES:
            fails_once_more = policy.row is ForTheRow.FAILS and claim.failures + 1 < FAILURES_ALLOWED
            if fails_once_more or not claim.key.kind.may_die:
                how: dict[str, Any] = {"counted": True, "failed": True, "outcome": Outcome.FAILED}
                lifecycle.reschedule(connection, claim, seconds=seconds, **how, **facts)
            elif not may_die:
                lifecycle.reschedule(connection, claim, seconds=None, counted=True, outcome=Outcome.UNCLEAR, **facts)
                log.error("person_needed", work=claim.key.kind.name, subject=claim.key.subject, why=kind)
            else:
                lifecycle.dead_letter(connection, claim, cause=kind, **facts)
                log.error("work_dead_lettered", work=claim.key.kind.name, subject=claim.key.subject, cause=kind)
                return kind
    return None


def apply_to_account(
    connection: Connection, error: LeadwayError, *, account: Account, work: str, first_delay: float
) -> None:
    """Opens the account's circuit breaker, pauses the account or counts an outage, where the error is about that.

    `work`: the kind of work that met the error; a missing scope pauses only that. `first_delay`: seconds.
    """
    match POLICY[error.kind].account:
        case ForTheAccount.OPENS_THE_BREAKER:
            seconds = seconds_until_retry(error, tries=1, first_delay=first_delay)
            circuit_breaker.open_breaker(connection, account.location_id, seconds=seconds)
        case ForTheAccount.COUNTS_AN_OUTAGE:
            _record_outage(connection, account=account, first_delay=first_delay)
        case ForTheAccount.PAUSES:
            if not _has_another_token(connection, error, account=account):
                _pause(connection, error.kind, account=account, work=work)


def seconds_until_retry(error: LeadwayError, *, tries: int, first_delay: float) -> float:
    """Seconds until the next try: what Leadway or the budget asks for, else the first delay or a backoff."""
    asked = error.retry_after if isinstance(error, RetryableLeadwayError) else None
    match POLICY[error.kind].row:
        case ForTheRow.WAITS:
            return max(asked or first_delay, SHORTEST_WAIT_SECONDS)
        case ForTheRow.POSTPONED:
            return asked or first_delay  # a pause holds the row back; when it ends, nothing more has to be waited for
    return max(lifecycle.backoff(tries, first_seconds=first_delay), asked or 0.0)


def _has_another_token(connection: Connection, error: LeadwayError, *, account: Account) -> bool:
    """Whether the account's token is, or by a refresh will be, another one than the token that was refused."""
    now = accounts.get(connection, account.location_id)
    if account.token_expires_at is None or now.token_expires_at is None:
        return now.api_token_encrypted != account.api_token_encrypted
    refused = error.kind is ErrorKind.TOKEN and error.endpoint != REFRESH
    return refused and oauth_grants.expire_token(connection, account.location_id, account.api_token_encrypted)


def _pause(connection: Connection, kind: ErrorKind, *, account: Account, work: str) -> None:
    cause, detail = PAUSING[kind]
    if cause is PauseCause.TOKEN and account.token_expires_at is not None:
        detail = GRANT_REFUSED
    paused_work = work if cause is PauseCause.SCOPE else ALL_WORK
    if pauses.pause(connection, account.location_id, cause=cause, detail=detail, work=paused_work):
        metrics.PAUSES.labels(cause).inc()
        log.error("account_paused", location_id=account.location_id, cause=str(cause), work=paused_work)


def _record_outage(connection: Connection, *, account: Account, first_delay: float) -> None:
    """Counts an outage of the account's API, which may open its circuit breaker."""
    seconds = circuit_breaker.record_outage(connection, account.location_id, first_seconds=first_delay)
    if seconds is not None:
        log.warning("circuit_breaker_opened", location_id=account.location_id, seconds=seconds)
