"""`leadway-calls accounts …`: credentials go in and never come out; pausing, resuming, removing."""

import re

import pytest

from models.accounts import accounts, pauses
from models.accounts.intake_secrets import hash_secret
from models.accounts.pauses import PauseCause
from models.accounts.token_encryption import TokenCipher
from models.database import Database
from tests.support.rows import (
    ENCRYPTION_KEY,
    LOCATION,
    SECRET,
    TOKEN,
    booked_call,
    read,
    store,
    write,
)
from tests.workers.cli.conftest import Commands

OTHER = "AnotherLocation00001"


def _token(database: Database, location_id: str = LOCATION) -> str | None:
    encrypted = read(database, accounts.get, location_id).api_token_encrypted
    return None if encrypted is None else TokenCipher([ENCRYPTION_KEY]).decrypt(encrypted)


def _owner(database: Database, secret: str) -> str | None:
    return read(database, accounts.location_for_secret, hash_secret(secret))


def test_two_lines_on_standard_input_are_the_token_and_the_secret(run: Commands, unserved: Database) -> None:
    result = run(
        "accounts", "add", LOCATION, "--token-stdin", "--intake-secret-stdin", "--name", "Dental", "--language", "es",
        "--time-zone", "Europe/Madrid", "--follow-up-age-hours", "48", stdin=f"{TOKEN}\r\n{SECRET}\n",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert _token(unserved) == TOKEN
    assert _owner(unserved, SECRET) == LOCATION
    account = read(unserved, accounts.get, LOCATION)
    assert (account.name, account.language, account.time_zone) == ("Dental", "es", "Europe/Madrid")
    assert account.follow_up_age_hours == 48
    assert TOKEN not in run.printed
    assert SECRET not in run.printed


def test_with_the_token_alone_a_secret_is_made_and_shown_once(run: Commands, unserved: Database) -> None:
    result = run("accounts", "add", LOCATION, "--token-stdin", stdin=f"{TOKEN}\n")
    found = re.search(r"https://YOUR-HOST/webhooks/leadway/(\S+)", result.output)
    assert found is not None
    assert f"X-Intake-Secret: {found[1]}" in result.output
    assert _owner(unserved, found[1]) == LOCATION
    assert found[1] not in run("accounts", "show", LOCATION).output


def test_with_the_secret_alone_the_account_waits_for_its_token(run: Commands, unserved: Database) -> None:
    result = run("accounts", "add", LOCATION, "--intake-secret-stdin", stdin=f"{SECRET}\n")
    assert result.exit_code == 0
    assert "has no API token yet" in result.output
    assert _owner(unserved, SECRET) == LOCATION
    assert "no API token" in run("accounts", "list").output


def test_without_flags_it_prompts_and_an_empty_secret_makes_a_new_one(run: Commands, unserved: Database) -> None:
    result = run("accounts", "add", LOCATION, stdin=f"{TOKEN}\n\n")
    assert result.exit_code == 0, result.output
    assert "shown only now" in result.output
    assert _token(unserved) == TOKEN
    assert TOKEN not in run.printed


def test_adding_it_again_replaces_only_what_is_given(run: Commands, served: Database) -> None:
    result = run("accounts", "add", LOCATION, "--token-stdin", "--language", "es", stdin="pit-new\n")
    assert "was served already and is updated" in result.output
    assert "shown only now" not in result.output
    assert _token(served) == "pit-new"
    assert _owner(served, SECRET) == LOCATION
    account = read(served, accounts.get, LOCATION)
    assert (account.name, account.language) == ("Dental Madrid", "es")


@pytest.mark.parametrize(
    ("words", "stdin", "told"),
    [
        (("--token-stdin",), "", "API token was expected"),
        (("--token-stdin", "--intake-secret-stdin"), f"{TOKEN}\n\n", "intake secret was expected"),
        (("--token-stdin", "--intake-secret-stdin"), f"{TOKEN}\ncontraseña\n", "only ASCII"),
        (("--token-stdin", "--intake-secret-stdin"), b"pit-1\n\xff\xfe\n", "only ASCII"),
        (("--token-stdin", "--intake-secret-stdin"), f"{TOKEN}\n{'x' * 257}\n", "at most 256"),
        (("--token-stdin",), "two words\n", "only ASCII"),
        (("--token-stdin", "--time-zone", "Madrid"), f"{TOKEN}\n", "no IANA time zone"),
        (("--token-stdin", "--time-zone", "../../etc/passwd"), f"{TOKEN}\n", "no IANA time zone"),
        (("--token-stdin", "--language", "fr"), f"{TOKEN}\n", "'fr' is not one of"),
    ],
)
def test_what_cannot_work_is_refused_and_nothing_is_written(
    run: Commands, unserved: Database, words: tuple[str, ...], stdin: str | bytes, told: str
) -> None:
    result = run("accounts", "add", LOCATION, *words, stdin=stdin)
    assert result.exit_code == 2
    assert told in result.output
    assert TOKEN not in result.output
    assert "contraseña" not in result.output
    assert read(unserved, accounts.served) == []


def test_a_location_that_is_no_id_is_refused(run: Commands) -> None:
    result = run("accounts", "add", "https://app.example/location/abc", "--token-stdin", stdin=f"{TOKEN}\n")
    assert result.exit_code == 2
    assert "LOCATION: write the id of a Leadway location" in result.output


def test_a_short_secret_is_refused_where_the_api_is_the_real_one(run: Commands, served: Database) -> None:
    add = run("accounts", "add", OTHER, "--token-stdin", "--intake-secret-stdin", stdin=f"{TOKEN}\nshort/one\n")
    rotate = run("accounts", "rotate-secret", LOCATION, "--secret-stdin", stdin="short/one\n")
    for result in (add, rotate):
        assert result.exit_code == 2
        assert "the intake secret is shorter than 16 characters" in result.output
    assert _owner(served, "short/one") is None


def test_a_short_or_unfitting_secret_is_taken_with_a_warning_in_tests(run: Commands, unserved: Database) -> None:
    words = ("accounts", "add", LOCATION, "--token-stdin", "--intake-secret-stdin")
    result = run(*words, stdin=f"{TOKEN}\nshort/one\n", LEADWAY_API_URL="http://127.0.0.1:9")
    assert result.exit_code == 0
    assert "is short (9 characters)" in result.output
    assert "a URL cannot carry" in result.output
    assert _owner(unserved, "short/one") == LOCATION


def test_a_secret_that_another_account_has_is_refused_whole(run: Commands, served: Database) -> None:
    words = ("accounts", "add", OTHER, "--token-stdin", "--intake-secret-stdin")
    result = run(*words, stdin=f"{TOKEN}\n{SECRET}\n")
    assert result.exit_code == 1
    assert "another account has this intake secret" in result.output
    assert not read(served, accounts.is_served, OTHER)


def test_a_new_token_ends_the_pause_that_the_old_one_caused(run: Commands, served: Database) -> None:
    write(served, pauses.pause, LOCATION, cause=PauseCause.TOKEN, detail="Set a new one.")
    result = run("accounts", "set-token", LOCATION, "--token-stdin", stdin="pit-new\n")
    assert result.exit_code == 0
    assert _token(served) == "pit-new"
    assert write(served, pauses.of_account, LOCATION) == []
    assert "pit-new" not in run.printed


def test_a_token_that_the_environment_will_undo_is_warned_about(run: Commands, served: Database) -> None:
    result = run(
        "accounts", "set-token", LOCATION, "--token-stdin", stdin="pit-new\n",
        LEADWAY_LOCATION_ID=LOCATION, LEADWAY_API_TOKEN=TOKEN,
    )  # fmt: skip
    assert "LEADWAY_API_TOKEN is set and wins at the next start" in result.output


def test_a_rotated_secret_leaves_the_old_one_valid_until_it_is_dropped(run: Commands, served: Database) -> None:
    first = run("accounts", "rotate-secret", LOCATION)
    made = re.search(r"X-Intake-Secret: (\S+)", first.output)
    assert made is not None
    assert {_owner(served, each) for each in (SECRET, made[1])} == {LOCATION}
    assert "previous one is still valid" in run("accounts", "show", LOCATION).output
    second = run("accounts", "rotate-secret", LOCATION, "--secret-stdin", "--drop-old", stdin=f"{made[1]}\n")
    assert "refused from now on" in second.output
    assert made[1] not in second.output
    assert _owner(served, SECRET) is None
    assert _owner(served, made[1]) == LOCATION


def test_a_pause_by_a_person_is_shown_with_its_reason_and_ended(run: Commands, served: Database) -> None:
    assert "is paused" in run("accounts", "pause", LOCATION, "--reason", "they tidy up").output
    assert "already" in run("accounts", "pause", LOCATION).output
    shown = run("accounts", "show", LOCATION).output
    assert "Paused by person" in shown
    assert "they tidy up" in shown
    assert "paused by person" in run("accounts", "list").output
    assert "goes on" in run("accounts", "resume", LOCATION).output
    assert "was not paused" in run("accounts", "resume", LOCATION).output


def test_removing_asks_keeps_the_calls_and_forgets_the_credentials(run: Commands, served: Database) -> None:
    store(served, booked_call("call-1"))
    assert run("accounts", "remove", LOCATION, stdin="n\n").exit_code == 1
    assert _token(served) == TOKEN
    assert run("accounts", "remove", LOCATION, "--yes").exit_code == 0
    assert _token(served) is None
    assert _owner(served, SECRET) is None
    assert run("call", "call-1").exit_code == 0
    refused = run("accounts", "set-token", LOCATION, "--token-stdin", stdin="pit-new\n")
    assert refused.exit_code == 1
    assert f"accounts add {LOCATION}" in refused.output
    assert "removed" in run("accounts", "show", LOCATION).output


@pytest.mark.parametrize("command", ["show", "set-token", "rotate-secret", "pause", "resume", "remove"])
def test_an_unknown_account_is_told_with_how_to_add_it(run: Commands, command: str) -> None:
    result = run("accounts", command, OTHER)
    assert result.exit_code == 1
    assert f"accounts add {OTHER}" in result.output


def test_a_token_that_the_keys_do_not_open_is_told_not_raised(run: Commands, served: Database) -> None:
    result = run("accounts", "show", LOCATION, TOKEN_ENCRYPTION_KEYS="A" * 43 + "=")
    assert result.exit_code == 0
    assert "TOKEN_ENCRYPTION_KEYS" in result.output


def test_what_an_account_is_called_cannot_steer_the_terminal(run: Commands, served: Database) -> None:
    write(served, accounts.add, LOCATION, name="\x1b[2Jgone [bold]")
    for words in (("accounts", "list"), ("accounts", "show", LOCATION), ("status",)):
        assert "\x1b" not in run(*words).output
