"""The token of each request: a static one as stored, or one of an OAuth grant, which one process refreshes for all.

A static token is never refreshed: only a person has the next one.
"""

import json
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import requests
import structlog
from sqlalchemy import Connection

from models.accounts import oauth_grants
from models.accounts.accounts import Account
from models.accounts.oauth_grants import CurrentToken, Grant
from models.accounts.token_encryption import TokenCipher, TokenUnreadable
from models.database import Database
from models.failpoints import failpoint
from models.work import lifecycle
from models.work.history import Outcome
from models.work.lifecycle import Claim, LeaseLost
from models.work.work_rows import Lane, WorkKey, WorkKind
from workers.leadway.errors import (
    ErrorKind,
    LeadwayError,
    PermanentLeadwayError,
    RetryableLeadwayError,
    is_of_the_api,
    throttle_wait,
)
from workers.leadway.transport import Answer, exchange

log = structlog.get_logger(__name__)

REFRESH = "refresh_token"
REFRESH_BEFORE_SECONDS = 60.0
"""A token is refreshed this long before it expires. The vendor's own clients take 30 s."""
REFRESH_REQUEST_SECONDS = 8.0
"""Deadline of the one request for a new token."""
CLAIM_SECONDS = 12.0
"""A claim on the refresh runs out after this: within the 30 s for which a used refresh token brings the same answer
again (vendor's changelog, as reported), so that a refresh whose process died can be repeated."""
RETRY_SECONDS = 5.0
"""After the first refresh that failed, if nobody needs the token sooner; doubles."""
DUE_MARGIN_SECONDS = 1.0
POLL_SECONDS = 0.1
LARGEST_GRANT_ANSWER = 65_536
"""Bytes of the answer to a refresh."""
DEFAULT_LIFE_SECONDS = 86_399.0
"""Of an access token whose answer names no life."""
GRANT = WorkKind("grant", task="grants.refresh", queue="housekeeping", paused_as="grant", may_die=False)


def work_key(location_id: str) -> WorkKey:
    """The work of keeping the account's access token fresh. It never ends while the account has a grant."""
    return WorkKey(GRANT, location_id, "")


def set_grant(connection: Connection, location_id: str, **grant: Any) -> None:
    """Writes a grant in place of the account's token (`oauth_grants.set_grant`), whose first token is fetched at once.

    A refresh of the grant before that is under way writes nothing and pauses nothing any more. Raises UnknownAccount.
    """
    lifecycle.start_over(connection, work_key(location_id), lane=Lane.LIVE)
    oauth_grants.set_grant(connection, location_id, **grant)


class Credentials:
    """The tokens of all accounts, for one process. `worker`: the name under which it holds leases."""

    def __init__(
        self, database: Database, cipher: TokenCipher, *, session: requests.Session, url: str, version: str, worker: str
    ) -> None:
        self._database, self._cipher, self._worker = database, cipher, worker
        self._session, self._url, self._version = session, url, version
        self._refreshing: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def token(self, account: Account, *, deadline: float) -> str:
        """The token to send now; waits for a refresh until `deadline` (monotonic seconds).

        Raises PermanentLeadwayError (token, location) when there is no usable token, and RetryableLeadwayError when the
        token had to be refreshed and was not. Then nothing was sent to the API itself.
        """
        if account.token_expires_at is None:
            return self._opened(account.api_token_encrypted)
        location_id = account.location_id
        present = self._present(location_id)
        if present.seconds_left > REFRESH_BEFORE_SECONDS:
            return self._opened(present.token_encrypted)
        with self._guard:
            lock = self._refreshing[location_id]
        if not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise _no_time()
        try:
            return self._refreshed(location_id, deadline=deadline)
        finally:
            lock.release()

    def _refreshed(self, location_id: str, *, deadline: float) -> str:
        """Refreshes, or waits for the process that does. One thread per process is here; one process has the claim."""
        while True:
            present = self._present(location_id)
            if present.seconds_left <= REFRESH_BEFORE_SECONDS:
                try:
                    claim = self._claim(location_id)
                    if claim is not None:
                        failpoint("grant_claimed")
                        self.refresh(claim)
                except LeaseLost:
                    pass  # the grant was replaced, or another process refreshes
                except RetryableLeadwayError as error:
                    if present.seconds_left <= 0:
                        raise
                    log.warning("token_refresh_postponed", location_id=location_id, error=str(error.kind))
                present = self._present(location_id)
            if present.seconds_left > 0:
                return self._opened(present.token_encrypted)
            if time.monotonic() + POLL_SECONDS >= deadline:
                raise _no_time()
            time.sleep(POLL_SECONDS)

    def _present(self, location_id: str) -> CurrentToken:
        with self._database.reading() as connection:
            return oauth_grants.current_token(connection, location_id)

    def _claim(self, location_id: str) -> Claim | None:
        """Claims the refresh now, whatever its due time; None: another process has it."""
        key = work_key(location_id)
        self._database.transact(lambda connection: lifecycle.bring_forward(connection, key, lane=Lane.LIVE))
        return lifecycle.claim(
            self._database.transact, key, lease_seconds=CLAIM_SECONDS, deadline_seconds=CLAIM_SECONDS,
            worker=self._worker, isolated=True, heeds_pauses=False,
        )  # fmt: skip

    def refresh(self, claim: Claim) -> None:
        """Asks for new tokens, stores them under the claim, and ends it. A crash leaves the claim, which runs out.

        Asks for nothing if another process has refreshed since. Raises LeadwayError; the claim is ended then too.
        Raises LeaseLost when the grant was replaced or somebody took the claim over, whatever Leadway answered.
        """
        location_id = claim.key.location_id
        with self._database.reading() as connection:
            grant = oauth_grants.get_grant(connection, location_id)
        seconds_left = self._present(location_id).seconds_left
        if grant is None:
            self._database.transact(lambda connection: lifecycle.complete(connection, claim, tried=False))
            raise _no_time()  # the account has another token now, which the next attempt reads
        if seconds_left > REFRESH_BEFORE_SECONDS:
            self._database.transact(
                lambda connection: lifecycle.go_on(connection, claim, seconds=_seconds_until_refresh(seconds_left))
            )
        else:
            try:
                self._use(claim, grant)
            except LeadwayError as error:
                self._fail(claim, error)
                raise

    def _fail(self, claim: Claim, error: LeadwayError) -> None:
        asked = error.retry_after if isinstance(error, RetryableLeadwayError) else None
        seconds = asked or lifecycle.backoff(claim.attempts, first_seconds=RETRY_SECONDS)
        facts: dict[str, Any] = {
            "error": str(error.kind), "http_status": error.http_status, "trace_id": error.trace_id,
        }  # fmt: skip
        self._database.transact(
            lambda connection: lifecycle.reschedule(
                connection, claim, seconds=seconds, counted=True, outcome=Outcome.FAILED, **facts
            )
        )

    def _use(self, claim: Claim, grant: Grant) -> None:
        """Uses the refresh token. Raises LeadwayError before anything is written."""
        answer = self._ask(grant)
        access_token, refresh_token = _text(answer, "access_token"), _text(answer, "refresh_token")
        if access_token is None:
            raise RetryableLeadwayError(ErrorKind.PUZZLING, endpoint=REFRESH, reached=False)
        failpoint("grant_answered")
        location_id, seconds = claim.key.location_id, _life(answer)

        def write(connection: Connection) -> bool:
            lifecycle.go_on(connection, claim, seconds=_seconds_until_refresh(seconds))
            return oauth_grants.store_tokens(
                connection, location_id, grant, access_token=access_token, refresh_token=refresh_token,
                seconds=seconds, cipher=self._cipher,
            )  # fmt: skip

        stored = self._database.transact(write)
        log.info("token_refreshed" if stored else "token_refreshed_too_late", location_id=location_id)

    def _ask(self, grant: Grant) -> Mapping[str, Any]:
        """POST /oauth/token, form-encoded. Errors are raised outside of `except`: their causes may quote the form."""
        form = {
            "client_id": grant.client_id,
            "client_secret": self._opened(grant.client_secret_encrypted),
            "grant_type": "refresh_token",
            "refresh_token": self._opened(grant.refresh_token_encrypted),
            "user_type": "Location",
        }
        headers = {"Version": self._version, "Accept": "application/json"}
        request = requests.Request("POST", f"{self._url}/oauth/token", data=form, headers=headers)
        try:
            answer = exchange(
                self._session, request, endpoint=REFRESH, seconds=REFRESH_REQUEST_SECONDS, largest=LARGEST_GRANT_ANSWER
            )
        except LeadwayError as error:
            failure = RetryableLeadwayError(error.kind, endpoint=REFRESH, reached=False)
        else:
            return _read(answer)
        raise failure

    def _opened(self, encrypted: str | None) -> str:
        if encrypted is None:
            raise PermanentLeadwayError(ErrorKind.TOKEN, endpoint="no API token is set", reached=False)
        try:
            return self._cipher.decrypt(encrypted)
        except TokenUnreadable:
            pass
        raise PermanentLeadwayError(ErrorKind.TOKEN, endpoint="the API token cannot be read", reached=False)


def _read(answer: Answer) -> Mapping[str, Any]:
    """The document of a 2xx. Raises RetryableLeadwayError or PermanentLeadwayError for every other answer."""
    if not 200 <= answer.status < 300:
        raise _sort_refusal(answer)
    document = _document(answer.body)
    if document is None:
        raise RetryableLeadwayError(ErrorKind.PUZZLING, endpoint=REFRESH, http_status=answer.status, reached=False)
    return document


def _sort_refusal(answer: Answer) -> RetryableLeadwayError | PermanentLeadwayError:
    """The error for an answer that is not a 2xx. An invalid grant comes as 400 or 401 ("refresh token is invalid").

    A cut refusal is an outage: its body, which tells why, is missing, and a pause of the account needs a sure reason.
    """
    status = answer.status
    if status == 429:
        wait = throttle_wait(answer.headers)
        return RetryableLeadwayError(
            ErrorKind.THROTTLED, retry_after=wait, endpoint=REFRESH, http_status=status, reached=False
        )
    if answer.is_whole and status in (400, 401, 403, 422) and is_of_the_api(answer.body):
        inactive = "location is not active" in str((_document(answer.body) or {}).get("message")).lower()
        kind = ErrorKind.LOCATION if inactive else ErrorKind.TOKEN
        return PermanentLeadwayError(kind, endpoint=REFRESH, http_status=status, reached=False)
    return RetryableLeadwayError(ErrorKind.OUTAGE, endpoint=REFRESH, http_status=status, reached=False)


def _document(body: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _text(answer: Mapping[str, Any], name: str) -> str | None:
    """A text of the answer in either spelling: `access_token`, or `accessToken` from v3 on."""
    first, *rest = name.split("_")
    value = answer.get(name) or answer.get(first + "".join(part.capitalize() for part in rest))
    return value if isinstance(value, str) and value else None


def _life(answer: Mapping[str, Any]) -> float:
    value = answer.get("expires_in", answer.get("expiresIn"))
    return float(value) if isinstance(value, int | float) and 0 < value < 1e9 else DEFAULT_LIFE_SECONDS


def _seconds_until_refresh(seconds_left: float) -> float:
    """A token with a short life is refreshed at half of it, not again and again. The margin: its end is written a
    little later than the due time, and the task must not find that it came too early."""
    return max(seconds_left - REFRESH_BEFORE_SECONDS, seconds_left / 2) + DUE_MARGIN_SECONDS


def _no_time() -> RetryableLeadwayError:
    return RetryableLeadwayError(ErrorKind.NO_TIME, endpoint=REFRESH, reached=False)
