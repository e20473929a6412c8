"""`leadway-calls migrate` on databases that are new, old, missing, away, and from the future."""

from contextlib import closing
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from migrations.upgrading import migrate as bring_to
from models.accounts import accounts
from models.database import COMMAND, Database, moment
from models.work.heartbeats import heartbeats_table
from tests.support.rows import LOCATION, SECRET, TOKEN
from tests.support.services import PostgresServer
from tests.workers.cli.conftest import Commands
from workers.cli.migrate import _is_under_a_process_manager


def test_an_empty_database_gets_its_tables_and_a_second_run_changes_nothing(
    environment: dict[str, str], empty_database_url: str
) -> None:
    run = Commands({**environment, "DATABASE_URL": empty_database_url})
    first, second = run("migrate"), run("migrate")
    assert (first.exit_code, second.exit_code) == (0, 0)
    assert "Migrating to 0001 (the first schema)." in first.output
    assert "The tables were created." in first.output
    assert "nothing to do" in second.output


def test_a_missing_postgresql_database_is_created(environment: dict[str, str], postgres_server: PostgresServer) -> None:
    url = postgres_server.url("made by migrate").replace(" ", "%20")
    run = Commands({**environment, "DATABASE_URL": url})
    result = run("migrate", "--wait", "0")
    assert result.exit_code == 0, result.output
    assert "The database made by migrate was created." in result.output
    postgres_server.drop_database("made by migrate")


def test_the_environments_account_becomes_what_the_environment_says(run: Commands, unserved: Database) -> None:
    environment = {
        "LEADWAY_LOCATION_ID": LOCATION,
        "LEADWAY_API_TOKEN": TOKEN,
        "LEADWAY_INTAKE_SECRET": SECRET,
        "LEADWAY_LANGUAGE": "es",
    }
    assert "was added from the environment" in run("migrate", **environment).output
    assert "is as the environment says" in run("migrate", **environment).output
    with unserved.reading() as connection:
        account = accounts.get(connection, LOCATION)
        assert account.language == "es"
        assert account.api_token_encrypted is not None
        assert accounts.has_intake_secrets(connection, LOCATION) == (True, False)
    assert TOKEN not in run.printed
    assert SECRET not in run.printed


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"LEADWAY_TIME_ZONE": "Europe/Madird"}, "LEADWAY_TIME_ZONE: this is no IANA time zone"),
        ({"LEADWAY_INTAKE_SECRET": "contraseña-de-todos"}, "LEADWAY_INTAKE_SECRET: only ASCII"),
        ({"LEADWAY_INTAKE_SECRET": "x" * 257}, "LEADWAY_INTAKE_SECRET: at most 256"),
        ({"LEADWAY_API_TOKEN": "pit-1 pit-2"}, "LEADWAY_API_TOKEN: only ASCII"),
        ({"TOKEN_ENCRYPTION_KEYS": "not-a-key"}, "TOKEN_ENCRYPTION_KEYS"),
        ({"LEADWAY_LOCATION_ID": "https://app.example/x"}, "LEADWAY_LOCATION_ID: write the id"),
        ({"PORT": "many"}, "PORT"),
    ],
)
def test_an_environment_that_cannot_work_is_refused_by_its_setting(
    environment: dict[str, str], sqlite_url: str, wrong: dict[str, str], named: str
) -> None:
    run = Commands({**environment, "DATABASE_URL": sqlite_url, "LEADWAY_LOCATION_ID": LOCATION, **wrong})
    result = run("migrate")
    assert result.exit_code == 2
    assert named in result.output
    assert "contraseña" not in result.output


def test_a_server_that_does_not_answer_is_waited_for_and_then_told(environment: dict[str, str]) -> None:
    run = Commands({**environment, "DATABASE_URL": "postgresql://someone:hidden-password@127.0.0.1:1/leadway"})
    result = run("migrate", "--wait", "0.2")
    assert result.exit_code == 1
    assert "Waiting up to 0.2 s" in result.output
    assert "the database cannot be used" in result.output
    assert "hidden-password" not in result.output


def test_a_database_from_a_newer_version_is_left_alone(environment: dict[str, str], empty_database_url: str) -> None:
    run = Commands({**environment, "DATABASE_URL": empty_database_url})
    assert run("migrate").exit_code == 0
    with closing(Database(empty_database_url, limits=COMMAND)) as database, database.transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    result = run("migrate")
    assert result.exit_code == 1
    assert "newer schema (9999)" in result.output


def test_a_session_that_blocks_a_migration_is_named_and_nobody_waits_for_it_for_ever(
    environment: dict[str, str], postgres_server: PostgresServer
) -> None:
    url = postgres_server.create_database("blocked")
    bring_to(url, revision="0003")
    run = Commands({**environment, "DATABASE_URL": url})
    with psycopg.connect(url, application_name="an analyst") as reader:
        reader.execute("SELECT FROM calls")
        blocked = run("migrate", "--patience", "1")
        assert blocked.exit_code == 1
        assert f"session {reader.info.backend_pid} (an analyst, user postgres, idle in transaction" in blocked.output
    assert run("migrate").exit_code == 0
    postgres_server.drop_database("blocked")


def test_what_needs_a_stop_is_refused_beside_old_processes_unless_it_is_to_run_anyway(
    environment: dict[str, str], empty_database_url: str
) -> None:
    """As in a release phase, in which the old processes still run."""
    bring_to(empty_database_url, revision="0003")
    with closing(Database(empty_database_url, limits=COMMAND)) as database, database.transaction() as connection:
        values = {
            "name": "worker-1@there",
            "process": "worker",
            "slots": 32,
            "started_at": moment(),
            "beat_at": moment(),
        }
        connection.execute(sa.insert(heartbeats_table).values(values))
    run = Commands({**environment, "DATABASE_URL": empty_database_url})
    refused = run("migrate")
    assert refused.exit_code == 1
    for words in ("migration 0004", "needs a stop", "worker-1@there (heard", "Stop them all", "--anyway"):
        assert words in refused.output
    assert "Migrating" not in refused.output
    anyway = run("migrate", "--anyway")
    assert anyway.exit_code == 0
    assert "Migrating to 0004" in anyway.output


@pytest.mark.parametrize(
    "words",
    [
        ("accounts", "list"),
        ("accounts", "show", "x"),
        ("accounts", "pause", "x"),
        ("call", "x"),
        ("follow-up", "x"),
        ("replay", "x"),
    ],
)
def test_without_the_schema_every_command_says_to_migrate(
    environment: dict[str, str], empty_database_url: str, words: tuple[str, ...]
) -> None:
    result = Commands({**environment, "DATABASE_URL": empty_database_url})(*words)
    assert result.exit_code == 1
    assert "run `leadway-calls migrate`" in result.output


@pytest.mark.parametrize("url", ["nonsense", "mysql://a:hidden@b/c", "sqlite:////proc/none/x.db"])
def test_a_database_url_that_names_no_database_is_told_without_showing_it(
    environment: dict[str, str], url: Any
) -> None:
    result = Commands({**environment, "DATABASE_URL": url})("accounts", "list")
    assert result.exit_code in (1, 2)
    assert "Error: " in result.output
    assert "hidden" not in result.output


@pytest.mark.parametrize(
    ("environment", "stays"),
    [
        ({}, False),
        ({"PS": "release.1"}, True),
        ({"HONCHO_PROCESS_NAME": "release.1"}, True),
        ({"PS": "web.1"}, False),
        ({"PS": "release.1", "DYNO": "release.7"}, False),
    ],
)
def test_a_release_stays_only_where_its_end_would_end_the_others(environment: dict[str, str], stays: bool) -> None:
    assert _is_under_a_process_manager(environment) is stays
