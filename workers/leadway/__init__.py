"""Leadway as a whole: one pooled session and one budget per process, from which every attempt gets its client."""

from collections.abc import Mapping

import redis

from models.accounts.accounts import Account
from models.accounts.token_encryption import TokenCipher
from models.database import Database
from models.settings import Settings
from models.work.work_rows import Lane
from workers.leadway.budget import Allowance, Budget
from workers.leadway.client import LeadwayClient, Observer, open_session
from workers.leadway.credentials import Credentials
from workers.leadway.errors import ErrorKind
from workers.telemetry import metrics


class Leadway:
    def __init__(self, settings: Settings, *, cipher: TokenCipher, client: "redis.Redis", database: Database) -> None:
        self._url = settings.leadway_api_url
        self._version = settings.leadway_api_version
        self._redaction_key = cipher.fingerprint_key
        self._session = open_session(pool_size=settings.worker_threads)
        self._budget = Budget(client)
        self._credentials = Credentials(database, cipher, session=self._session, url=self._url, version=self._version)
        self._per_10_seconds = settings.leadway_requests_per_10_seconds

    def for_account(
        self, account: Account, *, lane: Lane, deadline: float, also: Observer | None = None
    ) -> LeadwayClient:
        """A client for one attempt, until `deadline` (monotonic seconds): that account's token, budget and metrics.

        `also` is told of every request as well.
        """
        asked, allowance = False, self.allowance(account)

        def acquire(_endpoint: str, /) -> None:
            nonlocal asked
            self._budget.acquire(account.location_id, allowance, lane=lane, deadline=deadline, under_way=asked)
            asked = True

        def observe(endpoint: str, answer: int | ErrorKind, seconds: float, headers: Mapping[str, str]) -> None:
            metrics.API_REQUESTS.labels(endpoint, str(answer)).inc()
            metrics.API_SECONDS.labels(endpoint).observe(seconds)
            self._budget.heed(account.location_id, allowance, headers, throttled=answer == 429)
            if also is not None:
                also(endpoint, answer, seconds, headers)

        return LeadwayClient(
            self._session,
            url=self._url,
            version=self._version,
            token=lambda: self._credentials.token(account, deadline=deadline),
            location_id=account.location_id,
            redaction_key=self._redaction_key,
            deadline=deadline,
            acquire=acquire,
            observe=observe,
        )

    def allowance(self, account: Account) -> Allowance:
        """The account's own numbers, else those set for all."""
        usual = Allowance(self._per_10_seconds)
        return Allowance(
            account.requests_per_10_seconds or usual.per_10_seconds,
            account.request_burst or usual.burst,
            account.requests_per_day or usual.per_day,
        )

    def close(self) -> None:
        self._session.close()
