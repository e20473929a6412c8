"""A connection that is kept is opened anew when it broke, also when it broke twice in a row."""

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from models.database import Database, KeptConnection
from tests.support.rows import on_postgresql


@on_postgresql
def test_after_two_breaks_in_a_row_the_next_statement_has_a_new_connection(database: Database) -> None:
    kept = KeptConnection(database)
    with pytest.raises(OperationalError):
        kept.run(lambda connection: connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())")))
    assert kept.run(lambda connection: connection.execute(sa.text("SELECT 1")).scalar_one()) == 1
    kept.close()
