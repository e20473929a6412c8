"""`leadway-calls backup`: what is in the copy, whatever is written meanwhile, and when there is none."""

import shlex
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from models.accounts import accounts
from models.database import Database
from tests.support.rows import booked_call, on_sqlite, store
from tests.support.waiting import eventually, meanwhile
from tests.workers.cli.conftest import Commands


def asked(file: Path, query: str) -> str:
    with closing(sqlite3.connect(file)) as connection:
        return str(connection.execute(query).fetchone()[0])


@contextmanager
def pairs_written(database: Database) -> Iterator[None]:
    """Two accounts a transaction while the block runs."""
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            with database.transaction() as connection:
                accounts.add(connection, f"left-{number}")
                accounts.add(connection, f"right-{number}")
            number += 1

    with meanwhile(write):
        try:
            yield
        finally:
            ended.set()


@on_sqlite
def test_a_backup_is_a_database_of_ours_that_only_its_owner_may_read(
    run: Commands, served: Database, tmp_path: Path
) -> None:
    store(served, booked_call("call-1"))
    file = tmp_path / "backups" / "one.db"
    file.parent.mkdir()
    result = run("backup", str(file))
    assert result.exit_code == 0, result.output
    assert f"{file.name}:1call,0." in "".join(result.output.split())
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]
    assert "follow-up" in Commands({**run.environment, "DATABASE_URL": f"sqlite:///{file}"})("call", "call-1").output


@on_sqlite
def test_a_backup_holds_one_moment_while_others_write_and_are_not_held_up(
    run: Commands, unserved: Database, tmp_path: Path
) -> None:
    written = []
    with pairs_written(unserved):
        for number in range(5):
            before = accounts_in(unserved)
            eventually(lambda before=before: accounts_in(unserved) > before, describe="the writer to go on")
            file = tmp_path / f"{number}.db"
            assert run("backup", str(file)).exit_code == 0
            lone = "SELECT count(*) FROM accounts WHERE replace(location_id, 'left', 'right') NOT IN "
            assert asked(file, f"{lone} (SELECT location_id FROM accounts)") == "0"
            assert asked(file, "PRAGMA integrity_check") == "ok"
            written.append(int(asked(file, "SELECT count(*) FROM accounts")))
            assert written[-1] % 2 == 0
    assert written == sorted(set(written)), "each later one holds more"


def accounts_in(database: Database) -> int:
    with database.reading() as connection:
        return len(accounts.served(connection))


@on_sqlite
@pytest.mark.parametrize(
    ("name", "there", "said"),
    [
        ("b.db", "b.db", "replaces nothing"),
        ("b.db", "b.db-wal", "SQLite would take it for a part of the backup"),
        ("nowhere/b.db", "", "cannot be written to"),
    ],
)
def test_what_a_backup_would_overwrite_or_cannot_write_is_refused(
    run: Commands, unserved: Database, tmp_path: Path, name: str, there: str, said: str
) -> None:
    if there:
        (tmp_path / there).write_text("somebody's")
    before = set(tmp_path.iterdir())
    result = run("backup", str(tmp_path / name))
    assert result.exit_code == 1
    assert said in " ".join(result.output.split())
    assert set(tmp_path.iterdir()) == before
    assert not there or (tmp_path / there).read_text() == "somebody's"


def test_a_folder_without_the_database_gives_no_empty_backup(environment: dict[str, str], tmp_path: Path) -> None:
    result = Commands({**environment, "DATABASE_URL": "sqlite:///elsewhere.db"})("backup", "b.db")
    assert result.exit_code == 1
    assert "DATABASE_URL" in result.output
    assert not (tmp_path / "b.db").exists()


def test_a_database_that_cannot_be_read_whole_gives_no_backup(
    environment: dict[str, str], sqlite_template: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.db"
    page = int(asked(sqlite_template, "SELECT rootpage FROM sqlite_master WHERE name = 'calls'"))
    size = int(asked(sqlite_template, "PRAGMA page_size"))
    whole = sqlite_template.read_bytes()
    damaged.write_bytes(whole[: (page - 1) * size] + b"\xff" * size + whole[page * size :])
    result = Commands({**environment, "DATABASE_URL": f"sqlite:///{damaged}"})("backup", str(tmp_path / "b.db"))
    assert result.exit_code == 1
    assert "the backup was not written" in result.output
    assert [each.name for each in tmp_path.glob("*b.db*")] == []


def test_for_postgresql_the_command_of_pg_dump_is_told_without_the_password(environment: dict[str, str]) -> None:
    url = "postgresql://me:hidden@db.example:5433/calls%20of%20all?sslmode=require"
    result = Commands({**environment, "DATABASE_URL": url, "COLUMNS": "400"})("backup", "of all.dump")
    assert result.exit_code == 1
    assert "hidden" not in result.output
    command = shlex.split(result.output.partition("run: ")[2])
    assert command[:3] == ["pg_dump", "--format=custom", "--file=of all.dump"]
    words = "host=db.example", "port=5433", "user=me", "dbname='calls of all'", "sslmode=require"
    assert all(word in command[3] for word in words)
