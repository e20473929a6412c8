"""OAuth grants: where the tokens of an account come from if they expire, and which process may refresh one now.

A refresh token can be used once. So a process claims the grant before it uses the token, for a limited time, and sends
the request between two short transactions: no other work waits for a lock meanwhile (docs/decisions/0022).
"""

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import accounts_table, oauth_grants_table, token_is_new
from models.accounts.token_encryption import TokenCipher
from models.database import insert, moment

YOUNG_SECONDS = 60.0
"""When a token that came less than this time ago is refused, another refresh would not help."""


@dataclass(frozen=True)
class RefreshClaim:
    """The right to refresh, and what the request needs."""

    fence: int
    client_id: str
    client_secret_encrypted: str
    refresh_token_encrypted: str


@dataclass(frozen=True)
class CurrentToken:
    """The access token as it is stored now."""

    token_encrypted: str | None
    seconds_left: float
    """Until the token expires, by the database's clock; negative when it has expired."""
    fence: int
    """The grant's fence: the next claim succeeds only with this one."""


def set_grant(
    connection: Connection,
    location_id: str,
    *,
    client_id: str,
    client_secret: str,
    refresh_token: str,
    cipher: TokenCipher,
) -> None:
    """Writes a grant in place of the account's token, and ends what the old token stopped. Raises UnknownAccount.

    The first request that needs an access token fetches the first one.
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
    """The access token of an account with a grant. Without a grant: no token, expired, fence -1."""
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
    """Claims the refresh for `seconds`. Returns None when another process has it, or had it since `seen` was read."""
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
    claim: RefreshClaim,
    *,
    access_token: str,
    refresh_token: str | None,
    seconds: float,
    cipher: TokenCipher,
) -> bool:
    """Writes both new tokens and ends the claim. The access token expires in `seconds`.

    Returns False when the grant was replaced since the claim: nothing is written.
    """
    kept = claim.refresh_token_encrypted if refresh_token is None else cipher.encrypt(refresh_token)
    renewed = connection.execute(
        _releasing(location_id, claim).values(refresh_token_encrypted=kept, refreshed_at=moment())
    )
    if renewed.rowcount != 1:
        return False
    connection.execute(
        sa.update(accounts_table)
        .where(accounts_table.c.location_id == location_id)
        .values(api_token_encrypted=cipher.encrypt(access_token), token_expires_at=moment(seconds))
    )
    return True


def release_refresh(connection: Connection, location_id: str, claim: RefreshClaim) -> None:
    """Ends the claim without new tokens: the next process may try."""
    connection.execute(_releasing(location_id, claim))


def expire_token(connection: Connection, location_id: str, token_encrypted: str | None) -> bool:
    """Lets a token that Leadway refused expire. Returns True if the account has another token already, or will have
    one after a refresh."""
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


def _releasing(location_id: str, claim: RefreshClaim) -> sa.Update:
    """Ends the claim and takes the next fence, so that the next claim needs a token that was read after this."""
    c = oauth_grants_table.c
    ours = sa.update(oauth_grants_table).where(c.location_id == location_id, c.refreshing == claim.fence)
    return ours.values(refreshing=c.refreshing + 1, refreshing_until=None)
