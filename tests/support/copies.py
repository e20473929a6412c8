"""Copies of a database and its restoration, as a backup is taken and played back: all rows, as they were then."""

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import sqlalchemy as sa
from psycopg import sql


class Copy:
    """The database as it is now. PostgreSQL wants that nobody is connected while it is copied or restored."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self._url = sa.make_url(database_url)
        self._file = folder / "copy.db"
        self._name = f"{self._url.database}_copy"
        if self._is_sqlite:
            with (
                closing(sqlite3.connect(str(self._url.database))) as live,
                closing(sqlite3.connect(self._file)) as copy,
            ):
                live.backup(copy)
        else:
            self._make(self._name, of=str(self._url.database))

    def restore(self) -> None:
        """Puts the database back to what it was."""
        if self._is_sqlite:
            with (
                closing(sqlite3.connect(str(self._url.database))) as live,
                closing(sqlite3.connect(self._file)) as copy,
            ):
                copy.backup(live)
        else:
            self._make(str(self._url.database), of=self._name)

    def drop(self) -> None:
        if not self._is_sqlite:
            self._on_server("DROP DATABASE IF EXISTS {} WITH (FORCE)", self._name)

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def _make(self, name: str, *, of: str) -> None:
        self._on_server("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        self._on_server("CREATE DATABASE {} TEMPLATE {}", name, of)

    def _on_server(self, statement: str, *names: str) -> None:
        server = self._url.set(drivername="postgresql", database="postgres")
        with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _copy_sqlite(file: str | Path, *, to: str | Path) -> None:
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)
