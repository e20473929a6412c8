"""Leadway as a whole: one pooled session and one budget per process, from which every attempt gets its client."""

from collections.abc import Mapping

import redis

from models.accounts import Account
from models.attempts import Lane
from models.settings import Settings
from models.token_encryption import TokenCipher, TokenUnreadable
from workers import metrics
from workers.leadway.budget import Budget
from workers.leadway.client import LeadwayClient, open_session
from workers.leadway.errors import ErrorKind, PermanentLeadwayError


class Leadway:
    def __init__(self, settings: Settings, *, cipher: TokenCipher, client: "redis.Redis") -> None:
        self._url = settings.leadway_api_url
        self._version = settings.leadway_api_version
        self._cipher = cipher
        self._session = open_session(pool_size=settings.worker_threads)
        self._budget = Budget(client, per_10_seconds=settings.leadway_requests_per_10_seconds)

    def for_account(self, account: Account, *, lane: Lane, deadline: float) -> LeadwayClient:
        """A client for one attempt, until `deadline` (monotonic seconds): that account's token, budget and metrics."""
        asked = False

        def acquire(_endpoint: str, /) -> None:
            nonlocal asked
            self._budget.acquire(account.location_id, lane=lane, deadline=deadline, under_way=asked)
            asked = True

        def observe(endpoint: str, answer: int | ErrorKind, seconds: float, headers: Mapping[str, str]) -> None:
            metrics.API_REQUESTS.labels(endpoint, str(answer)).inc()
            metrics.API_SECONDS.labels(endpoint).observe(seconds)
            self._budget.heed(account.location_id, headers, throttled=answer == 429)

        return LeadwayClient(
            self._session,
            url=self._url,
            version=self._version,
            token=lambda: self._token(account),
            location_id=account.location_id,
            redaction_key=self._cipher.fingerprint_key,
            deadline=deadline,
            acquire=acquire,
            observe=observe,
        )

    def close(self) -> None:
        self._session.close()

    def _token(self, account: Account) -> str:
        if account.api_token_encrypted is None:
            raise PermanentLeadwayError(ErrorKind.TOKEN, endpoint="no API token is set", reached=False)
        try:
            return self._cipher.decrypt(account.api_token_encrypted)
        except TokenUnreadable:
            pass
        raise PermanentLeadwayError(ErrorKind.TOKEN, endpoint="the API token cannot be read", reached=False)
