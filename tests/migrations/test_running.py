"""How migrations run beside other sessions: they stall nobody for long, wait for nobody for ever, and say for whom."""

import multiprocessing
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from migrations import is_current, running
from migrations.running import LOCK_SECONDS, ONE_AT_A_TIME, MigrationBlocked, Run, StatementTooLong
from migrations.upgrading import migrate
from models.accounts import accounts
from models.calls import calls
from models.database import COMMAND, Database
from tests.migrations.copies import with_another_migration
from tests.support.services import PostgresServer

ADD_A_COLUMN = "op.add_column('calls', sa.Column('colour', sa.Text()))"


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    yield postgres_server.create_database("running", template="leadway_template")
    postgres_server.drop_database("running")


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(Database(url, limits=COMMAND)) as opened:
        with opened.transaction() as connection:
            accounts.add(connection, "loc-one")
        yield opened


@pytest.fixture
def reader(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody who looked at `calls` and left the transaction open: ACCESS SHARE, which an ALTER waits for."""
    with psycopg.connect(url, application_name="an analyst") as connection:
        connection.execute("SELECT 'a secret' FROM calls").fetchall()
        yield connection


def columns(database: Database) -> set[str]:
    return {each["name"] for each in sa.inspect(database.engine).get_columns("calls")}


class Announcing:
    """While the block runs, calls are announced one after the other, as receipts do."""

    def __init__(self, database: Database) -> None:
        self.longest = 0.0
        self.announced = 0
        self._database = database
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._announce)

    def _announce(self) -> None:
        while not self._ended.is_set():
            began = time.monotonic()
            with self._database.transaction() as connection:
                calls.announce(connection, "loc-one", f"call-{self.announced}")
            self.longest = max(self.longest, time.monotonic() - began)
            self.announced += 1

    def __enter__(self) -> "Announcing":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def test_a_waiting_migration_stalls_nobody_and_names_the_session_in_its_way(
    url: str, database: Database, reader: psycopg.Connection[Any], tmp_path: Path
) -> None:
    later = with_another_migration(tmp_path, ADD_A_COLUMN)
    told: list[str] = []
    with Announcing(database) as announcing, pytest.raises(MigrationBlocked) as blocked:
        later(url, patience_seconds=3, report=told.append)
    session = f"session {reader.info.backend_pid} (an analyst, user postgres, idle in transaction"
    assert session in str(blocked.value)
    assert "9999 (the later one) did not get its lock within 3 s" in str(blocked.value)
    assert "a secret" not in str(blocked.value), "what a session asked may quote a caller"
    assert told[0] == "Migrating to 9999 (the later one)."
    assert session in told[1]
    assert len(told) == 2
    assert announcing.announced > 10
    assert announcing.longest < LOCK_SECONDS + 3, "the rest is what a busy machine may take"
    assert "colour" not in columns(database)
    assert is_current(database)


def test_a_migration_goes_on_by_itself_when_the_session_in_its_way_ends(
    url: str, database: Database, reader: psycopg.Connection[Any], tmp_path: Path
) -> None:
    later = with_another_migration(tmp_path, ADD_A_COLUMN)
    waits = threading.Event()
    run = threading.Thread(target=later, args=(url,), kwargs={"report": lambda line: "waits" in line and waits.set()})
    run.start()
    assert waits.wait(30)
    reader.rollback()
    run.join(30)
    assert not run.is_alive()
    assert "colour" in columns(database)


def test_a_statement_that_takes_too_long_is_stopped_unless_its_migration_says_otherwise(
    url: str, database: Database, tmp_path: Path
) -> None:
    slow = f"op.execute('SELECT pg_sleep(0.5)')\n{ADD_A_COLUMN}"
    with pytest.raises(StatementTooLong, match=r"9999 .*One statement may take 0.1 s"):
        with_another_migration(tmp_path / "hurried", slow, head="statement_timeout_seconds = 0.1")(url)
    assert "colour" not in columns(database)
    with_another_migration(tmp_path / "unhurried", slow, head="statement_timeout_seconds = 20")(url)
    assert "colour" in columns(database)


def test_an_autocommit_block_has_the_same_limits(url: str, database: Database, tmp_path: Path) -> None:
    settings = "current_setting('lock_timeout'), current_setting('statement_timeout')"
    look = f'op.execute("INSERT INTO looks SELECT {settings}")'
    with database.transaction() as connection:
        connection.execute(sa.text("CREATE TABLE looks (lock text, statement text)"))
    upgrade = f"{look}\nwith op.get_context().autocommit_block():\n    {look}\n{look}"
    with_another_migration(tmp_path, upgrade)(url)
    with database.reading() as connection:
        assert set(connection.execute(sa.text("SELECT * FROM looks")).all()) == {("200ms", "30s")}


def test_who_migrates_waits_for_another_who_migrates_and_is_not_waited_for(
    url: str, database: Database, tmp_path: Path
) -> None:
    """CREATE INDEX CONCURRENTLY waits for every statement: one that waits for its turn would end in a deadlock."""
    later = with_another_migration(tmp_path, ADD_A_COLUMN)
    waits = threading.Event()
    run = threading.Thread(target=later, args=(url,), kwargs={"report": lambda _: waits.set()})
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (ONE_AT_A_TIME,))
        run.start()
        assert waits.wait(30)
        for number in range(5):  # the first ones may be quicker than the question for the lock
            other.execute(f"CREATE INDEX CONCURRENTLY ix_calls_colour_{number} ON calls (agent_id)".encode())
        assert "colour" not in columns(database)
    run.join(30)
    assert "colour" in columns(database)


def test_who_waits_for_another_who_migrates_names_that_session_again_and_again(
    url: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "TELL_AGAIN_SECONDS", 0.5)
    told: list[str] = []
    told_twice = threading.Event()

    def report(line: str) -> None:
        told.append(line)
        if len(told) == 2:
            told_twice.set()

    run = threading.Thread(target=migrate, args=(url,), kwargs={"report": report})
    with psycopg.connect(url, autocommit=True, application_name="another release") as other:
        other.execute("SELECT pg_advisory_lock(%s)", (ONE_AT_A_TIME,))
        pid = other.info.backend_pid
        run.start()
        assert told_twice.wait(30)
    run.join(30)
    assert not run.is_alive()
    for line in told[:2]:
        assert f"session {pid} (another release, user postgres, idle, connected since 2" in line


def test_a_run_leaves_no_limits_and_no_lock_in_its_session(url: str, database: Database) -> None:
    """Behind a pooler the session goes to the next client."""
    names = ("lock_timeout", "statement_timeout")
    looks = [sa.text(f"SELECT current_setting('{name}')") for name in names]
    locks = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    with running.connection_to(url) as connection:
        before = [connection.execute(look).scalar_one() for look in looks]
        run = Run(connection, report=lambda _: None, patience_seconds=1)
        with running.one_at_a_time(connection, report=lambda _: None):
            run.until_done(lambda: None)
        assert [connection.execute(look).scalar_one() for look in looks] == before

        def fail() -> None:
            connection.execute(sa.text("SELECT set_config('lock_timeout', '1s', false)"))
            connection.commit()
            connection.execute(sa.text("no SQL"))

        with pytest.raises(sa.exc.DBAPIError), running.one_at_a_time(connection, report=lambda _: None):
            run.until_done(fail)
        assert [connection.execute(look).scalar_one() for look in looks] == before
        assert connection.execute(locks).scalar_one() == 0


def test_renaming_many_tables_keeps_receipts_from_none_while_it_waits_for_a_quieter_one(
    postgres_server: PostgresServer,
) -> None:
    """0004 locks the busiest table last: nobody is kept from that table by a try that does not get the others."""
    url = postgres_server.create_database("renaming")
    migrate(url, revision="0003")
    database = Database(url, limits=COMMAND)
    held = sa.text(
        "SELECT count(*) FROM pg_locks WHERE relation = 'calls'::regclass AND mode = 'AccessExclusiveLock' AND granted"
    )
    waits, ended = threading.Event(), threading.Event()
    seen = []

    def look() -> None:
        while not ended.is_set():
            with database.reading() as connection:
                seen.append(connection.execute(held).scalar_one())

    for quieter in ("refusals", "accounts", "follow_ups"):
        watch = threading.Thread(target=look)
        with psycopg.connect(url) as reader:
            reader.execute(f"SELECT count(*) FROM {quieter}".encode())
            ended.clear()
            watch.start()
            with pytest.raises(MigrationBlocked):
                migrate(url, revision="0004", patience_seconds=1, report=lambda line: "waits" in line and waits.set())
            ended.set()
            watch.join()
        assert waits.is_set()
        assert set(seen) == {0}, quieter
    migrate(url)
    assert is_current(database)
    database.close()
    postgres_server.drop_database("renaming")


def test_what_another_process_migrated_between_two_migrations_is_not_migrated_again(tmp_path: Path) -> None:
    """SQLite has no lock that outlives a transaction."""
    url = f"sqlite:///{tmp_path / 'overtaken.db'}"
    told: list[str] = []

    def overtake(line: str) -> None:
        told.append(line)
        if len(told) == 2:
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as another:
                another.submit(migrate, url).result(60)

    migrate(url, report=overtake)
    assert told == ["Migrating to 0001 (the first schema).", "Migrating to 0002 (the ledger of reconciling)."]
    with closing(Database(url, limits=COMMAND)) as database:
        assert is_current(database)


def test_a_migration_that_failed_leaves_the_way_free_for_the_next_who_migrates(
    url: str, database: Database, tmp_path: Path
) -> None:
    with pytest.raises(sa.exc.DBAPIError):
        with_another_migration(tmp_path / "wrong", "op.execute('no SQL')")(url)
    told: list[str] = []
    with_another_migration(tmp_path / "right", ADD_A_COLUMN)(url, report=told.append)
    assert told[-1] == "Migrating to 9999 (the later one)."
    assert "colour" in columns(database)


def test_the_read_contract_comes_beside_a_reader_and_receipts(postgres_server: PostgresServer) -> None:
    """Its migrations wait for nobody: an analyst's transaction that read `calls` stays open all the time."""
    url = postgres_server.create_database("contract")
    migrate(url, revision="0021")
    with closing(Database(url, limits=COMMAND)) as database:
        with database.transaction() as connection:
            accounts.add(connection, "loc-one")
        with psycopg.connect(url, autocommit=True) as analyst:
            analyst.execute("CREATE VIEW of_an_analyst AS SELECT * FROM calls")
            analyst.autocommit = False
            analyst.execute("SELECT * FROM of_an_analyst").fetchall()
            analyst.commit()
            analyst.execute("SELECT * FROM accounts").fetchall()
            with Announcing(database) as announcing:
                migrate(url, patience_seconds=3)
            analyst.execute("SELECT * FROM of_an_analyst").fetchall()
        assert announcing.announced
        assert announcing.longest < LOCK_SECONDS + 3, "the rest is what a busy machine may take"
        assert is_current(database)
    postgres_server.drop_database("contract")
