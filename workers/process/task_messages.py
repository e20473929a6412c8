"""Task messages, made many at once: by Celery once for each task, by copying what it made for every other.

Celery's `send_task` costs two thirds of a millisecond for each message. What it would send is taken from a transport in
memory, and only what tells two messages of a task apart is replaced (docs/decisions/0093).
"""

import base64
import json
import secrets
from functools import cache
from typing import Any
from uuid import uuid4

from kombu import Connection, Queue

from workers.app import app


def task_message(task: str, arguments: tuple[str, ...], *, queue: str) -> bytes:
    """What `app.send_task(task, arguments, queue=queue)` puts into Redis, with a task id of its own: what the
    task is about (the last argument), and some letters by which people tell its attempts apart."""
    made, rest_of_body = _made_by_celery(task, queue, len(arguments))
    task_id = f"{arguments[-1]}.{secrets.token_hex(4)}"
    headers = {**made["headers"], "id": task_id, "root_id": task_id, "argsrepr": repr(arguments)}
    properties = {**made["properties"], "correlation_id": task_id, "delivery_tag": str(uuid4())}
    body = base64.b64encode(json.dumps([arguments, *rest_of_body]).encode()).decode()
    return json.dumps({**made, "headers": headers, "properties": properties, "body": body}).encode()


@cache
def _made_by_celery(task: str, queue: str, number: int) -> tuple[dict[str, Any], list[Any]]:
    """A message of this task with so many arguments, and what its body holds beside them."""
    with Connection("memory://") as memory, memory.Producer() as producer, memory.channel() as channel:
        Queue(queue, routing_key=queue)(channel).declare()
        app.send_task(task, args=("",) * number, queue=queue, producer=producer, retry=False)
        message = channel._get(queue)
    if message["properties"]["body_encoding"] != "base64" or message["content-type"] != "application/json":
        raise RuntimeError("Celery writes its messages in another form: see workers/process/task_messages.py")
    return message, json.loads(base64.b64decode(message["body"]))[1:]
