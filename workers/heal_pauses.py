"""Keeps accounts able to work: ends pauses that Leadway caused, and refreshes tokens before they end."""

import time

import structlog

from models.accounts import accounts, oauth_grants, pauses
from models.accounts.accounts import UnknownAccount
from models.accounts.pauses import PauseCause
from models.work.work_rows import Lane
from workers.app import app
from workers.attempts.attempt import claimed
from workers.attempts.failure_policy import PAUSING, apply_to_account
from workers.leadway import credentials
from workers.leadway.credentials import CLAIM_SECONDS, GRANT, REFRESH
from workers.leadway.errors import ErrorKind, LeadwayError
from workers.process.connections import Connections, connections

log = structlog.get_logger(__name__)


def heal_pauses() -> None:
    """Probes each paused account whose probe is due with a harmless request; the intervals grow."""
    this = connections()
    with this.database.reading() as connection:  # no write lock is asked for while nothing is due
        if not pauses.is_a_probe_due(connection):
            return
    for probe in this.database.transact(pauses.due_probes):
        _probe(this, probe.location_id, PauseCause(probe.cause), probe.work)


@app.task(name=GRANT.task)
def refresh_grant(location_id: str, _subject: str) -> None:
    """Refreshes the account's access token shortly before its end, or at once where a new grant was set."""
    with claimed(credentials.work_key(location_id), lease_seconds=CLAIM_SECONDS) as attempt:
        if attempt is None:
            return
        with attempt.this.database.reading() as connection:
            account = accounts.get(connection, location_id)
        try:
            attempt.this.leadway.credentials.refresh(attempt.claim)
            attempt.outcome = "refreshed"
        except LeadwayError as error:
            refused = error
            first_delay = attempt.this.settings.leadway_retry_seconds
            attempt.commit(
                lambda connection: apply_to_account(
                    connection, refused, account=account, work=GRANT.name, first_delay=first_delay
                )
            )
            attempt.outcome = str(error.kind)


def _probe(this: Connections, location_id: str, cause: PauseCause, work: str) -> None:
    """Ends the pause if Leadway accepts the probe.

    No harmless request needs a scope for writing: a pause of follow-ups ends unprobed, and begins again with the next
    refusal.
    """
    if work != "follow_up":
        try:
            with this.database.reading() as connection:
                account = accounts.get(connection, location_id)
            deadline = time.monotonic() + this.attempt_seconds
            this.leadway.for_account(account, lane=Lane.RETRY, deadline=deadline).probe(account)
        except UnknownAccount:
            return
        except LeadwayError as error:
            if error.kind is ErrorKind.TOKEN and error.endpoint != REFRESH:
                _expire_token(this, location_id)
            if error.kind in PAUSING:
                log.info("pause_confirmed", location_id=location_id, cause=str(cause), error=str(error.kind))
            return
    this.database.transact(lambda connection: pauses.resume(connection, location_id, causes=(cause,), work=work))
    log.info("pause_healed", location_id=location_id, cause=str(cause))


def _expire_token(this: Connections, location_id: str) -> None:
    """Makes the next probe refresh a refused token of an OAuth grant. A static token stays as it is."""
    with this.database.reading() as connection:
        token = oauth_grants.current_token(connection, location_id).token_encrypted
    this.database.transact(lambda connection: oauth_grants.expire_token(connection, location_id, token))
