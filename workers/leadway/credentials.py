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

from models.accounts import oauth_grants
from models.accounts.accounts import Account
from models.accounts.oauth_grants import RefreshClaim
from models.accounts.token_encryption import TokenCipher, TokenUnreadable
from models.database import Database
from workers.leadway.errors import (
    ErrorKind,
    LeadwayError,
    PermanentLeadwayError,
    RetryableLeadwayError,
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
POLL_SECONDS = 0.1
DEFAULT_LIFE_SECONDS = 86_399.0
"""Of an access token whose answer names no life."""


class Credentials:
    """The tokens of all accounts, for one process."""

    def __init__(
        self, database: Database, cipher: TokenCipher, *, session: requests.Session, url: str, version: str
    ) -> None:
        self._database, self._cipher = database, cipher
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
        with self._database.reading() as connection:
            present = oauth_grants.current_token(connection, location_id)
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
            with self._database.reading() as connection:
                present = oauth_grants.current_token(connection, location_id)
            if present.seconds_left > REFRESH_BEFORE_SECONDS:
                return self._opened(present.token_encrypted)
            claim = self._database.transact(
                lambda connection, seen=present: oauth_grants.claim_refresh(  # type: ignore[misc]
                    connection, location_id, seen=seen, seconds=CLAIM_SECONDS
                )
            )
            try:
                if claim is not None:
                    self._refresh(location_id, claim)
                    continue
            except RetryableLeadwayError as error:
                if present.seconds_left <= 0:
                    raise
                log.warning("token_refresh_postponed", location_id=location_id, error=str(error.kind))
            if present.seconds_left > 0:
                return self._opened(present.token_encrypted)
            if time.monotonic() + POLL_SECONDS >= deadline:
                raise _no_time()
            time.sleep(POLL_SECONDS)

    def _refresh(self, location_id: str, claim: RefreshClaim) -> None:
        """Asks for new tokens and stores them under the claim. A crash leaves the claim, which runs out."""
        try:
            answer = self._ask(claim)
            access_token, refresh_token = _text(answer, "access_token"), _text(answer, "refresh_token")
            if access_token is None:
                raise RetryableLeadwayError(ErrorKind.PUZZLING, endpoint=REFRESH, reached=False)
            stored = self._database.transact(
                lambda connection: oauth_grants.store_tokens(
                    connection, location_id, claim, access_token=access_token, refresh_token=refresh_token,
                    seconds=_life(answer), cipher=self._cipher,
                )
            )  # fmt: skip
        except LeadwayError:
            self._database.transact(lambda connection: oauth_grants.release_refresh(connection, location_id, claim))
            raise
        log.info("token_refreshed" if stored else "token_refreshed_too_late", location_id=location_id)

    def _ask(self, claim: RefreshClaim) -> Mapping[str, Any]:
        """POST /oauth/token, form-encoded. Errors are raised outside of `except`: their causes may quote the form."""
        form = {
            "client_id": claim.client_id,
            "client_secret": self._opened(claim.client_secret_encrypted),
            "grant_type": "refresh_token",
            "refresh_token": self._opened(claim.refresh_token_encrypted),
            "user_type": "Location",
        }
        headers = {"Version": self._version, "Accept": "application/json"}
        request = requests.Request("POST", f"{self._url}/oauth/token", data=form, headers=headers)
        try:
            answer = exchange(self._session, request, endpoint=REFRESH, seconds=REFRESH_REQUEST_SECONDS)
        except RetryableLeadwayError as error:
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
    if answer.is_whole and status in (400, 401, 403, 422):
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


def _no_time() -> RetryableLeadwayError:
    return RetryableLeadwayError(ErrorKind.NO_TIME, endpoint=REFRESH, reached=False)
