"""A migration that needs a stop does not run beside live processes; any other does."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

import migrations
from migrations import is_current
from migrations.running import StopNeeded
from migrations.upgrading import migrate
from models.database import COMMAND, Database, moment
from models.work.heartbeats import heartbeats_table
from tests.migrations.copies import LATER, with_another_migration
from tests.support.hearts import beating
from tests.support.services import PostgresServer

ADD_A_TABLE = "op.create_table('later', sa.Column('a', sa.Integer()))"
VERSIONS = Path(migrations.__file__).parent / "versions"
BEFORE = "0004"
"""The next migration needs no stop."""


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    migrate(empty_database_url)
    with closing(Database(empty_database_url, limits=COMMAND)) as opened:
        yield opened


def has_later(database: Database) -> bool:
    return sa.inspect(database.engine).has_table("later")


def test_what_needs_a_stop_is_refused_while_processes_are_alive_and_names_them(
    empty_database_url: str, database: Database, tmp_path: Path
) -> None:
    later = with_another_migration(tmp_path, ADD_A_TABLE, head="NEEDS_A_STOP = True")
    with beating(database) as end:
        for process in tuple(end):
            with pytest.raises(StopNeeded, match=rf"{LATER} \(the later one\).* {process}-1@here \(heard \d+ s ago\)"):
                later(empty_database_url)
            end[process]()
    assert not has_later(database)
    assert is_current(database)
    later(empty_database_url)
    assert has_later(database)


def test_a_process_that_was_killed_is_waited_for_until_it_counts_as_gone(
    empty_database_url: str, database: Database, tmp_path: Path
) -> None:
    later = with_another_migration(tmp_path, ADD_A_TABLE, head="NEEDS_A_STOP = True")
    with beating(database, "worker"), database.transaction() as connection:
        row = connection.execute(sa.select(heartbeats_table)).one()._mapping
    for seconds, runs in ((9, False), (11, True)):
        with database.transaction() as connection:
            connection.execute(sa.delete(heartbeats_table))
            connection.execute(sa.insert(heartbeats_table).values({**row, "beat_at": moment(-seconds)}))
        if not runs:
            with pytest.raises(StopNeeded):
                later(empty_database_url)
    later(empty_database_url)
    assert has_later(database)


@pytest.mark.parametrize(("head", "how"), [("", {}), ("NEEDS_A_STOP = True", {"beside_processes": True})])
def test_what_needs_no_stop_or_is_told_to_do_without_runs_beside_live_processes(
    empty_database_url: str, database: Database, tmp_path: Path, head: str, how: dict[str, bool]
) -> None:
    later = with_another_migration(tmp_path, ADD_A_TABLE, head=head)
    with beating(database):
        later(empty_database_url, **how)
    assert has_later(database)


def test_nothing_before_a_migration_that_is_refused_runs_either(empty_database_url: str, tmp_path: Path) -> None:
    migrate(empty_database_url, revision=BEFORE)
    later = with_another_migration(tmp_path, ADD_A_TABLE, head="NEEDS_A_STOP = True")
    told: list[str] = []
    old_process_beats(empty_database_url)
    with pytest.raises(StopNeeded, match="web-1@there"):
        later(empty_database_url, report=told.append)
    assert told == []


def test_a_process_that_starts_during_a_migration_stops_the_next_that_needs_a_stop(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """On PostgreSQL: SQLite lets nobody write meanwhile."""
    url = postgres_server.create_database("started")
    migrate(url, revision=BEFORE)
    later = with_another_migration(tmp_path, ADD_A_TABLE, head="NEEDS_A_STOP = True")
    with pytest.raises(StopNeeded, match="web-1@there"):
        later(url, report=lambda _: old_process_beats(url))
    with closing(Database(url, limits=COMMAND)) as database:
        assert version_of(database) == "0005", "what is left needs a stop"
    postgres_server.drop_database("started")


def version_of(database: Database) -> str:
    with database.reading() as connection:
        return str(connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one())


def old_process_beats(url: str) -> None:
    """As the release of BEFORE does, which knows no versions."""
    values = {"name": "web-1@there", "process": "web", "slots": 0, "started_at": moment(), "beat_at": moment()}
    with closing(Database(url, limits=COMMAND)) as database, database.transaction() as connection:
        connection.execute(sa.insert(heartbeats_table).values(values))


def test_to_undo_what_needs_a_stop_needs_one_too(empty_database_url: str) -> None:
    migrate(empty_database_url, revision="0006")
    old_process_beats(empty_database_url)
    with closing(Database(empty_database_url, limits=COMMAND)) as database:
        with pytest.raises(StopNeeded, match="0004"):
            migrate(empty_database_url, revision="0003")
        assert version_of(database) == "0006"


@pytest.mark.parametrize("file", sorted(VERSIONS.glob("*.py")), ids=lambda file: file.stem)
def test_a_migration_that_says_to_people_that_it_needs_a_stop_says_so_to_the_command(file: Path) -> None:
    text = file.read_text()
    says = re.search(r"needs? a stop", text.split('"""')[1], re.IGNORECASE) is not None
    assert says == (re.search(r'^NEEDS_A_STOP = (True|"sqlite")$', text, re.MULTILINE) is not None)
