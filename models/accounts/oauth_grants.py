"""OAuth grants: where an account's tokens come from if they expire, and who may renew one now.

A refresh token is used up by its use. So one process at a time holds the grant's row, by a claim that runs out: the
request goes out between two short transactions, and no other work waits for a lock meanwhile.
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table, oauth_grants_table, token_is_new
from models.accounts.token_encryption import TokenCipher
from models.database import insert, moment

YOUNG_SECONDS = 60.0
"""A token that is refused so soon after it came is not to be had by one more refresh."""


@dataclass(frozen=True)
class RefreshClaim:
    """The right to refresh, and what it takes."""

    fence: int
    client_id: str
    client_secret_encrypted: str
    refresh_token_encrypted: str


@dataclass(frozen=True)
class CurrentToken:
    """The access token as it is stored now."""

    token_encrypted: str | None
    seconds_left: float
    """Until it expires, by the database's clock; negative when it has."""
    fence: int
    """Of the grant: who holds it next must have seen this one."""


def set_grant(
    connection: Connection,
    location_id: str,
    *,
    client_id: str,
    client_secret: str,
    refresh_token: str,
    cipher: TokenCipher,
) -> None:
    """Writes a grant in place of whatever token the account has; the first request brings the first access token.

    Work that stood still because of the old token goes on at once. Raises UnknownAccount.
    """
    token_is_new(connection, location_id, api_token_encrypted=None, token_expires_at=moment(-1))
    values = {
        "client_id": client_id,
        "client_secret_encrypted": cipher.encrypt(client_secret),
        "refresh_token_encrypted": cipher.encrypt(refresh_token),
        "refreshed_at": None,
        "refreshing_until": None,
    }
    statement = insert(connection, oauth_grants_table).values(location_id=location_id, refreshing=0, **values)
    renewed = {**values, "refreshing": oauth_grants_table.c.refreshing + 1}
    connection.execute(statement.on_conflict_do_update(index_elements=["location_id"], set_=renewed))


def current_token(connection: Connection, location_id: str) -> CurrentToken:
    row = connection.execute(
        sa.select(
            accounts_table.c.api_token_encrypted, accounts_table.c.token_expires_at, oauth_grants_table.c.refreshing,
            moment().label("now"),
        )
        .join(oauth_grants_table, oauth_grants_table.c.location_id == accounts_table.c.location_id)
        .where(accounts_table.c.location_id == location_id)
    ).first()  # fmt: skip
    if row is None or row.token_expires_at is None:
        return CurrentToken(None, -1.0, -1)
    return CurrentToken(row.api_token_encrypted, (row.token_expires_at - row.now).total_seconds(), row.refreshing)


def claim_refresh(
    connection: Connection, location_id: str, *, seen: CurrentToken, seconds: float
) -> RefreshClaim | None:
    """Takes the right to refresh for so long; None: somebody has it, or had it since `seen` was read."""
    c = oauth_grants_table.c
    row = connection.execute(
        sa.update(oauth_grants_table)
        .where(
            c.location_id == location_id,
            c.refreshing == seen.fence,
            sa.or_(c.refreshing_until.is_(None), c.refreshing_until < moment()),
        )
        .values(refreshing=c.refreshing + 1, refreshing_until=moment(seconds))
        .returning(c.refreshing, c.client_id, c.client_secret_encrypted, c.refresh_token_encrypted)
    ).first()
    return None if row is None else RefreshClaim(*row)


def store_tokens(
    connection: Connection,
    location_id: str,
    held: RefreshClaim,
    *,
    access_token: str,
    refresh_token: str | None,
    seconds: float,
    cipher: TokenCipher,
) -> bool:
    """Writes both new tokens at once. False: the grant was replaced meanwhile, and nothing is written."""
    kept = held.refresh_token_encrypted if refresh_token is None else cipher.encrypt(refresh_token)
    renewed = connection.execute(_of(location_id, held).values(refresh_token_encrypted=kept, refreshed_at=moment()))
    if renewed.rowcount != 1:
        return False
    connection.execute(
        sa.update(accounts_table)
        .where(accounts_table.c.location_id == location_id)
        .values(api_token_encrypted=cipher.encrypt(access_token), token_expires_at=moment(seconds))
    )
    return True


def release_refresh(connection: Connection, location_id: str, held: RefreshClaim) -> None:
    """Nothing came of it: the next one may try."""
    connection.execute(_of(location_id, held))


def expire_token(connection: Connection, location_id: str, token_encrypted: str | None) -> bool:
    """After Leadway refused this token: True if the account has, or by one refresh will have, another one."""
    if current_token(connection, location_id).token_encrypted != token_encrypted:
        return True
    c = oauth_grants_table.c
    grant = sa.select(c.refreshed_at < moment(-YOUNG_SECONDS)).where(c.location_id == location_id)
    if not connection.execute(grant).scalar():
        return False
    connection.execute(
        sa.update(accounts_table).where(accounts_table.c.location_id == location_id).values(token_expires_at=moment(-1))
    )
    return True


def _of(location_id: str, held: RefreshClaim) -> sa.Update:
    """Ends the hold: the fence moves on, so that nobody holds next who has not seen what came of it."""
    c = oauth_grants_table.c
    mine = sa.update(oauth_grants_table).where(c.location_id == location_id, c.refreshing == held.fence)
    return mine.values(refreshing=c.refreshing + 1, refreshing_until=None)
