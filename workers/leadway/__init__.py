"""Everything that talks to Leadway; one pooled session and one budget per process, one client per attempt.

Nothing outside of this package sends a request to Leadway or reads the JSON of its answers. Nothing here writes
calls or follow-ups.
"""

from collections.abc import Mapping

import redis

from models.accounts.accounts import Account, requests_per_10_seconds, zone_named
from models.accounts.token_encryption import TokenCipher
from models.database import Database
from models.settings import Settings
from models.work.fences import GreatestFence
from models.work.work_rows import Lane
from workers.leadway.budget import Allowance, Budget
from workers.leadway.client import LeadwayClient
from workers.leadway.credentials import Credentials
from workers.leadway.errors import ErrorKind
from workers.leadway.transport import Observer, open_session


class Leadway:
    """Leadway for this process. Opened by the entry point, after any fork."""

    def __init__(
        self,
        settings: Settings,
        *,
        cipher: TokenCipher,
        client: "redis.Redis",
        database: Database,
        worker: str,
        greatest_fence: GreatestFence,
    ) -> None:
        self._url = settings.leadway_api_url
        self._version = settings.leadway_api_version
        self._redaction_key = cipher.fingerprint_key
        self._session = open_session(pool_size=settings.worker_threads)
        self._budget = Budget(client, greatest_fence)
        self.credentials = Credentials(
            database, cipher, session=self._session, url=self._url, version=self._version, worker=worker
        )
        self._per_10_seconds = settings.leadway_requests_per_10_seconds

    def for_account(
        self, account: Account, *, lane: Lane, deadline: float, observe: Observer | None = None
    ) -> LeadwayClient:
        """A client for one attempt, until `deadline` (monotonic seconds), with the account's token and budget.

        `observe`: called after every request too, beside the budget.
        """
        under_way, allowance = False, self.allowance(account)

        def acquire() -> None:
            nonlocal under_way
            self._budget.acquire(account.location_id, allowance, lane=lane, deadline=deadline, under_way=under_way)
            under_way = True

        def heed(endpoint: str, result: int | ErrorKind, seconds: float, headers: Mapping[str, str]) -> None:
            self._budget.heed(account.location_id, allowance, headers, throttled=result == 429)
            if observe is not None:
                observe(endpoint, result, seconds, headers)

        return LeadwayClient(
            self._session,
            url=self._url,
            version=self._version,
            token=lambda: self.credentials.token(account, deadline=deadline),
            location_id=account.location_id,
            redaction_key=self._redaction_key,
            zone=zone_named(account.time_zone),
            deadline=deadline,
            acquire=acquire,
            observe=heed,
        )

    def allowance(self, account: Account) -> Allowance:
        """What Leadway allows this account: its own numbers where it has some, else those set for all accounts."""
        usual = Allowance(self._per_10_seconds)
        return Allowance(
            requests_per_10_seconds(account.requests_per_10_seconds, for_all=usual.per_10_seconds),
            account.request_burst or usual.burst,
            account.requests_per_day or usual.per_day,
        )

    def close(self) -> None:
        self._session.close()
