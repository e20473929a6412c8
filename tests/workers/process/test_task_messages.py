"""Messages that are made many at once are what Celery itself sends."""

import base64
import json
from typing import Any

from models.calls.calls import CALL
from tests.support.rows import on_sqlite
from tests.support.worker import AtWork
from workers.app import app
from workers.process.task_messages import task_message

OWN = ("id", "root_id")
ARGUMENTS = ("ve9EPM428h8vShlRW1KT", "66f9a9b2c3d4e5f601234567")


@on_sqlite
def test_a_message_is_the_one_that_celery_sends_but_for_its_ids(at_work: AtWork) -> None:
    app.send_task(CALL.task, args=ARGUMENTS, queue=CALL.queue)
    sent = _read(at_work.this.redis.rpop(CALL.queue))
    made = _read(task_message(str(CALL.task), ARGUMENTS, queue=CALL.queue))
    again = _read(task_message(str(CALL.task), ARGUMENTS, queue=CALL.queue))

    ids = [each["headers"]["id"] for each in (sent, made, again)]
    assert len(set(ids)) == 3
    assert [each["properties"]["correlation_id"] for each in (sent, made, again)] == ids
    for each in (sent, made, again):
        assert each["headers"].pop("id") == each["headers"].pop("root_id")
        for name in ("correlation_id", "delivery_tag", "reply_to"):
            assert each["properties"].pop(name)
        each["headers"].pop("origin")
    assert made == again == sent


def _read(raw: Any) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(raw)
    return {**message, "body": json.loads(base64.b64decode(message["body"]))}
