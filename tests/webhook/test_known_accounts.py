"""Who is served is known from memory; what is not there is decided by a copy that was read after the request came."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from models.accounts import accounts
from models.accounts.intake_secrets import hash_secret
from models.database import Database
from tests.support.rows import LOCATION, SECRET, add_account, write
from tests.support.waiting import eventually
from webhook import known_accounts
from webhook.known_accounts import KnownAccounts, Undecided

THREADS = 8


@pytest.fixture
def known(database: Database) -> Iterator[KnownAccounts]:
    opened = KnownAccounts(database, threads=THREADS)
    yield opened
    opened.stop()


def test_an_account_that_was_added_a_moment_ago_is_known_at_once(known: KnownAccounts, database: Database) -> None:
    assert known.is_served(LOCATION)
    assert not known.is_served("loc-two")
    add_account(database, "loc-two")
    assert known.is_served("loc-two")
    assert known.location_for_secret(hash_secret(SECRET)) == "loc-two"


def test_both_secrets_of_a_rotation_are_known(known: KnownAccounts, database: Database) -> None:
    write(database, accounts.set_secret, LOCATION, "the-first-secret-of-all")
    write(database, accounts.set_secret, LOCATION, "the-second-secret-of-all", keep_previous=True)
    known.read()
    for secret in ("the-first-secret-of-all", "the-second-secret-of-all"):
        assert known.location_for_secret(hash_secret(secret)) == LOCATION


def test_what_was_removed_is_forgotten_with_the_next_copy(known: KnownAccounts, database: Database) -> None:
    assert known.is_served(LOCATION)
    write(database, accounts.remove, LOCATION)
    known.read()
    assert not known.is_served(LOCATION)


def test_what_is_known_stays_so_while_the_database_is_away_and_nothing_else_is_decided(
    known: KnownAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert known.is_served(LOCATION)

    def away(_connection: sa.Connection) -> None:
        raise sa.exc.OperationalError("", None, Exception())

    monkeypatch.setattr(accounts, "known", away)
    monkeypatch.setattr(known_accounts, "MISS_SECONDS", 0.05)
    assert known.is_served(LOCATION)
    with pytest.raises(Undecided):
        known.is_served("loc-two")
    with pytest.raises(Undecided):
        known.location_for_secret("nobody's")


def test_whoever_guesses_secrets_holds_up_half_of_the_threads_at_most(
    known: KnownAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.read()
    may_read = threading.Event()
    read_whole = accounts.known

    def slowly(connection: sa.Connection) -> accounts.Known:
        assert may_read.wait(30)
        return read_whole(connection)

    monkeypatch.setattr(accounts, "known", slowly)
    monkeypatch.setattr(known_accounts, "MISS_SECONDS", 30)

    def guess(number: int) -> str | None:
        try:
            return known.location_for_secret(f"guess {number}")
        except Undecided:
            return "undecided"

    with ThreadPoolExecutor(THREADS) as strangers:
        guesses = [strangers.submit(guess, number) for number in range(THREADS)]
        eventually(lambda: sum(each.done() for each in guesses) == THREADS // 2)
        may_read.set()
        told = [each.result(30) for each in guesses]
    assert (told.count("undecided"), told.count(None)) == (THREADS // 2, THREADS // 2)
