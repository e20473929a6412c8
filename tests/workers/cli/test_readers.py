"""A reader's role sees the read contract and nothing else, whatever it tries."""

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from migrations import views
from models.database import COMMAND, Database
from models.intake import inbox
from models.schema import metadata
from tests.migrations.copies import with_another_migration
from tests.support import rows
from tests.support.rows import LOCATION, add_account, booked_call, store
from tests.support.services import PostgresServer
from tests.support.waiting import eventually
from tests.workers.cli.conftest import Commands

PASSWORD = "a-password-of-the-reader"
OTHER = "another-location"


@pytest.fixture
def url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of its own: a role belongs to all databases of a server."""
    yield postgres_server.create_database("readers", template="leadway_template")
    with psycopg.connect(postgres_server.url(), autocommit=True) as connection:
        connection.execute("DROP DATABASE readers WITH (FORCE)")
        for (name,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'reader%%'").fetchall():
            connection.execute(f"DROP ROLE {name}".encode())


@pytest.fixture
def served(url: str) -> Iterator[Database]:
    with closing(Database(url, limits=COMMAND)) as database:
        add_account(database)
        rows.write(database, rows.accounts.add, OTHER)
        store(database, replace(booked_call("call-1"), extracted_data={"budget": 1}))
        store(database, replace(booked_call("call-2"), extracted_data={"budget": 2}), location_id=OTHER)
        yield database


@pytest.fixture
def run(environment: dict[str, str], url: str) -> Commands:
    return Commands({**environment, "DATABASE_URL": url})


def as_reader(url: str, name: str = "reader") -> psycopg.Connection[Any]:
    return psycopg.connect(url, user=name, password=PASSWORD, autocommit=True)


def add(run: Commands, *options: str, name: str = "reader") -> None:
    added = run("readers", "add", name, "--password-stdin", *options, stdin=f"{PASSWORD}\n")
    assert added.exit_code == 0, added.output
    assert PASSWORD not in added.output


def test_a_reader_reads_every_view_and_no_table(run: Commands, url: str, served: Database) -> None:
    add(run)
    with as_reader(url) as reader:
        for view in views.NAMES:
            assert reader.execute(f"SELECT * FROM {view}".encode()).fetchall()  # no schema is named
        for table in metadata.tables:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                reader.execute(f"SELECT 1 FROM public.{table}".encode())
    secret = [each.name for each in metadata.tables["accounts"].c if "encrypted" in each.name or "hash" in each.name]
    assert secret
    assert not {column.name for view in views.NAMES for column in views.described(view).columns} & set(secret)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO leadway_v1.accounts (location_id) VALUES ('x')",
        "UPDATE leadway_v1.calls SET call_id = 'x'",
        "DELETE FROM leadway_v1.call_actions",
        "CREATE TABLE public.own (a int)",
        "CREATE TABLE leadway_v1.own (a int)",
        "CREATE SCHEMA own",
        "BEGIN; LOCK TABLE leadway_v1.calls IN SHARE MODE",
        "SET ROLE postgres",
        "CREATE ROLE other",
    ],
)
def test_a_reader_writes_nothing_though_it_sets_its_sessions_settings(
    run: Commands, url: str, served: Database, statement: str
) -> None:
    add(run)
    with as_reader(url) as reader:
        reader.execute("SET default_transaction_read_only = off")
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
            reader.execute(statement.encode())


def test_a_reader_has_its_limits(run: Commands, url: str, served: Database) -> None:
    add(run)
    with as_reader(url) as reader:
        shown = {name: reader.execute(f"SHOW {name}".encode()).fetchone() for name in ("statement_timeout",
                 "idle_in_transaction_session_timeout", "idle_session_timeout", "lock_timeout")}  # fmt: skip
        assert shown == {
            "statement_timeout": ("5min",), "idle_in_transaction_session_timeout": ("1min",),
            "idle_session_timeout": ("1h",), "lock_timeout": ("1s",),
        }  # fmt: skip
        more = [as_reader(url) for _ in range(4)]
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            as_reader(url)
        for each in more:
            each.close()


def test_a_reader_without_words_sees_no_word(run: Commands, url: str, served: Database) -> None:
    add(run, "--without-words")
    with as_reader(url) as reader:
        for view in map(views.described, views.NAMES):
            for column in view.columns:
                select = f"SELECT {column.name} FROM {view.name}".encode()
                if column.has_words:
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        reader.execute(select)
                else:
                    reader.execute(select)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("SELECT calls FROM calls")  # the whole row
    rows.write(served, views.make, by=views.MADE_BY)
    with as_reader(url) as reader, pytest.raises(psycopg.errors.InsufficientPrivilege):
        reader.execute("SELECT summary FROM calls")


def test_a_reader_of_one_account_sees_no_other_in_any_view(run: Commands, url: str, served: Database) -> None:
    add(run, "--location", LOCATION)
    with as_reader(url) as reader:
        for view in views.NAMES:
            if view != "contract":
                found = reader.execute(f"SELECT DISTINCT location_id FROM {view}".encode()).fetchall()
                assert found == [(LOCATION,)], view
                probe = f"SELECT count(*) FROM {view} WHERE 1 / (CASE location_id WHEN '{OTHER}' THEN 0 ELSE 1 END) = 1"
                reader.execute(probe.encode())  # no condition of the reader's is asked of a row that it does not see
    with served.transaction() as connection:
        connection.execute(sa.text("DELETE FROM reader_locations"))
    with as_reader(url) as reader:
        assert reader.execute("SELECT * FROM calls").fetchall() == [], "restricted to nothing is not everything"


def test_a_reader_that_holds_a_transaction_open_holds_up_neither_a_migration_nor_a_receipt(
    run: Commands, url: str, served: Database, tmp_path: Path
) -> None:
    add(run)
    with as_reader(url) as reader:
        reader.autocommit = False
        for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
            reader.execute(f"SET {setting} = 0".encode())
        reader.execute("SELECT * FROM calls").fetchall()
        rows.receive(served, "while-it-reads", call_id="call-3")
        with_another_migration(tmp_path, "op.add_column('calls', sa.Column('colour', sa.Text()))")(url)
        with pytest.raises(psycopg.OperationalError):
            reader.execute("SELECT 1")
    with served.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(inbox.inbox_table)).scalar_one() == 1
        assert "colour" in {each["name"] for each in sa.inspect(connection).get_columns("calls")}


def test_a_reader_that_takes_the_lock_of_migrations_is_cut_off(
    run: Commands, url: str, served: Database, tmp_path: Path
) -> None:
    add(run)
    with as_reader(url) as reader:
        reader.execute("SELECT pg_advisory_lock(4617001)")
        with_another_migration(tmp_path, "op.add_column('calls', sa.Column('colour', sa.Text()))")(url)
        with pytest.raises(psycopg.OperationalError):
            reader.execute("SELECT 1")


def test_a_migration_leaves_the_session_of_another_role_alone(
    run: Commands, url: str, served: Database, tmp_path: Path
) -> None:
    add(run)
    later = with_another_migration(tmp_path, "op.add_column('calls', sa.Column('colour', sa.Text()))")
    waits = threading.Event()
    migration = threading.Thread(
        target=later, args=(url,), kwargs={"report": lambda line: "waits" in line and waits.set()}
    )
    with psycopg.connect(url) as analyst:
        analyst.execute("SELECT 1 FROM leadway_v1.calls")
        migration.start()
        assert waits.wait(30)
        analyst.execute("SELECT 1")
        analyst.rollback()
        migration.join(60)
    assert not migration.is_alive()


def test_a_role_that_may_make_roles_adds_and_cuts_off_readers_and_needs_no_superuser(
    environment: dict[str, str], url: str, served: Database, tmp_path: Path
) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE reader_owner LOGIN CREATEROLE PASSWORD 'owner'")
        connection.execute("ALTER DATABASE readers OWNER TO reader_owner; ALTER SCHEMA public OWNER TO reader_owner")
        connection.execute("ALTER SCHEMA leadway_v1 OWNER TO reader_owner")
        owned = connection.execute(
            "SELECT format('ALTER %s %I.%I OWNER TO reader_owner', CASE relkind WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END,"
            " relnamespace::regnamespace, relname) FROM pg_class WHERE relkind IN ('r', 'v')"
            " AND relnamespace IN ('public'::regnamespace, 'leadway_v1'::regnamespace)"
        ).fetchall()
        for (statement,) in owned:
            connection.execute(statement.encode())
    own = sa.make_url(url).set(username="reader_owner", password="owner").render_as_string(hide_password=False)
    run = Commands({**environment, "DATABASE_URL": own})
    add(run, name="reader_2")
    assert run("readers", "remove", "reader_2").exit_code == 0
    add(run, "--location", LOCATION, name="reader_1")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER ROLE reader_owner NOCREATEROLE")
    refused = run("readers", "add", "reader_2")
    assert refused.exit_code == 1
    assert "may not make or drop roles" in refused.output
    with as_reader(url, "reader_1") as reader:
        reader.autocommit = False
        assert len(reader.execute("SELECT * FROM calls").fetchall()) == 1
        with_another_migration(tmp_path, "op.add_column('calls', sa.Column('colour', sa.Text()))")(own)
        with pytest.raises(psycopg.OperationalError):
            reader.execute("SELECT 1")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("REASSIGN OWNED BY reader_owner TO postgres; DROP OWNED BY reader_owner")


def test_readers_are_listed_and_removed_with_their_sessions(run: Commands, url: str, served: Database) -> None:
    add(run, "--location", LOCATION, "--without-words")
    shown = run("readers", "list").output
    assert "reader" in shown
    assert LOCATION in shown
    reader = as_reader(url)
    assert run("readers", "remove", "reader").exit_code == 0

    def is_cut_off() -> bool:
        try:
            reader.execute("SELECT 1")
        except psycopg.OperationalError:
            return True
        return False

    eventually(is_cut_off)
    with pytest.raises(psycopg.OperationalError):
        as_reader(url)
    assert run("readers", "remove", "reader").exit_code == 1
    assert "No readers" in run("readers", "list").output


def test_a_password_is_made_and_works(run: Commands, url: str, served: Database) -> None:
    printed = run("readers", "add", "reader").output
    [password] = [line.strip() for line in printed.splitlines() if line.startswith("  ") and line.strip()]
    with psycopg.connect(url, user="reader", password=password) as reader:
        assert reader.execute("SELECT version FROM contract").fetchone() == ("v1",)


def test_what_everybody_may_read_is_refused_and_leaves_no_role(run: Commands, url: str, served: Database) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("GRANT SELECT ON accounts TO PUBLIC")
        refused = run("readers", "add", "reader")
        assert refused.exit_code == 1
        assert "table accounts" in refused.output
        assert connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'reader'").fetchone() is None


def test_wrong_names_locations_and_passwords_are_refused(run: Commands, url: str, served: Database) -> None:
    assert run("readers", "add", "Reader; DROP").exit_code == 2
    assert run("readers", "add", "reader", "--location", "nowhere").exit_code == 1
    assert run("readers", "add", "reader", "--password-stdin", stdin="short\n").exit_code == 2
    assert run("readers", "add", "postgres").exit_code == 1


@pytest.mark.parametrize("words", [("add", "reader"), ("list",), ("remove", "reader")])
def test_sqlite_has_no_readers(environment: dict[str, str], sqlite_url: str, words: tuple[str, ...]) -> None:
    refused = Commands({**environment, "DATABASE_URL": sqlite_url})("readers", *words)
    assert refused.exit_code == 1
    assert "SQLite has no roles" in refused.output
