"""The migrations: up and down on both databases, one process at a time, and never another schema than the models'."""

import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

import migrations
from migrations import is_current, views
from migrations.upgrading import migrate
from models.accounts import accounts
from models.calls import calls
from models.calls.call_log import Action
from models.database import COMMAND, Database
from models.intake import notifications
from models.schema import metadata
from tests.migrations.copies import with_another_migration
from tests.support import rows
from tests.support.rows import LOCATION, write
from workers.take_in import take_in


@pytest.fixture
def database(empty_database_url: str) -> Iterator[Database]:
    opened = Database(empty_database_url, limits=COMMAND)
    yield opened
    opened.close()


REVERSIBLE = "0006"
IRREVERSIBLE = "0007"
"""The last migration before the first one that cannot be undone."""


def tables(database: Database) -> set[str]:
    """Without the counter of fences, which only SQLite has."""
    return set(sa.inspect(database.engine).get_table_names()) - {"alembic_version", "fence_counter"}


def wanted(database: Database) -> set[str]:
    """SQLite's inbox is a file of its own, which is made where it is opened."""
    return set(metadata.tables) - ({"inbox"} if database.inbox is not database else set())


def drop_everything(database: Database) -> None:
    with database.transaction() as connection:
        views.drop(connection)
    everything = sa.MetaData()
    everything.reflect(database.engine)
    everything.drop_all(database.engine)


def schema_of(database: Database) -> set[tuple[Any, ...]]:
    """Every column, index and constraint, as the database itself tells them; in which order does not matter."""
    queries = OF_SQLITE if database.engine.dialect.name == "sqlite" else OF_POSTGRESQL
    with database.reading() as connection:
        rows = [tuple(row) for query in queries for row in connection.execute(sa.text(query))]
    return {row for row in rows if "alembic_version" not in str(row) and "fence_counter" not in str(row)}


OF_SQLITE = (
    """SELECT t.name, c.name, c.type, c."notnull", c.dflt_value, c.pk
       FROM sqlite_master t, pragma_table_info(t.name) c WHERE t.type = 'table'""",
    """SELECT t.name, f."table", f."from", f."to", f.on_delete
       FROM sqlite_master t, pragma_foreign_key_list(t.name) f WHERE t.type = 'table'""",
    """SELECT t.name, i."unique", i.origin, i.partial, (SELECT group_concat(name) FROM pragma_index_info(i.name))
       FROM sqlite_master t, pragma_index_list(t.name) i WHERE t.type = 'table'""",
    "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL",
)
OF_POSTGRESQL = (
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
       WHERE connamespace = 'public'::regnamespace""",
    """SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
       WHERE table_schema = 'public'""",
)


def test_up_down_and_up_again(empty_database_url: str, database: Database) -> None:
    assert not is_current(database)
    migrate(empty_database_url, revision=REVERSIBLE)
    whole = schema_of(database)
    migrate(empty_database_url, revision="base")
    assert tables(database) == set()
    migrate(empty_database_url, revision=REVERSIBLE)
    assert schema_of(database) == whole
    assert not is_current(database)
    migrate(empty_database_url)
    assert tables(database) == wanted(database)
    assert is_current(database)


def test_a_migration_that_cannot_be_undone_says_so_and_leaves_everything(
    empty_database_url: str, database: Database
) -> None:
    migrate(empty_database_url, revision=IRREVERSIBLE)
    whole = schema_of(database)
    with pytest.raises(NotImplementedError, match="restore the backup"):
        migrate(empty_database_url, revision=REVERSIBLE)
    assert schema_of(database) == whole


def test_migrating_again_keeps_the_rows(empty_database_url: str, database: Database) -> None:
    migrate(empty_database_url)
    with database.transaction() as connection:
        accounts.add(connection, "loc-one")
    migrate(empty_database_url)
    with database.reading() as connection:
        assert accounts.is_served(connection, "loc-one")


def test_models_and_migrations_describe_the_same_schema(empty_database_url: str, database: Database) -> None:
    migrate(empty_database_url)
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differing = [each for each in compare_metadata(context, metadata) if "fence_counter" not in str(each)]
    assert [each for each in differing if database.inbox is database or "inbox" not in str(each)] == []


def test_the_migrations_build_what_the_models_would_build(empty_database_url: str, database: Database) -> None:
    """Also what Alembic's comparison does not see: conditions of indexes, names, what is deleted with what."""
    migrate(empty_database_url)
    migrated = schema_of(database)
    drop_everything(database)
    metadata.create_all(database.engine, [metadata.tables[name] for name in wanted(database)])
    assert schema_of(database) == migrated


def test_several_processes_that_migrate_at_once_make_one_schema(empty_database_url: str, database: Database) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes:
        for each in [processes.submit(migrate, empty_database_url) for _ in range(4)]:
            each.result(60)
    assert tables(database) == wanted(database)
    assert is_current(database)


def test_a_migration_that_fails_leaves_nothing_and_what_ran_before_it_stays(
    empty_database_url: str, database: Database, tmp_path: Path
) -> None:
    body = "op.create_table('half', sa.Column('a', sa.Integer()))\nraise RuntimeError('stopped half-way')"
    with pytest.raises(RuntimeError, match="half-way"):
        with_another_migration(tmp_path / "wrong", body)(empty_database_url)
    assert tables(database) == wanted(database)
    assert is_current(database)
    with_another_migration(tmp_path / "mended", body.partition("\n")[0])(empty_database_url)
    assert tables(database) == {*wanted(database), "half"}


@pytest.mark.parametrize("empty_database_url", ["sqlite"], indirect=True)
def test_what_waits_in_the_inbox_of_sqlite_goes_with_it_into_its_file(
    empty_database_url: str, database: Database
) -> None:
    migrate(empty_database_url, revision="0016")
    with database.transaction() as connection:  # as the code of then did
        connection.execute(
            sa.text(
                "INSERT INTO main.inbox (arrival_id, dedupe_key, location_id, call_id, dialect, authenticated_by,"
                " status, document, received_at) VALUES ('arrival-1', 'one', 'loc-one', 'call-1', 'thin',"
                " 'intake_path', 'accepted', '{}', '2026-05-06 07:08:09.000000')"
            )
        )
        accounts.add(connection, "loc-one")
    migrate(empty_database_url)
    assert [row["arrival_id"] for row in rows.rows_of(database, metadata.tables["inbox"])] == ["arrival-1"]
    take_in(database)
    assert rows.rows_of(database, metadata.tables["inbox"]) == []
    with database.reading() as connection:
        [told] = notifications.of_call(connection, "loc-one", "call-1")
    assert told.received_at == datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_rebuilding_a_table_takes_nothing_from_the_tables_that_refer_to_it(
    empty_database_url: str, database: Database, tmp_path: Path
) -> None:
    migrate(empty_database_url)
    rows.add_account(database)
    write(database, calls.announce, LOCATION, "call-1")
    rows.fetch(database, rows.call_log("call-1", actions=(Action("SMS"),)))
    body = """op.execute("UPDATE calls SET agent_id = ''")
with op.batch_alter_table('calls') as batch:
    batch.alter_column('agent_id', nullable=False)"""
    with_another_migration(tmp_path, body)(empty_database_url)
    with database.reading() as connection:
        assert len(calls.actions_of(connection, LOCATION, "call-1")) == 1
    with database.transaction() as connection:
        connection.execute(sa.delete(calls.calls_table))
    with database.reading() as connection:
        assert calls.actions_of(connection, LOCATION, "call-1") == [], "and what refers to it still does"


DOCUMENT = Path(migrations.__file__).parents[1] / "docs" / "tables.md"


def test_every_table_and_column_is_told_in_the_document() -> None:
    told = set(re.findall(r"`(\w+)`|^## (\w+)(?:, (\w+))?$", DOCUMENT.read_text(), re.MULTILINE))
    names = {name for several in told for name in several if name}
    wanted = {name for table in metadata.tables.values() for name in (table.name, *table.columns.keys())}
    assert wanted - names == set()


def test_the_queries_of_the_document_run(database_url: str) -> None:
    queries = re.findall(r"```sql\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(queries) > 5
    database = Database(database_url)
    with database.transaction() as connection:
        accounts.add(connection, "ve9EPM428h8vShlRW1KT")
    rows.store(database, rows.call_log("call-1", started_at=datetime.now(UTC), extracted_data={"budget": 5}))
    with database.reading() as connection:
        found = [len(connection.execute(sa.text(query)).all()) for query in queries]
    assert sum(found) >= 4
    database.close()
