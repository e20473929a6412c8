"""The circuit breaker: outages in a row open it, one attempt tries again, an answer closes it."""

from typing import Any

import pytest
import sqlalchemy as sa

from models.accounts import accounts, circuit_breaker
from models.accounts.accounts import accounts_table
from models.accounts.circuit_breaker import LONGEST_OPEN_SECONDS, OUTAGES_BEFORE_OPEN, BreakerState
from models.database import Database, moment, now
from tests.support.rows import LOCATION, rows_of, seconds_until


def record_outage(database: Database, location_id: str = LOCATION, *, first_seconds: float = 5.0) -> float | None:
    with database.transaction() as connection:
        return circuit_breaker.record_outage(connection, location_id, first_seconds=first_seconds)


def record_success(database: Database) -> None:
    with database.transaction() as connection:
        circuit_breaker.record_success(connection, LOCATION)


def open_breaker(database: Database, *, seconds: float) -> None:
    with database.transaction() as connection:
        circuit_breaker.open_breaker(connection, LOCATION, seconds=seconds)


def time_passes(database: Database) -> None:
    """The breaker has been open for long enough."""
    with database.transaction() as connection:
        connection.execute(sa.update(accounts_table).values(open_until=moment(-1)))


def row(database: Database) -> dict[str, Any]:
    return next(dict(each) for each in rows_of(database, accounts_table) if each["location_id"] == LOCATION)


def state(database: Database) -> tuple[bool, bool]:
    """Whether it lets requests through, and whether it is half-open. What is shown says the same."""
    columns = (circuit_breaker.lets_requests_through(), circuit_breaker.is_half_open())
    with database.reading() as connection:
        through, half_open = connection.execute(
            sa.select(*columns).where(accounts_table.c.location_id == LOCATION)
        ).one()
        shown = circuit_breaker.state_of(accounts.get(connection, LOCATION), now(connection))
    meant = BreakerState.HALF_OPEN if half_open else BreakerState.CLOSED
    assert shown is (meant if through else BreakerState.OPEN)
    return bool(through), bool(half_open)


def test_it_is_closed_until_outages_come_in_a_row(database: Database) -> None:
    assert state(database) == (True, False)
    for _ in range(OUTAGES_BEFORE_OPEN - 1):
        assert record_outage(database) is None
    assert state(database) == (True, False)
    assert record_outage(database) == 5.0
    through, _ = state(database)
    assert not through
    assert 4 < seconds_until(database, row(database)["open_until"]) <= 5


def test_an_outage_while_it_is_half_open_opens_it_for_twice_as_long_up_to_a_limit(database: Database) -> None:
    for _ in range(OUTAGES_BEFORE_OPEN):
        record_outage(database)
    lasted = []
    for _ in range(6):
        time_passes(database)
        assert state(database) == (True, True)
        assert record_outage(database) is None, "it was opened before"
        lasted.append(seconds_until(database, row(database)["open_until"]))
    assert lasted == pytest.approx(
        [10, 20, 40, LONGEST_OPEN_SECONDS, LONGEST_OPEN_SECONDS, LONGEST_OPEN_SECONDS], abs=1
    )


def test_outages_do_not_count_while_it_is_open(database: Database) -> None:
    record_outage(database)
    record_outage(database)
    open_breaker(database, seconds=60)
    assert record_outage(database) is None
    assert row(database)["outages_in_a_row"] == 2
    assert record_outage(database, "loc-unknown") is None


def test_an_answer_closes_it(database: Database) -> None:
    record_outage(database)
    open_breaker(database, seconds=60)
    record_success(database)
    assert (row(database)["outages_in_a_row"], row(database)["open_until"]) == (0, None)
    assert state(database) == (True, False)


def test_an_answer_does_not_close_what_a_429_opened(database: Database) -> None:
    open_breaker(database, seconds=60)
    record_success(database)
    assert row(database)["open_until"] is not None


def test_it_is_opened_for_longer_but_never_for_shorter(database: Database) -> None:
    open_breaker(database, seconds=60)
    open_breaker(database, seconds=5)
    assert 50 < seconds_until(database, row(database)["open_until"]) <= 60
    open_breaker(database, seconds=90)
    assert 80 < seconds_until(database, row(database)["open_until"]) <= 90
