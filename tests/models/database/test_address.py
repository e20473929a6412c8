"""What a URL says is kept, and what it cannot mean is told in one sentence."""

from contextlib import closing

import psycopg
import pytest
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo

from models.database import COMMAND, WORKER, Database, UnusableDatabase, libpq_words

LOOK = sa.text("SELECT current_setting('search_path'), current_setting('statement_timeout')")


def told(url: str) -> tuple[str, ...]:
    with closing(Database(url, limits=WORKER)) as database, database.reading() as connection:
        name = connection.execute(sa.text("SELECT current_setting('application_name')")).scalar_one()
        return (*connection.execute(LOOK).one(), name)


def test_the_urls_own_options_hold_and_our_limits_too(postgresql_url: str) -> None:
    options = "options=-csearch_path%3Dpg_temp,public%20-c%20statement_timeout%3D99s"
    assert told(f"{postgresql_url}?{options}&application_name=mine") == ("pg_temp,public", "5s", "mine")


def test_a_blank_in_an_option_is_kept(postgresql_url: str) -> None:
    assert told(f"{postgresql_url}?options=--search-path%3Dpublic,%5C%20pg_temp")[0] == "public, pg_temp"


def test_of_several_hosts_the_one_that_answers_and_takes_writes_is_found(postgresql_url: str) -> None:
    before, _, after = postgresql_url.partition("@127.0.0.1:")
    several = f"{before}@127.0.0.1:1,127.0.0.1:{after}"
    assert told(several)[1:] == ("5s", "leadway-calls")
    assert told(f"{several}?target_session_attrs=primary&sslmode=disable")[1:] == ("5s", "leadway-calls")
    with pytest.raises(sa.exc.OperationalError):
        told(f"{several}?target_session_attrs=standby")


def test_a_connection_that_must_be_encrypted_is_not_made_in_the_clear(postgresql_url: str) -> None:
    with pytest.raises(sa.exc.OperationalError, match="SSL was required"):
        told(f"{postgresql_url}?sslmode=require")


def test_libpqs_own_programs_get_the_same_words(postgresql_url: str) -> None:
    before, _, after = postgresql_url.partition("@127.0.0.1:")
    url = f"{before}@127.0.0.1:1,127.0.0.1:{after}?pgbouncer=true&options=-csearch_path%3Dpg_temp&application_name=me"
    with closing(Database(url, limits=COMMAND)) as database:
        conninfo = make_conninfo(**libpq_words(database.address))
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SHOW search_path").fetchone() == ("pg_temp",)
        assert connection.execute("SHOW application_name").fetchone() == ("me",)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://u:secret@h/d?schema=x", "(schema): take them out; a schema is named by options=-csearch_path"),
        ("postgresql://u:secret@h/d?foo=1&connection_limit=5", "(connection_limit, foo): take them out"),
        ("postgresql://u:secret@h/d?pgbouncer=perhaps", "pgbouncer is true or false"),
        ("postgresql://u:secret@h/d?options=search_path", "options cannot be read"),
        ("postgresql://u:secret@h:port/d", "DATABASE_URL cannot be used: write sqlite:"),
        ("mysql://u:secret@h/d", "DATABASE_URL cannot be used: write sqlite:"),
        ("secret", "DATABASE_URL cannot be used: write sqlite:"),
    ],
)
def test_a_url_that_cannot_be_meant_is_one_sentence_that_never_shows_it(url: str, sentence: str) -> None:
    with pytest.raises(UnusableDatabase) as raised:
        Database(url, limits=COMMAND)
    assert sentence in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "\n" not in str(raised.value)
