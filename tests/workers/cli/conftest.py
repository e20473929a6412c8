"""The commands as a person runs them, on a database of their own, and what there is to tell about."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Connection

from models.accounts import accounts
from models.accounts.token_encryption import cipher_for
from models.calls import calls
from models.calls.call_log import Action, CallLog, Source
from models.calls.calls import CALL
from models.database import COMMAND, Database, moment
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP
from models.follow_ups.rules import follow_ups_for
from models.follow_ups.rules_file import load_rules
from models.intake import notifications
from models.work import lifecycle
from models.work.lifecycle import Claim
from models.work.work_rows import WorkKind, WorkStatus
from workers.cli import main

KEY = "yOOLGmZm2jPvkVC9FjV3pT0vU6T4nJX3XcD5xZ2s0bQ="
LOCATION = "ve9EPM428h8vShlRW1KT"
TOKEN = "pit-0c7a9e9e-1111-4222-8333-944455566677"
SECRET = "a-secret-that-nobody-else-has-0123456789"
SUMMARY = "The caller booked a cleaning."
TRANSCRIPT = "human:My name is Jane Roe"


class Commands:
    """`run("accounts", "list")`: the words as typed; everything that was ever printed is kept."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment
        self.printed = ""

    def __call__(self, *words: str, stdin: str | bytes | None = None, **environment: str) -> Result:
        result = CliRunner(env={**self.environment, **environment}).invoke(main, list(words), input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert "Traceback" not in result.output
        self.printed += result.output
        return result


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {"TOKEN_ENCRYPTION_KEYS": KEY, "COLUMNS": "80"}


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEADWAY_LOCATION_ID", "LEADWAY_API_TOKEN", "LEADWAY_INTAKE_SECRET", "REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def run(environment: dict[str, str], database_url: str) -> Commands:
    """On a database with the schema."""
    return Commands({**environment, "DATABASE_URL": database_url})


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    opened = Database(database_url.replace("postgresql://", "postgresql+psycopg://"), limits=COMMAND)
    yield opened
    opened.close()


@dataclass(frozen=True)
class Held:
    """What is in the database: one account, and what a test puts beside it."""

    database: Database

    def do(self, function: Any, *arguments: Any, **named: Any) -> Any:
        with self.database.transaction() as connection:
            return function(connection, *arguments, **named)

    def row(self, call_id: str) -> Any:
        return self.do(calls.get, LOCATION, call_id)

    def follow_up(self, call_id: str) -> Any:
        return self.do(follow_ups.of_call, LOCATION, call_id)[0]

    def announce(self, call_id: str) -> None:
        self.do(calls.announce, LOCATION, call_id)
        self.do(
            notifications.record, f"webhook:{call_id}", location_id=LOCATION, call_id=call_id, dialect="marketplace",
            authenticated_by="ed25519", status="accepted",
        )  # fmt: skip

    def claim(self, work: WorkKind, *key: str) -> Claim:
        claim = lifecycle.claim(self.database, work, key, lease_seconds=60, deadline_seconds=20, worker="worker-1@here")
        assert claim is not None
        return claim

    def store(self, call_id: str, **changes: Any) -> None:
        """Announced, fetched and stored as the worker does it, with its follow-ups planned."""
        self.announce(call_id)
        claim = self.claim(CALL, LOCATION, call_id)
        call_log = replace(_log(call_id), **changes)

        def write(connection: Connection) -> None:
            keyed = calls.save(connection, LOCATION, call_log, read_at=claim.claimed_at, settled=True, stored=claim.row)
            follow_ups.plan(
                connection, LOCATION, call_id, follow_ups_for(call_log, keyed, load_rules(None), location_id=LOCATION)
            )
            lifecycle.complete(connection, claim)

        self.do(write)

    def give_up_call(self, call_id: str, *, cause: str = "not_found") -> None:
        self.announce(call_id)
        self.do(
            lifecycle.dead_letter, self.claim(CALL, LOCATION, call_id), cause=cause, http_status=404, trace_id="trace-7"
        )

    def follow_up_done(self, call_id: str) -> str:
        follow_up_id: str = self.follow_up(call_id)["follow_up_id"]
        claim = self.claim(FOLLOW_UP, follow_up_id)
        assert self.do(follow_ups.intend, claim, seconds=1, body="words")
        self.do(lifecycle.complete, claim, remote_id="note-42", done_at=moment())
        return follow_up_id

    def follow_up_dead(self, call_id: str) -> str:
        follow_up_id: str = self.follow_up(call_id)["follow_up_id"]
        claim = self.claim(FOLLOW_UP, follow_up_id)
        assert self.do(follow_ups.intend, claim, seconds=1, body="words")
        self.do(lifecycle.dead_letter, claim, cause="contact_unknown", http_status=400, intent_at=None)
        return follow_up_id

    def follow_up_unclear(self, call_id: str, *, seconds: float | None = None) -> str:
        """`seconds` None: it waits for a person."""
        follow_up_id: str = self.follow_up(call_id)["follow_up_id"]
        claim = self.claim(FOLLOW_UP, follow_up_id)
        assert self.do(follow_ups.intend, claim, seconds=1, body="words")
        self.do(
            lifecycle.reschedule, claim, seconds=seconds, status=WorkStatus.UNCLEAR, counted=True, error="timed_out",
            unclear_since=moment(),
        )  # fmt: skip
        return follow_up_id


@pytest.fixture
def held(database: Database) -> Held:
    held = Held(database)
    held.do(accounts.add, LOCATION, name="Dental Madrid")
    held.do(accounts.set_token, LOCATION, TOKEN, cipher=cipher_for([KEY]))
    held.do(accounts.set_secret, LOCATION, SECRET)
    return held


def _log(call_id: str) -> CallLog:
    """A call of an hour ago in which an appointment was booked."""
    started_at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    booking = Action(
        action_type="APPOINTMENT_BOOKING", name="Book", action_id="a1", executed_at=started_at + timedelta(seconds=40),
        parameters={"calendarId": "cal"},
    )  # fmt: skip
    return CallLog(
        call_id=call_id, source=Source.FETCH, contact_id="contact-1", agent_id="agent-1", from_number="+34600000000",
        started_at=started_at, duration_seconds=75.0, summary=SUMMARY, transcript=TRANSCRIPT, actions=(booking,),
        document={"id": call_id},
    )  # fmt: skip
