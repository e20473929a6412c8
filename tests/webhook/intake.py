"""The application in this process, asked through Flask's test client, and what it wrote, read by another connection."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa
from pydantic import SecretStr
from werkzeug.test import TestResponse

from models.calls import calls
from models.calls.call_log import CallLog, Source
from models.database import COMMAND, Database
from models.settings import Settings
from models.work import lifecycle
from models.work.history import Outcome
from models.work.lifecycle import Claim
from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.notifications import Message
from webhook import receiver
from webhook.app import create_app
from webhook.deadline import DeadlinePool
from webhook.receiver import Receiver

SITE = "http://127.0.0.1/webhooks/leadway"
PATH = "/webhooks/leadway"
PATIENCE_SECONDS = 30.0
ENCRYPTION_KEY = SecretStr("yOOLGmZm2jPvkVC9FjV3pT0vU6T4nJX3XcD5xZ2s0bQ=")


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
                "leadway_api_token": SecretStr(self.double.token),
                "leadway_intake_secret": SecretStr(self.double.intake_secret),
                "leadway_webhook_public_keys": (self.double.public_keys_pem,),
                "token_encryption_keys": (ENCRYPTION_KEY,),
                **settings,
            }
        )
        self.app = create_app(self.settings)
        if patient:
            writers = DeadlinePool(self.settings.web_threads, seconds=PATIENCE_SECONDS, name="receipt")
            self.app.extensions[receiver.EXTENSION] = replace(self.receiver, writers=writers)
        self.secret = {"X-Intake-Secret": self.double.intake_secret}
        self._eyes = Database(self.settings.database_url, limits=COMMAND)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.receiver.waker.stop()
        if (
            timer := self.receiver.rejection_counter._timer
        ) is not None:  # it would write into the next test's database
            timer.cancel()
            timer.join()
        self.receiver.database.close()
        self._eyes.close()

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

    def rows(self, table: str) -> list[dict[str, Any]]:
        with self._eyes.reading() as connection:
            return [dict(row) for row in connection.execute(sa.text(f"SELECT * FROM {table}")).mappings()]

    def only_row(self, table: str) -> dict[str, Any]:
        [row] = self.rows(table)
        return row

    def change_schema(self, statement: str) -> None:
        with self._eyes.transaction() as connection:
            connection.execute(sa.text(statement))

    def claim_call(self, call_id: str) -> Claim:
        """As a worker does that begins to read it."""
        key = (self.double.location_id, call_id)
        claim = lifecycle.claim(self._eyes, calls.CALL, key, lease_seconds=3600, deadline_seconds=20, worker="worker-1")
        assert claim is not None
        return claim

    def store_call(self, call_id: str, *, at: datetime, settled: bool = True) -> None:
        """As a worker does that read it at that time; what is not settled is due again in an hour."""
        claim = self.claim_call(call_id)
        call_log = CallLog(call_id=call_id, source=Source.FETCH)
        with self._eyes.transaction() as connection:
            calls.save(connection, self.double.location_id, call_log, read_at=at, settled=settled, stored=claim.row)
            if settled:
                lifecycle.complete(connection, claim)
            else:
                lifecycle.reschedule(connection, claim, seconds=3600, outcome=Outcome.UNSETTLED)
        times = {"stored_at": at, "settled_at": at} if settled else {"stored_at": at}
        self.move_call(call_id, **times)

    def give_up_call(self, call_id: str, *, cause: str) -> None:
        claim = self.claim_call(call_id)
        with self._eyes.transaction() as connection:
            lifecycle.dead_letter(connection, claim, cause=cause)

    def move_call(self, call_id: str, **times: datetime) -> None:
        """What happened to it happened at another time."""
        with self._eyes.transaction() as connection:
            connection.execute(
                sa.update(calls.calls_table).where(calls.calls_table.c.call_id == call_id).values(**times)
            )
