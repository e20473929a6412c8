"""The operators' pages over a real database, and calls put into it the way the system does."""

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from models.accounts import accounts
from models.accounts.token_encryption import cipher_for
from models.calls import calls
from models.calls.call_log import Action, CallLog, Source
from models.calls.calls import CALL
from models.database import WEB, WORKER, Database
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP
from models.follow_ups.rules import FollowUpKind, PlannedFollowUp, SkipReason
from models.settings import Settings
from models.work import lifecycle
from models.work.lifecycle import Claim
from webhook.ops import pages

PASSWORD = "öps-pässword"
TOKEN = "pit-token-that-nobody-may-see"
SECRET = "intake-secret-that-nobody-may-see-either"


@dataclass(frozen=True)
class Pages:
    """A browser, signed in."""

    client: FlaskClient

    def get(self, path: str, *, user: str = "ops", password: str = PASSWORD, **more: object) -> TestResponse:
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        return self.client.get(path, headers={"Authorization": f"Basic {credentials}", **more})

    def text(self, path: str, **more: object) -> str:
        response = self.get(path, **more)
        assert response.status_code == 200, response.text
        return response.text


def pages_on(database_url: str, *, password: str | None = PASSWORD) -> Pages:
    app = Flask("webhook", static_folder=None)
    settings = Settings(_env_file=None, database_url=database_url, ops_password=password)
    app.register_blueprint(pages.blueprint_for(Database(settings.database_url, limits=WEB), settings))
    return Pages(app.test_client())


@pytest.fixture
def ops(database_url: str) -> Pages:
    return pages_on(database_url)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """With one account, LOC_1 in Madrid."""
    url = Settings(_env_file=None, database_url=database_url).database_url
    database = Database(url, limits=WORKER)
    with database.transaction() as connection:
        accounts.add(connection, "LOC_1", name="Clínica", time_zone="Europe/Madrid")
        accounts.set_token(connection, "LOC_1", TOKEN, cipher=cipher_for([Fernet.generate_key().decode()]))
        accounts.set_secret(connection, "LOC_1", SECRET)
    yield database
    database.close()


def begun_follow_up(database: Database, **words: str) -> Claim:
    """The one follow-up that is due, claimed, with its request on the way."""
    with database.transaction() as connection:
        follow_up_id = connection.execute(sa.select(follow_ups.follow_ups_table.c.follow_up_id)).scalar_one()
    claim = lifecycle.claim(
        database, FOLLOW_UP, (follow_up_id,), lease_seconds=60, deadline_seconds=20, worker="worker-1"
    )
    assert claim is not None
    with database.transaction() as connection:
        assert follow_ups.intend(connection, claim, seconds=1, **words)
    return claim


def dead_call(database: Database, call_id: str, *, cause: str) -> None:
    """Announced, tried and dead-lettered."""
    with database.transaction() as connection:
        calls.announce(connection, "LOC_1", call_id)
    claim = lifecycle.claim(
        database, CALL, ("LOC_1", call_id), lease_seconds=60, deadline_seconds=20, worker="worker-1"
    )
    assert claim is not None
    with database.transaction() as connection:
        lifecycle.dead_letter(connection, claim, cause=cause)


Store = Callable[..., None]


@pytest.fixture
def store(database: Database) -> Store:
    """Announces a call, claims it, and stores its log as one that was read to the end."""

    def store_call(
        call_id: str,
        *,
        location_id: str = "LOC_1",
        actions: tuple[Action, ...] = (),
        skip_reason: SkipReason | None = None,
        **fields: object,
    ) -> None:
        call_log = CallLog(
            **{
                "call_id": call_id, "source": Source.FETCH, "contact_id": "CONTACT", "from_number": "+34911234567",
                "started_at": datetime(2024, 1, 15, 10, 30, tzinfo=UTC), "duration_seconds": 95.0,
                "summary": "A summary.", "transcript": "bot:Hello.\nhuman:Hi.", "actions": actions, **fields,
            }
        )  # fmt: skip
        with database.transaction() as connection:
            calls.announce(connection, location_id, call_id)
        claim = lifecycle.claim(
            database, CALL, (location_id, call_id), lease_seconds=60, deadline_seconds=20, worker="worker-1"
        )
        assert claim is not None
        with database.transaction() as connection:
            keyed = calls.save(
                connection, location_id, call_log, read_at=claim.claimed_at, settled=True, stored=claim.row
            )
            planned = [
                PlannedFollowUp("a-rule", key, FollowUpKind.NOTE, call_log.contact_id, skip_reason)
                for key, _action in keyed
            ]
            follow_ups.plan(connection, location_id, call_id, planned)
            lifecycle.complete(connection, claim)

    return store_call
