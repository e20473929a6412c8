"""The accounts as this process knows them: a row is kept for a second, because each attempt asks for it."""

import time

from models.accounts import accounts
from models.accounts.accounts import Account
from models.database import Database

ACCOUNT_KEPT_SECONDS = 1.0


class KeptAccounts:
    """Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[str, tuple[float, Account]] = {}
        """Each with the monotonic time from which on it is read anew."""

    def get(self, location_id: str) -> Account:
        """As `accounts.get`, at most ACCOUNT_KEPT_SECONDS ago. Raises UnknownAccount and SQLAlchemyError."""
        read_at = time.monotonic()
        until, account = self._kept.get(location_id, (0.0, None))
        if account is None or until <= read_at:
            with self._database.reading() as connection:
                account = accounts.get(connection, location_id)
            if account.token_expires_at is None:  # else its token may be another one at any moment
                self._kept[location_id] = (read_at + ACCOUNT_KEPT_SECONDS, account)
        return account

    def forget(self, location_id: str) -> None:
        """The next attempt reads it anew: because Leadway refused something, which may be the account's fault."""
        self._kept.pop(location_id, None)
