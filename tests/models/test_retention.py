"""Retention: the registry of a person's words misses no document and names only columns that exist."""

import sqlalchemy as sa

from models.retention import WORDS
from models.schema import metadata

WITHOUT_WORDS = {("rejection_counts", "trace")}
"""JSON that holds sizes, a content type and kinds of credentials."""


def test_every_document_is_registered() -> None:
    documents = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, sa.JSON)
    }
    registered = {(table.name, name) for table, emptied in WORDS.items() for name in emptied}
    assert documents - registered == WITHOUT_WORDS


def test_an_emptied_value_fits_its_column() -> None:
    for table, emptied in WORDS.items():
        for name, value in emptied.items():
            assert value is not None or table.c[name].nullable, f"{table.name}.{name}"
