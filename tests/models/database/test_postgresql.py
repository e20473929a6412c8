"""What holds on a connection to PostgreSQL, and when one is left for another; through real poolers and standbys in
tests/environments."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from models.database import RECEIPTS, WORKER, Database, KeptConnection, libpq_words
from tests.support.waiting import meanwhile

LOOK = sa.text("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
SESSION = sa.text("SELECT pg_backend_pid()")


@pytest.fixture
def pooled(postgresql_url: str) -> Iterator[Database]:
    with closing(Database(f"{postgresql_url}?pgbouncer=true&options=-csearch_path%3Dpublic", limits=WORKER)) as opened:
        yield opened


def test_behind_a_pooler_limits_hold_in_a_transaction_and_leave_nothing_in_the_session(pooled: Database) -> None:
    with pooled.reading() as connection:
        assert tuple(connection.execute(LOOK).one()) == ("5s", "3s")
        assert connection.execute(sa.text("SHOW search_path")).scalar_one() == "public"
    assert pooled.transact(lambda connection: tuple(connection.execute(LOOK).one())) == ("5s", "3s")
    with pooled.engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert driver is not None
        left = driver.execute(str(LOOK)).fetchone()
    assert left == ("0", "0")


def test_behind_a_pooler_nothing_is_prepared_on_the_server(pooled: Database) -> None:
    for _ in range(12):
        pooled.transact(lambda connection: connection.execute(sa.select(sa.literal(1))).one())
    with pooled.reading() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM pg_prepared_statements")).scalar_one() == 0


def test_behind_a_pooler_what_raises_while_reading_leaves_the_connection_usable(pooled: Database) -> None:
    for _ in range(2):
        with pytest.raises(sa.exc.DBAPIError), pooled.reading() as connection:
            connection.execute(sa.text("SELECT 1/0"))
    with pooled.reading() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1


def test_a_transaction_on_a_server_that_became_read_only_is_repeated_on_a_new_connection(postgresql_url: str) -> None:
    sessions: list[int] = []

    def write(connection: sa.Connection) -> None:
        sessions.append(connection.execute(SESSION).scalar_one())
        connection.execute(sa.text("UPDATE accounts SET name = name"))

    with closing(Database(postgresql_url, limits=WORKER)) as database:
        database.transact(lambda connection: connection.execute(_READ_ONLY_FROM_NOW_ON))
        database.transact(write)
    assert len(set(sessions)) == 2


def test_so_is_what_a_kept_connection_writes(postgresql_url: str) -> None:
    kept = KeptConnection(Database(postgresql_url, limits=RECEIPTS))
    before = kept.run(lambda connection: connection.execute(SESSION).scalar_one())
    kept.run(lambda connection: connection.execute(_READ_ONLY_FROM_NOW_ON))
    kept.run(lambda connection: connection.execute(sa.text("UPDATE accounts SET name = name")))
    assert kept.run(lambda connection: connection.execute(SESSION).scalar_one()) != before
    kept.close()


_READ_ONLY_FROM_NOW_ON = sa.text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")


def test_who_finds_no_free_connection_waits_for_one(postgresql_url: str) -> None:
    owner = make_conninfo(**libpq_words(sa.make_url(postgresql_url)))
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute("CREATE ROLE only_one LOGIN PASSWORD 'word' CONNECTION LIMIT 1")
    theirs = sa.make_url(postgresql_url).set(username="only_one", password="word")
    url = theirs.render_as_string(hide_password=False)
    try:
        first = psycopg.connect(url)
        with (
            closing(Database(url, limits=WORKER)) as database,
            meanwhile(lambda: give_back(first)),
            database.reading() as connection,
        ):
            assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
    finally:
        with psycopg.connect(owner, autocommit=True) as connection:
            connection.execute("DROP ROLE only_one")


def give_back(held: "psycopg.Connection[Any]") -> None:
    """A moment later: nothing tells from outside that the other one has been refused once."""
    threading.Event().wait(0.5)
    held.close()
