"""Accounts: credentials that rotate without a gap and are never readable, and the environment's own account."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from models.accounts import accounts, circuit_breaker, pauses
from models.accounts.accounts import SecretTaken, UnknownAccount
from models.accounts.intake_secrets import hash_secret, new_secret
from models.accounts.pauses import PauseCause
from models.accounts.token_encryption import TokenCipher
from models.database import Database
from models.settings import read_settings
from tests.support.rows import LOCATION, read, rows_of, write
from tests.support.waiting import at_once

CIPHER = TokenCipher([Fernet.generate_key().decode()])
TOKEN = "pit-0f1e2d3c-a-token-that-nobody-may-read"


def in_transaction(database: Database, what: Any, *given: Any, **named: Any) -> Any:
    return write(database, what, *given, **named)


def location_for(database: Database, secret: str) -> str | None:
    return read(database, accounts.location_for_secret, hash_secret(secret))


def row(database: Database, location_id: str = LOCATION) -> dict[str, Any]:
    return next(dict(each) for each in rows_of(database, accounts.accounts_table) if each["location_id"] == location_id)


def upsert(database: Database, **values: str | None) -> None:
    at_home = {"leadway_api_url": "http://127.0.0.1:9"}  # where secrets may be short
    settings = read_settings(
        {name: text or "" for name, text in {"leadway_location_id": LOCATION, **at_home, **values}.items()}
    )
    in_transaction(database, accounts.upsert_from_settings, settings, cipher=CIPHER)


def test_a_new_account_has_sensible_values_and_is_complete_from_its_beginning(database: Database) -> None:
    with database.reading() as connection:
        account = accounts.get(connection, LOCATION)
        assert accounts.is_served(connection, LOCATION)
        assert [each.location_id for each in accounts.served(connection)] == [LOCATION]
    assert (account.language, account.time_zone, account.follow_up_age_hours) == ("en", "UTC", 72)
    assert account.complete_from == account.complete_until == account.added_at
    assert (account.outages_in_a_row, account.open_until, account.removed_at) == (0, None, None)


def test_an_unknown_account_is_said_to_be_unknown(database: Database) -> None:
    with database.reading() as connection:
        assert not accounts.is_served(connection, "unknown")
        with pytest.raises(UnknownAccount, match="leadway-calls accounts add unknown"):
            accounts.get(connection, "unknown")
    for what, given in (
        (accounts.set_token, {"token": TOKEN, "cipher": CIPHER}),
        (accounts.set_secret, {"secret": "secret"}),
        (accounts.remove, {}),
    ):
        with pytest.raises(UnknownAccount):
            in_transaction(database, what, "unknown", **given)


def test_two_secrets_are_valid_while_one_is_rotated(database: Database) -> None:
    first, second, third = new_secret(), new_secret(), new_secret()
    in_transaction(database, accounts.set_secret, LOCATION, first)
    in_transaction(database, accounts.set_secret, LOCATION, second)
    assert [location_for(database, each) for each in (first, second)] == [LOCATION, LOCATION]
    in_transaction(database, accounts.set_secret, LOCATION, second)
    assert location_for(database, first) == LOCATION, "the same one again rotates nothing"
    in_transaction(database, accounts.set_secret, LOCATION, third)
    assert [location_for(database, each) for each in (first, second, third)] == [None, LOCATION, LOCATION]
    in_transaction(database, accounts.set_secret, LOCATION, third, keep_previous=False)
    assert [location_for(database, each) for each in (second, third)] == [None, LOCATION]


def test_a_rotation_can_be_taken_back(database: Database) -> None:
    for secret in ("first", "second", "first"):
        in_transaction(database, accounts.set_secret, LOCATION, secret)
    assert [location_for(database, each) for each in ("first", "second")] == [LOCATION, LOCATION]
    assert row(database)["intake_secret_hash"] == hash_secret("first")


def test_a_secret_that_another_account_has_or_had_until_now_is_refused(database: Database) -> None:
    in_transaction(database, accounts.add, "loc-two")
    in_transaction(database, accounts.set_secret, LOCATION, "previous")
    in_transaction(database, accounts.set_secret, LOCATION, "present")
    for taken in ("previous", "present"):
        with pytest.raises(SecretTaken):
            in_transaction(database, accounts.set_secret, "loc-two", taken)
    assert row(database, "loc-two")["intake_secret_hash"] is None


def test_a_removed_account_is_not_served_has_no_credentials_and_keeps_what_it_was(database: Database) -> None:
    in_transaction(database, accounts.set_token, LOCATION, TOKEN, cipher=CIPHER)
    for secret in ("previous", "present"):
        in_transaction(database, accounts.set_secret, LOCATION, secret)
    in_transaction(database, pauses.pause, LOCATION, cause=PauseCause.TOKEN, detail="…")
    in_transaction(database, pauses.pause, LOCATION, cause=PauseCause.PERSON, detail="…")
    before = row(database)
    in_transaction(database, accounts.remove, LOCATION)
    with database.reading() as connection:
        assert not accounts.is_served(connection, LOCATION)
        assert accounts.served(connection) == []
        assert accounts.get(connection, LOCATION).removed_at is not None
        assert [each.cause for each in pauses.of_account(connection, LOCATION)] == [PauseCause.PERSON]
    assert [location_for(database, each) for each in ("previous", "present")] == [None, None]
    assert row(database)["api_token_encrypted"] is None
    in_transaction(database, accounts.add, LOCATION, language="es")
    after = row(database)
    assert (after["removed_at"], after["language"]) == (None, "es")
    for name in ("added_at", "complete_from", "complete_until"):
        assert after[name] == before[name], "what came meanwhile is found by the next comparison"


def test_the_secret_of_a_removed_account_is_free_for_another(database: Database) -> None:
    in_transaction(database, accounts.set_secret, LOCATION, "a-long-secret-here")
    in_transaction(database, accounts.remove, LOCATION)
    in_transaction(database, accounts.add, "loc-two")
    in_transaction(database, accounts.set_secret, "loc-two", "a-long-secret-here")
    assert location_for(database, "a-long-secret-here") == "loc-two"


def test_a_new_token_ends_every_pause_and_rest_that_the_old_one_caused(database: Database) -> None:
    for cause in PauseCause:
        in_transaction(database, pauses.pause, LOCATION, cause=cause, detail="…")
    in_transaction(database, circuit_breaker.record_outage, LOCATION, first_seconds=5)
    in_transaction(database, circuit_breaker.open_breaker, LOCATION, seconds=60)
    in_transaction(database, accounts.set_token, LOCATION, TOKEN, cipher=CIPHER)
    with database.reading() as connection:
        assert [each.cause for each in pauses.of_account(connection, LOCATION)] == [PauseCause.PERSON]
    assert (row(database)["open_until"], row(database)["outages_in_a_row"]) == (None, 0)


def test_neither_token_nor_secret_is_readable_in_the_database_file(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    in_transaction(database, accounts.add, LOCATION)
    in_transaction(database, accounts.set_token, LOCATION, TOKEN, cipher=CIPHER)
    in_transaction(database, accounts.set_secret, LOCATION, "a-secret-that-nobody-may-read")
    files = list(Path(sqlite_url.removeprefix("sqlite:///")).parent.iterdir())
    written = b"".join(file.read_bytes() for file in files)
    assert LOCATION.encode() in written
    assert TOKEN.encode() not in written
    assert b"that-nobody-may-read" not in written
    assert CIPHER.decrypt(row(database)["api_token_encrypted"]) == TOKEN
    database.close()


def test_the_account_of_the_environment_is_made_at_the_first_start(database: Database) -> None:
    upsert(
        database, leadway_location_id="loc-env", leadway_api_token=TOKEN, leadway_intake_secret="a-long-secret-here",
        leadway_language="es", leadway_time_zone="Europe/Madrid",
    )  # fmt: skip
    account = row(database, "loc-env")
    assert (account["language"], account["time_zone"]) == ("es", "Europe/Madrid")
    assert CIPHER.decrypt(account["api_token_encrypted"]) == TOKEN
    assert location_for(database, "a-long-secret-here") == "loc-env"


def test_an_environment_without_an_account_makes_none(database: Database) -> None:
    before = rows_of(database, accounts.accounts_table)
    upsert(database, leadway_location_id=None)
    assert rows_of(database, accounts.accounts_table) == before


def test_a_mere_restart_changes_nothing_resumes_nothing_and_rotates_nothing(database: Database) -> None:
    values = {"leadway_api_token": TOKEN, "leadway_intake_secret": "a-new-secret-here", "leadway_language": "es"}
    upsert(database, leadway_intake_secret="an-old-secret-here")
    upsert(database, **values)
    in_transaction(database, circuit_breaker.record_outage, LOCATION, first_seconds=5)
    in_transaction(database, circuit_breaker.open_breaker, LOCATION, seconds=60)
    for cause in PauseCause:
        in_transaction(database, pauses.pause, LOCATION, cause=cause, detail="…")
    before = row(database)
    upsert(database, **values)
    upsert(database, **values)
    assert row(database) == before
    assert [location_for(database, each) for each in ("an-old-secret-here", "a-new-secret-here")] == [
        LOCATION,
        LOCATION,
    ]
    with database.reading() as connection:
        assert {each.cause for each in pauses.of_account(connection, LOCATION)} == set(PauseCause)


def test_the_environment_wins_over_what_was_set_since(database: Database) -> None:
    values = {"leadway_api_token": TOKEN, "leadway_intake_secret": "of-the-environment", "leadway_language": "es"}
    in_transaction(database, accounts.set_token, LOCATION, "another", cipher=CIPHER)
    in_transaction(database, accounts.set_secret, LOCATION, "another secret")
    in_transaction(database, pauses.pause, LOCATION, cause=PauseCause.TOKEN, detail="…")
    upsert(database, **values)
    assert CIPHER.decrypt(row(database)["api_token_encrypted"]) == TOKEN
    assert row(database)["language"] == "es"
    assert location_for(database, "of-the-environment") == location_for(database, "another secret") == LOCATION
    assert read(database, pauses.of_account, LOCATION) == []


def test_what_the_environment_does_not_say_stays(database: Database) -> None:
    upsert(
        database, leadway_api_token=TOKEN, leadway_intake_secret="a-long-secret-here", leadway_time_zone="Europe/Madrid"
    )
    before = row(database)
    upsert(database)
    assert row(database) == before


def test_the_environment_takes_its_account_back_when_it_was_removed(database: Database) -> None:
    in_transaction(database, accounts.remove, LOCATION)
    upsert(database, leadway_api_token=TOKEN)
    assert read(database, accounts.is_served, LOCATION)
    assert CIPHER.decrypt(row(database)["api_token_encrypted"]) == TOKEN


def test_a_token_that_no_key_opens_is_written_anew(database: Database) -> None:
    lost = TokenCipher([Fernet.generate_key().decode()])
    in_transaction(database, accounts.set_token, LOCATION, TOKEN, cipher=lost)
    upsert(database, leadway_api_token=TOKEN)
    assert CIPHER.decrypt(row(database)["api_token_encrypted"]) == TOKEN


def test_several_processes_that_start_at_once_make_one_account(database: Database) -> None:
    values = {
        "leadway_location_id": "loc-env",
        "leadway_api_token": TOKEN,
        "leadway_intake_secret": "a-long-secret-here",
    }
    at_once([lambda: upsert(database, **values) for _ in range(6)])
    account = row(database, "loc-env")
    assert CIPHER.decrypt(account["api_token_encrypted"]) == TOKEN
    assert account["previous_intake_secret_hash"] is None


def test_the_environments_secret_is_refused_when_another_account_has_it(database: Database) -> None:
    in_transaction(database, accounts.add, "loc-two")
    in_transaction(database, accounts.set_secret, "loc-two", "a-long-secret-here")
    with pytest.raises(SecretTaken):
        upsert(database, leadway_intake_secret="a-long-secret-here", leadway_language="es")
    assert row(database)["language"] == "en", "the whole of it is rolled back"
    with database.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(accounts.accounts_table)).scalar_one() == 2
