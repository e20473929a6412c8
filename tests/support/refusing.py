"""A database that refuses one row by itself, as a constraint would that the code does not know of."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from models.database import Database


@contextmanager
def refusing_call(database: Database, table: str, call_id: str) -> Iterator[None]:
    """Within the block the table takes no row of this call."""
    condition = f"WHEN (NEW.call_id = '{call_id}')"
    if database.engine.dialect.name == "sqlite":
        statements = [
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} {condition} BEGIN SELECT RAISE(ABORT, 'refused'); END"
        ]
        dropping = "DROP TRIGGER refuse"
    else:
        statements = [
            "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'refused' USING errcode = 'check_violation'; END $$",
            f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW {condition} EXECUTE FUNCTION refuse()",
        ]
        dropping = f"DROP TRIGGER refuse ON {table}"
    _execute(database, *statements)
    try:
        yield
    finally:
        _execute(database, dropping)


def _execute(database: Database, *statements: str) -> None:
    with database.transaction() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
