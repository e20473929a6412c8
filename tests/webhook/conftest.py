"""The web application in this process, asked by Flask's test client, and the Leadway double that writes to it."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self

import pytest
import sqlalchemy as sa
from werkzeug.test import TestResponse

from models.database import COMMAND, Database
from models.settings import Secret, Settings
from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.notifications import Message
from tests.support.rows import ENCRYPTION_KEY
from webhook import receiver
from webhook.app import create_app
from webhook.receiver import Receiver
from workers.take_in import take_in
from workers.telemetry.logs import set_up_logs

SITE = "http://127.0.0.1/webhooks/leadway"
PATH = "/webhooks/leadway"
PATIENCE_SECONDS = 30.0


class Intake:
    """`with Intake(database_url, redis_url) as intake: intake.post(intake.message(call))`."""

    def __init__(self, database_url: str, redis_url: str, *, patient: bool = True, **settings: Any) -> None:
        """Patient: the database may take its time, so that a busy machine does not make a test of rules fail."""
        self.double = LeadwayDouble(webhook_url=SITE)
        self.settings = Settings(
            **{
                "database_url": database_url,
                "redis_url": redis_url,
                "leadway_location_id": self.double.location_id,
                "leadway_api_token": Secret(self.double.token),
                "leadway_intake_secret": Secret(self.double.intake_secret),
                "leadway_webhook_public_keys": (self.double.public_keys_pem,),
                "token_encryption_keys": (Secret(ENCRYPTION_KEY),),
                "leadway_journal_dir": "off",
                **settings,
            }
        )
        self.app = create_app(self.settings)
        if patient:
            self.receiver.writer.limit_seconds = PATIENCE_SECONDS
        self.secret = {"X-Intake-Secret": self.double.intake_secret}
        self.database = Database(self.settings.database_url, limits=COMMAND)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.receiver.rejection_counter.stop()  # it would write into the database of the next test
        self.receiver.known.stop()
        self.receiver.writer.close()
        self.database.close()

    @property
    def receiver(self) -> Receiver:
        this: Receiver = self.app.extensions[receiver.EXTENSION]
        return this

    def message(self, call: Any = None, **how: Any) -> Message:
        """A realistic notification of a call, which is placed if none is given."""
        return self.double.message(call or self.double.place_call(), **how)[0]

    def post(self, message: Message) -> TestResponse:
        return self.app.test_client().post(message.url, headers=dict(message.headers), data=message.body)

    def send(self, body: bytes, headers: Mapping[str, str] | None = None, *, path: str = PATH) -> TestResponse:
        """Any body; with the account's intake secret in the header unless other headers are given."""
        return self.app.test_client().post(path, headers=self.secret if headers is None else headers, data=body)

    def send_signed(self, body: bytes) -> TestResponse:
        return self.send(body, {"X-GHL-Signature": self.double.sign(body)})

    def take_in(self) -> None:
        """As a worker does within a second."""
        take_in(self.database)

    def rows(self, table: str) -> list[dict[str, Any]]:
        with self.database.reading() as connection:
            return [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()]

    def only_row(self, table: str) -> dict[str, Any]:
        [row] = self.rows(table)
        return row

    @contextlib.contextmanager
    def without_inbox(self) -> Iterator[None]:
        """Nothing can be written down meanwhile."""
        if self.database.inbox is self.database:
            self._change_schema("ALTER TABLE inbox RENAME TO inbox_away")
            yield
            self._change_schema("ALTER TABLE inbox_away RENAME TO inbox")
        else:
            with self.database.inbox.transaction():
                yield

    @contextlib.contextmanager
    def without_accounts(self) -> Iterator[None]:
        """Nobody can tell meanwhile which secrets there are; those that are known are."""
        self._change_schema("ALTER TABLE accounts RENAME TO accounts_away")
        yield
        self._change_schema("ALTER TABLE accounts_away RENAME TO accounts")

    def _change_schema(self, statement: str) -> None:
        with self.database.transaction() as connection:
            connection.execute(sa.text(statement))


@pytest.fixture(autouse=True)
def no_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes and metrics tell what is now: `test_health` looks at the copies themselves."""
    monkeypatch.setattr("webhook.copies.COPY_SECONDS", 0)


@pytest.fixture
def intake(database_url: str, redis_url: str) -> Iterator[Intake]:
    with Intake(database_url, redis_url) as intake:
        yield intake


@pytest.fixture
def log_lines() -> io.StringIO:
    """What the process logs, every level, as in production: JSON, one object per line."""
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        set_up_logs(level="DEBUG", form="json")
    return written
