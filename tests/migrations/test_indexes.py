"""Indexes that migrations build while others write to the table."""

from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from migrations.running import StatementTooLong
from models.database import Database
from tests.migrations.copies import with_another_migration
from tests.support.services import PostgresServer

CREATE = "indexes.create_concurrently('ix_calls_colour', 'calls', ['agent_id'])"
DROP = "indexes.drop_concurrently('ix_calls_colour', 'calls')"


def indexes(url: str) -> set[str | None]:
    with closing(Database(url)) as database:
        return {each["name"] for each in sa.inspect(database.engine).get_indexes("calls")}


def test_an_index_is_built_and_dropped_again_on_both_databases(empty_database_url: str, tmp_path: Path) -> None:
    later = with_another_migration(tmp_path, CREATE, downgrade=DROP)
    later(empty_database_url)
    assert "ix_calls_colour" in indexes(empty_database_url)
    later(empty_database_url, revision="0007")
    assert "ix_calls_colour" not in indexes(empty_database_url)
    later(empty_database_url)
    assert "ix_calls_colour" in indexes(empty_database_url)


def test_an_index_that_was_left_half_built_is_built_anew(postgres_server: PostgresServer, tmp_path: Path) -> None:
    url = postgres_server.create_database("half_built", template="leadway_template")
    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_calls_colour')"
    hurried = with_another_migration(tmp_path / "hurried", CREATE, head="statement_timeout_seconds = 1")
    with psycopg.connect(url, autocommit=True) as look:
        with psycopg.connect(url, application_name="an analyst") as reader:
            reader.execute("LOCK TABLE calls IN ROW EXCLUSIVE MODE")
            with pytest.raises(StatementTooLong, match=f"waited for session {reader.info.backend_pid} .an analyst"):
                hurried(url)
            assert look.execute(valid).fetchone() == (False,)
        with_another_migration(tmp_path / "later", CREATE)(url)
        assert look.execute(valid).fetchone() == (True,)
    postgres_server.drop_database("half_built")
