"""OAuth grants: where the tokens of an account come from if they expire.

A refresh token can be used once, so refreshing is work: a process claims it before it uses the token, and sends the
request between two short transactions (docs/decisions/0022).
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
class Grant:
    """What the request for new tokens needs."""

    client_id: str
    client_secret_encrypted: str
    refresh_token_encrypted: str


@dataclass(frozen=True)
class CurrentToken:
    """The access token as it is stored now."""

    token_encrypted: str | None
    seconds_left: float
    """Until the token expires, by the database's clock; negative when it has expired."""


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
    }
    statement = insert(connection, oauth_grants_table).values(location_id=location_id, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["location_id"], set_=values))


def current_token(connection: Connection, location_id: str) -> CurrentToken:
    """The access token of an account with a grant. Without a grant: no token, expired."""
    row = connection.execute(
        sa.select(
            accounts_table.c.api_token_encrypted, accounts_table.c.token_expires_at, moment().label("now"),
        )
        .join(oauth_grants_table, oauth_grants_table.c.location_id == accounts_table.c.location_id)
        .where(accounts_table.c.location_id == location_id)
    ).first()  # fmt: skip
    if row is None or row.token_expires_at is None:
        return CurrentToken(None, -1.0)
    return CurrentToken(row.api_token_encrypted, (row.token_expires_at - row.now).total_seconds())


def get_grant(connection: Connection, location_id: str) -> Grant | None:
    """The account's grant; None: its token is a static one."""
    c = oauth_grants_table.c
    row = connection.execute(
        sa.select(c.client_id, c.client_secret_encrypted, c.refresh_token_encrypted).where(c.location_id == location_id)
    ).first()
    return None if row is None else Grant(*row)


def store_tokens(
    connection: Connection,
    location_id: str,
    used: Grant,
    *,
    access_token: str,
    refresh_token: str | None,
    seconds: float,
    cipher: TokenCipher,
) -> bool:
    """Writes both new tokens, for the holder of the claim. The access token expires in `seconds`.

    Returns False when the grant that was used has been replaced since: nothing is written.
    """
    kept = used.refresh_token_encrypted if refresh_token is None else cipher.encrypt(refresh_token)
    c = oauth_grants_table.c
    renewed = connection.execute(
        sa.update(oauth_grants_table)
        .where(c.location_id == location_id, c.refresh_token_encrypted == used.refresh_token_encrypted)
        .values(refresh_token_encrypted=kept, refreshed_at=moment())
    )
    if renewed.rowcount != 1:
        return False
    connection.execute(
        sa.update(accounts_table)
        .where(accounts_table.c.location_id == location_id)
        .values(api_token_encrypted=cipher.encrypt(access_token), token_expires_at=moment(seconds))
    )
    return True


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
