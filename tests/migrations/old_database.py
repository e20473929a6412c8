"""A database as 5fe07bd leaves it (from_5fe07bd/README.md), and the Leadway that its calls come from."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from migrations.upgrading import migrate
from models.accounts.token_encryption import TokenCipher
from models.database import COMMAND, Database, moment
from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.nouns import Note, iso_milliseconds
from tests.support.rows import ENCRYPTION_KEY

FILE = Path(__file__).parent / "from_5fe07bd" / "made.jsonl"
REVISION = "0003"
WORDS = {"transcript": "bot:Hi.\nhuman:Bye.", "summary": "They talked."}


@dataclass
class Made:
    """What the file says, its times as they were then."""

    made_at: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By table. What is null is left out."""
    notes: list[dict[str, str]] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    """Calls that Leadway does not have."""
    statements: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """By database and what it does: SQL and its parameters."""

    def of(self, table: str, *key: str) -> dict[str, dict[str, Any]]:
        """The rows by one column, or by several joined with a space."""
        return {" ".join(str(row[name]) for name in key): row for row in self.rows[table]}


@cache
def read_made() -> Made:
    made = Made()
    for line in FILE.read_text().splitlines():
        name, *said = json.loads(line)
        if name == "made_at":
            made.made_at = datetime.fromisoformat(said[0])
        elif name == "note":
            made.notes.append(said[0])
        elif name == "call that Leadway does not have":
            made.absent.add(said[0])
        elif len(said) == 2:
            made.statements[name] = (said[0], said[1] if isinstance(said[1], dict) else tuple(said[1]))
        else:
            made.rows.setdefault(name, []).append(said[0])
    return made


def load(database_url: str) -> timedelta:
    """Fills an empty database; returns by how much times were moved."""
    made = read_made()
    migrate(database_url, revision=REVISION)
    database = Database(database_url, limits=COMMAND)
    with database.transaction() as connection:
        since = connection.execute(sa.select(moment())).scalar_one() - made.made_at
        moved = timedelta(seconds=round(since.total_seconds()))  # what Leadway tells in milliseconds stays the same
        tables = sa.MetaData()
        tables.reflect(connection)
        for name, rows in made.rows.items():
            table = tables.tables[name]
            for row in rows:
                connection.execute(sa.insert(table).values(_moved(table, row, moved)))
        if database.engine.dialect.name == "postgresql":
            for name, key in (
                ("attempts", "attempt_id"), ("notifications", "notification_id"),
                ("reconciliations", "reconciliation_id"),
            ):  # fmt: skip
                sequence = f"pg_get_serial_sequence('{name}', '{key}')"
                connection.execute(sa.text(f"SELECT setval({sequence}, max({key})) FROM {name}"))
    database.close()
    return moved


def _moved(table: sa.Table, row: dict[str, Any], span: timedelta) -> dict[str, Any]:
    return {
        name: datetime.fromisoformat(value) + span if isinstance(table.c[name].type, sa.DateTime) else value
        for name, value in row.items()
    }


def place_everything(double: LeadwayDouble, *, moved: timedelta) -> None:
    """Leadway has the calls of the rows, complete by now, and the notes that were written."""
    made = read_made()
    cipher = TokenCipher([ENCRYPTION_KEY])
    for row in made.rows["accounts"]:
        if row["location_id"] != double.location_id:
            double.add_location(row["location_id"])
    for grant in made.rows["oauth_grants"]:
        token = cipher.decrypt(grant["refresh_token_encrypted"])
        double.install_app(grant["location_id"], client_id=grant["client_id"], refresh_token=token)
    for row in made.rows["calls"]:
        if row["call_id"] not in made.absent:
            _place(double, row, moved)
    for note in made.notes:
        double.memory.add_note(
            Note(
                note_id=double.memory.new_id()[:20], location_id=double.location_id, contact_id=note["contact_id"],
                body=note["body"], created_at=datetime.now(UTC),
            )
        )  # fmt: skip


def _place(double: LeadwayDouble, row: dict[str, Any], moved: timedelta) -> None:
    document = dict(row.get("document", {}))
    words = {name: document.get(name) or said for name, said in WORDS.items()}
    started_at = None
    if "started_at" in row:
        started_at = datetime.fromisoformat(row["started_at"]) + moved
        document["createdAt"] = iso_milliseconds(started_at)
    double.place_call(
        row["location_id"], call_id=row["call_id"], language="en", actions=[], duration=30, started_at=started_at,
        contact=row.get("contact_id", f"of-{row['call_id']}" if "stored_at" not in row else False),
        trial=row.get("trial_call", False), fields={**document, **words},
    )  # fmt: skip
