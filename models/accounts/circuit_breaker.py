"""The circuit breaker of an account: after outages in a row, or a 429, no request is sent for a while.

- Closed: requests are sent. `open_until` is null or past, and fewer than OUTAGES_BEFORE_OPEN outages came in a row.
- Open: `open_until` is in the future. Nothing is dispatched for the account.
- Half-open: `open_until` is past after that many outages. One attempt goes ahead: a success closes the breaker, another
  outage opens it for twice as long.
"""

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import Account, accounts_table
from models.database import moment

OUTAGES_BEFORE_OPEN = 5
LONGEST_OPEN_SECONDS = 60.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


def state_of(account: Account, at: datetime) -> BreakerState:
    """The state of the account's breaker, to be shown. `at`: the time by the database's clock."""
    if account.open_until is not None and account.open_until > at:
        return BreakerState.OPEN
    return BreakerState.HALF_OPEN if account.outages_in_a_row >= OUTAGES_BEFORE_OPEN else BreakerState.CLOSED


_open_until = accounts_table.c.open_until
_outages = accounts_table.c.outages_in_a_row


def lets_requests_through() -> sa.ColumnElement[bool]:
    """Whether the breaker of a row of `accounts` is closed or half-open, by the database's clock."""
    return sa.or_(_open_until.is_(None), _open_until <= moment())


def is_half_open() -> sa.ColumnElement[bool]:
    """Of a row of `accounts` whose breaker lets requests through: whether only one attempt may go ahead."""
    return _outages >= OUTAGES_BEFORE_OPEN


def open_breaker(connection: Connection, location_id: str, *, seconds: float) -> None:
    """Opens the breaker for `seconds`. One that is open for longer stays so."""
    until = moment(seconds)
    earlier = sa.or_(_open_until.is_(None), _open_until < until)
    connection.execute(
        sa.update(accounts_table).where(accounts_table.c.location_id == location_id, earlier).values(open_until=until)
    )


def record_outage(connection: Connection, location_id: str, *, first_seconds: float) -> float | None:
    """Counts an outage; from OUTAGES_BEFORE_OPEN in a row on opens the breaker, at first for `first_seconds`.

    Returns those seconds when this outage opened a closed breaker, else None. An outage while the breaker is open does
    not count: its request was sent before, and its failure says nothing new.
    """
    counted = connection.execute(
        sa.update(accounts_table)
        .where(accounts_table.c.location_id == location_id, lets_requests_through())
        .values(outages_in_a_row=_outages + 1, outages_since=sa.func.coalesce(accounts_table.c.outages_since, moment()))
        .returning(_outages)
    ).scalar_one_or_none()
    if counted is None or counted < OUTAGES_BEFORE_OPEN:
        return None
    reopened = counted - OUTAGES_BEFORE_OPEN
    seconds = min(LONGEST_OPEN_SECONDS, first_seconds * 2.0 ** min(reopened, 10))
    open_breaker(connection, location_id, seconds=seconds)
    return None if reopened else seconds


def record_success(connection: Connection, location_id: str) -> None:
    """An answer came: closes the breaker if there was an outage."""
    connection.execute(
        sa.update(accounts_table)
        .where(accounts_table.c.location_id == location_id, _outages > 0)
        .values(outages_in_a_row=0, outages_since=None, open_until=None)
    )
