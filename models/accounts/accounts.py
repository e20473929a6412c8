"""The accounts, Leadway locations that we serve: credentials, language, time zone, and how far each is complete."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.intake_secrets import hash_secret
from models.accounts.pauses import PauseCause, resume
from models.accounts.token_encryption import TokenCipher
from models.database import UtcDateTime, columns_of, insert, metadata, moment
from models.settings import Settings

accounts_table = sa.Table(
    "accounts",
    metadata,
    sa.Column("location_id", sa.Text, primary_key=True, comment="Leadway's id of the location"),
    sa.Column("name", sa.Text, nullable=False, default=""),
    sa.Column("language", sa.Text, nullable=False, default="en", comment="of the notes: en or es"),
    sa.Column("time_zone", sa.Text, nullable=False, default="UTC", comment="IANA name, for times in notes"),
    sa.Column("api_token_encrypted", sa.Text, nullable=True),
    sa.Column("token_expires_at", UtcDateTime, nullable=True, comment="null: a static token, which never does"),
    sa.Column("requests_per_10_seconds", sa.Integer, nullable=True, comment="allowed by Leadway; null: as set for all"),
    sa.Column("request_burst", sa.Integer, nullable=True, comment="requests at once after a pause; null: 1"),
    sa.Column("requests_per_day", sa.Integer, nullable=True, comment="allowed by Leadway; null: 200,000"),
    sa.Column("intake_secret_hash", sa.Text, nullable=True, unique=True, comment="SHA-256, hexadecimal"),
    sa.Column("previous_intake_secret_hash", sa.Text, nullable=True, unique=True, comment="valid until the next one"),
    sa.Column("follow_up_age_hours", sa.Integer, nullable=False, default=72, comment="older calls get no follow-ups"),
    sa.Column(
        "open_until", UtcDateTime, nullable=True, comment="circuit breaker: no request is sent until then; null: closed"
    ),
    sa.Column("outages_in_a_row", sa.Integer, nullable=False, default=0, comment="without a success between"),
    sa.Column("outages_since", UtcDateTime, nullable=True, comment="when the first of them came; null: there is none"),
    sa.Column("added_at", UtcDateTime, nullable=False),
    sa.Column("removed_at", UtcDateTime, nullable=True, comment="its notifications are ignored, its calls kept"),
    sa.Column("complete_from", UtcDateTime, nullable=True, comment="every call Leadway lists from here …"),
    sa.Column("complete_until", UtcDateTime, nullable=True, comment="… to here (the watermark) has its row in calls"),
    sa.Column("next_reconcile_at", UtcDateTime, nullable=True, comment="null: at once"),
    sa.Column("next_relist_at", UtcDateTime, nullable=True, comment="of the last days, once a day; null: at once"),
    sa.Column("webhook_alarm", sa.Text, nullable=True, comment="why calls come unannounced, most likely; null: none"),
    sa.Column("webhook_alarm_at", UtcDateTime, nullable=True, comment="since when"),
    sa.Column(
        "references_lost_at",
        UtcDateTime,
        nullable=True,
        comment="when Leadway last returned a note without our reference line; null: it keeps them",
    ),
)

oauth_grants_table = sa.Table(
    "oauth_grants",
    metadata,
    sa.Column("location_id", sa.Text, sa.ForeignKey("accounts.location_id", ondelete="CASCADE"), primary_key=True),
    sa.Column("client_id", sa.Text, nullable=False),
    sa.Column("client_secret_encrypted", sa.Text, nullable=False),
    sa.Column("refresh_token_encrypted", sa.Text, nullable=False, comment="each use brings the next one"),
    sa.Column("refreshed_at", UtcDateTime, nullable=True, comment="when it last brought an access token"),
    comment="where an account's tokens come from, if they expire",
)

CAUSED_BY_TOKEN = (PauseCause.TOKEN, PauseCause.LOCATION, PauseCause.SCOPE, PauseCause.VERSION)
"""The pauses that a new token ends."""


class UnknownAccount(Exception):
    """No account has this location id."""


class SecretTaken(Exception):
    """Another account has this intake secret: with the same secret twice, a notification's account would be unknown."""


@dataclass(frozen=True)
class Account:
    """A row of `accounts`, without its secrets but for the encrypted token."""

    location_id: str
    name: str
    language: str
    time_zone: str
    api_token_encrypted: str | None
    token_expires_at: datetime | None
    """None: the token is a static one. Else it comes from the account's OAuth grant."""
    requests_per_10_seconds: int | None
    request_burst: int | None
    requests_per_day: int | None
    follow_up_age_hours: int
    open_until: datetime | None
    outages_in_a_row: int
    outages_since: datetime | None
    added_at: datetime
    removed_at: datetime | None
    complete_from: datetime | None
    complete_until: datetime | None
    references_lost_at: datetime | None


ForAll = TypeVar("ForAll", int, int | None)


def requests_per_10_seconds(own: int | None, *, for_all: ForAll) -> int | ForAll:
    """The pace of an account: its own number of requests in 10 s, else `for_all`, the number set for all accounts."""
    return own or for_all


_SELECT = sa.select(*columns_of(accounts_table, Account))


def get(connection: Connection, location_id: str) -> Account:
    """The account, removed or not: the calls of a removed one are kept. Raises UnknownAccount."""
    row = connection.execute(_GET, {"this_location": location_id}).first()
    if row is None:
        raise UnknownAccount(f"no account {location_id!r}: add it with `leadway-calls accounts add {location_id}`")
    return Account(*row)


_GET = _SELECT.where(accounts_table.c.location_id == sa.bindparam("this_location"))


def zone_named(name: str) -> ZoneInfo:
    """The zone of an account's time zone; UTC for a name that this host does not know."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def served(connection: Connection, *conditions: sa.ColumnElement[bool]) -> list[Account]:
    """The accounts that are not removed, and for which these conditions hold, by location id."""
    rows = connection.execute(
        _SELECT.where(accounts_table.c.removed_at.is_(None), *conditions).order_by(accounts_table.c.location_id)
    )
    return [Account(*row) for row in rows]


def is_any_served(connection: Connection) -> bool:
    return connection.execute(_ANY_SERVED).first() is not None


_ANY_SERVED = sa.select(sa.literal(1)).where(accounts_table.c.removed_at.is_(None)).limit(1)


def is_served(connection: Connection, location_id: str) -> bool:
    return bool(served_among(connection, [location_id]))


def served_among(connection: Connection, location_ids: Collection[str]) -> set[str]:
    """Those of these location ids whose account is served."""
    return set(connection.execute(_SERVED_AMONG, {"these": list(location_ids)}).scalars())


_SERVED_AMONG = sa.select(accounts_table.c.location_id).where(
    accounts_table.c.location_id.in_(sa.bindparam("these", expanding=True)), accounts_table.c.removed_at.is_(None)
)


def has_intake_secrets(connection: Connection, location_id: str) -> tuple[bool, bool]:
    """Whether the account has an intake secret, and whether its previous one is still valid."""
    row = connection.execute(sa.select(accounts_table).where(accounts_table.c.location_id == location_id)).first()
    return (False, False) if row is None else (bool(row.intake_secret_hash), bool(row.previous_intake_secret_hash))


@dataclass(frozen=True)
class Known:
    """Which locations are served, and whose each intake secret is, by its hash: current and previous ones."""

    served: frozenset[str]
    by_secret: Mapping[str, str]


def known(connection: Connection) -> Known:
    rows = connection.execute(_KNOWN).all()
    return Known(
        served=frozenset(row.location_id for row in rows),
        by_secret={hashed: row.location_id for row in rows for hashed in row[1:] if hashed is not None},
    )


_KNOWN = sa.select(
    accounts_table.c.location_id, accounts_table.c.intake_secret_hash, accounts_table.c.previous_intake_secret_hash
).where(accounts_table.c.removed_at.is_(None))


def location_for_secret(connection: Connection, secret_hash: str) -> str | None:
    """The account whose current or previous intake secret this is, by the hash of `hash_secret`; None: no account's."""
    by_secret = sa.select(accounts_table.c.location_id).where(
        sa.or_(
            accounts_table.c.intake_secret_hash == secret_hash,
            accounts_table.c.previous_intake_secret_hash == secret_hash,
        ),
        accounts_table.c.removed_at.is_(None),
    )
    row = connection.execute(by_secret).first()
    return None if row is None else str(row.location_id)


def with_intake_secret(connection: Connection) -> set[str]:
    """The location ids of accounts with an intake secret: unsigned notifications can be authenticated for them."""
    return set(
        connection.execute(
            sa.select(accounts_table.c.location_id).where(accounts_table.c.intake_secret_hash.is_not(None))
        ).scalars()
    )


def add(connection: Connection, location_id: str, **values: Any) -> None:
    """Adds an account, or serves a removed one again. Values are columns; a column that is left out keeps its value."""
    statement = insert(connection, accounts_table).values(
        location_id=location_id, added_at=moment(), complete_from=moment(), complete_until=moment(), **values
    )
    connection.execute(
        statement.on_conflict_do_update(index_elements=["location_id"], set_={**values, "removed_at": None})
    )


def list_soon(connection: Connection) -> None:
    """Makes the regular and the daily listing of every account due."""
    connection.execute(sa.update(accounts_table).values(next_reconcile_at=moment()))
    relisted = sa.update(accounts_table).where(accounts_table.c.next_relist_at.is_not(None))
    connection.execute(relisted.values(next_relist_at=moment()))


def tell_references(connection: Connection, location_id: str, *, kept: bool) -> None:
    """Writes whether Leadway keeps our reference lines, as the last note that it returned shows."""
    _update(connection, location_id, references_lost_at=None if kept else moment())


def set_token(connection: Connection, location_id: str, token: str, *, cipher: TokenCipher) -> None:
    """Writes a new static API token, deletes an OAuth grant, and ends what the old token stopped. Raises
    UnknownAccount."""
    token_is_new(connection, location_id, api_token_encrypted=cipher.encrypt(token), token_expires_at=None)
    connection.execute(sa.delete(oauth_grants_table).where(oauth_grants_table.c.location_id == location_id))


def token_is_new(connection: Connection, location_id: str, **values: Any) -> None:
    """Writes columns of a new token, closes the circuit breaker, and ends the pauses that the old token caused.

    Raises UnknownAccount.
    """
    _update(connection, location_id, **values, open_until=None, outages_in_a_row=0, outages_since=None)
    resume(connection, location_id, causes=CAUSED_BY_TOKEN)


def set_budget(connection: Connection, location_id: str, **values: int | None) -> None:
    """Writes the columns requests_per_10_seconds, request_burst and requests_per_day; None sets the default.

    Raises UnknownAccount.
    """
    _update(connection, location_id, **values)


def set_secret(connection: Connection, location_id: str, secret: str, *, keep_previous: bool = True) -> None:
    """Writes a new intake secret. With `keep_previous` the one before stays valid until the next rotation.

    Raises UnknownAccount, SecretTaken.
    """
    hashed = hash_secret(secret)
    owner = location_for_secret(connection, hashed)
    if owner not in (None, location_id):
        raise SecretTaken("another account has this intake secret already; choose another one")
    current = accounts_table.c.intake_secret_hash
    previous = sa.case((current == hashed, accounts_table.c.previous_intake_secret_hash), else_=current)
    _update(
        connection,
        location_id,
        intake_secret_hash=hashed,
        previous_intake_secret_hash=previous if keep_previous else None,
    )


def remove(connection: Connection, location_id: str) -> None:
    """Stops serving an account and deletes its credentials. Its calls are kept. Raises UnknownAccount."""
    _update(
        connection,
        location_id,
        removed_at=moment(),
        api_token_encrypted=None,
        token_expires_at=None,
        intake_secret_hash=None,
        previous_intake_secret_hash=None,
    )
    connection.execute(sa.delete(oauth_grants_table).where(oauth_grants_table.c.location_id == location_id))
    resume(connection, location_id, causes=CAUSED_BY_TOKEN)


def extend_completeness(connection: Connection, location_id: str, *, since: datetime, until: datetime) -> None:
    """Records that every call which Leadway lists between these two times has its row.

    Extends the complete span in both directions, its end being the watermark, if the two spans touch.
    """
    c = accounts_table.c
    reaches_back = c.complete_from.is_(None) | ((c.complete_from > since) & (c.complete_from <= until))
    reaches_on = c.complete_until.is_(None) | ((c.complete_until >= since) & (c.complete_until < until))
    connection.execute(
        sa.update(accounts_table)
        .where(c.location_id == location_id)
        .values(
            complete_from=sa.case((reaches_back, sa.literal(since, UtcDateTime)), else_=c.complete_from),
            complete_until=sa.case((reaches_on, sa.literal(until, UtcDateTime)), else_=c.complete_until),
        )
    )


def upsert_from_settings(connection: Connection, settings: Settings, *, cipher: TokenCipher) -> None:
    """Adds the environment's account, or makes it what the environment says. What is not set there stays.

    Every process calls this at its start. Writes only what differs, so that a restart resumes and rotates nothing.
    Raises SecretTaken.
    """
    location_id = settings.leadway_location_id
    if location_id is None:
        return
    wanted = {"language": settings.leadway_language, "time_zone": settings.leadway_time_zone, "removed_at": None}
    chosen = {name for name in settings.chosen if name in ("leadway_language", "leadway_time_zone")}
    row = connection.execute(sa.select(accounts_table).where(accounts_table.c.location_id == location_id)).first()
    if row is None:
        add(connection, location_id, language=settings.leadway_language, time_zone=settings.leadway_time_zone)
    else:
        differing = {
            name: value
            for name, value in wanted.items()
            if getattr(row, name) != value and (name == "removed_at" or f"leadway_{name}" in chosen)
        }
        if differing:
            _update(connection, location_id, **differing)
    token = settings.leadway_api_token
    stored = None if row is None else row.api_token_encrypted
    if token is not None and not _is_same_token(stored, token.get_secret_value(), cipher):
        set_token(connection, location_id, token.get_secret_value(), cipher=cipher)
    secret = settings.leadway_intake_secret
    if secret is not None and (row is None or row.intake_secret_hash != hash_secret(secret.get_secret_value())):
        set_secret(connection, location_id, secret.get_secret_value())


def _is_same_token(encrypted: str | None, token: str, cipher: TokenCipher) -> bool:
    return encrypted is not None and cipher.opens_to(encrypted, token)


def _update(connection: Connection, location_id: str, **values: Any) -> None:
    updated = connection.execute(
        sa.update(accounts_table).where(accounts_table.c.location_id == location_id).values(**values)
    )
    if updated.rowcount != 1:
        raise UnknownAccount(f"no account {location_id!r}: add it with `leadway-calls accounts add {location_id}`")
