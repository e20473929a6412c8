"""The operators' pages, asked by a browser that is signed in, on a database with one account."""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from models.calls.call_log import CallLog
from models.database import WEB, Database
from models.settings import read_settings
from tests.support.rows import ENCRYPTION_KEY, add_account, call_log
from webhook.ops import pages
from webhook.verdict_copy import verdict_copy

NO_REDIS = "redis://127.0.0.1:1/0"
PASSWORD = "öps-pässword-längst"


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


def pages_on(database_url: str, *, redis_url: str = NO_REDIS, password: str | None = PASSWORD, **more: str) -> Pages:
    """`more`: settings, by their names in the environment."""
    app = Flask("webhook", static_folder=None)
    given = {
        "DATABASE_URL": database_url, "REDIS_URL": redis_url, "OPS_PASSWORD": password or "",
        "TOKEN_ENCRYPTION_KEYS": ENCRYPTION_KEY, **more,
    }  # fmt: skip
    settings = read_settings(given)
    database = Database(settings.database_url, limits=WEB)
    app.register_blueprint(pages.blueprint_for(database, settings, verdict_copy(database, settings)))
    return Pages(app.test_client())


@pytest.fixture
def ops(database_url: str, redis_url: str) -> Pages:
    return pages_on(database_url, redis_url=redis_url)


@pytest.fixture
def database(unserved: Database) -> Database:
    """With one account, in Madrid."""
    add_account(unserved, name="Clínica", time_zone="Europe/Madrid")
    return unserved


def a_call(call_id: str, **fields: Any) -> CallLog:
    """A log of January 2024."""
    return call_log(
        call_id,
        **{
            "contact_id": "CONTACT", "from_number": "+34911234567", "duration_seconds": 95.0, "summary": "A summary.",
            "started_at": datetime(2024, 1, 15, 10, 30, tzinfo=UTC), "transcript": "bot:Hello.\nhuman:Hi.", **fields,
        },
    )  # fmt: skip
