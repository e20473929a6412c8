"""The parts of Celery's worker that are ours, each for a reason that was seen (docs/decisions/0040, 0041, 0081)."""

import json
import os
import sys
import time
from concurrent.futures import Future
from datetime import UTC, datetime
from typing import Any

from celery.apps import worker as celery_worker
from celery.concurrency.thread import TaskPool
from celery.worker.consumer import Consumer
from celery.worker.control import Panel
from celery.worker.request import Request
from kombu.asynchronous import get_event_loop

EVENTS_EVERY_SECONDS = 0.3
"""Flower sees an event this late at most. Celery itself publishes events in each turn of its loop, which costs more."""


STARTING_SECONDS = 30.0
"""So long a worker that has taken from no queue yet counts as one that starts."""
HARMLESS_COMMANDS = ("heartbeat", "enable_events")
"""Of Celery's remote control commands that change something; Flower sends the second."""


def refuse_remote_control() -> None:
    """From now on this process knows the remote commands that only ask, by which Flower sees it. By the others anybody
    who reaches Redis could make a worker look alive and do nothing."""
    for name, command in Panel.meta.items():
        if command.type == "control" and name not in HARMLESS_COMMANDS:
            Panel.data.pop(name, None)


def tell_signals_in_json() -> None:
    """What Celery says in its signal handlers becomes a log line like all others. It is written at once, not logged: a
    handler that waits for the lock of a log would wait for the code that it interrupted."""

    def say(message: str, _file: object = None) -> None:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = json.dumps({"event": message.strip(), "level": "info", "timestamp": at})
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{line}\n".encode())

    celery_worker.safe_say = say


def consumed_queues(consumer: Any) -> str:
    """The queues from which Celery's consumer takes messages now, separated by commas; empty: from none."""
    tasks = getattr(consumer, "task_consumer", None)
    return ",".join(sorted(queue.name for queue in tasks.queues if tasks.consuming_from(queue))) if tasks else ""


class ConsumedQueues:
    """Tells from which queues a worker takes messages; None while it starts, which is no worker that takes nothing."""

    def __init__(self) -> None:
        self._began, self._has_consumed = time.monotonic(), False

    def told(self, worker: Any) -> str | None:
        """`worker`: Celery's; None: it is not made yet."""
        queues = "" if worker is None else consumed_queues(worker.consumer)
        self._has_consumed = self._has_consumed or bool(queues)
        is_starting = not self._has_consumed and time.monotonic() - self._began < STARTING_SECONDS
        return None if is_starting else queues


class Hint(Request):
    """A message that a worker has received: a hint, which is not acknowledged.

    The queues keep nothing for an acknowledgement, so it would be a round trip for nothing. Worse: an attempt that
    starts just as Redis goes away hands its acknowledgement to the main thread. The main thread sends it over the lost
    connection after a new one was made: AttributeError, and the worker ends.
    """

    def acknowledge(self) -> None:
        self.acknowledged = True


class WakingPool(TaskPool):
    """Celery's pool of threads; the end of each task wakes the main thread, which looks for the next message.

    While all threads are busy a worker takes no message, and its main thread sleeps until something happens on a
    connection, for up to a second. Celery's acknowledgements would wake the main thread; this system sends none.
    """

    def on_apply(self, *given: Any, **named: Any) -> Any:
        result = super().on_apply(*given, **named)
        result.f.add_done_callback(_wake_main_thread)  # runs when Celery has taken the task off its books
        return result


def _wake_main_thread(_: "Future[Any]") -> None:
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(_do_nothing)


def _do_nothing() -> None:
    """The loop wakes because it has something to do."""


class EventsTogether(Consumer):
    """Publishes what happened to tasks a few times a second, many together."""

    def on_send_event_buffered(self) -> None:
        """Publishes nothing: the timer does."""

    def register_with_event_loop(self, hub: Any) -> None:
        """Called at each start of the loop, also after a lost connection; the loop's timers end with the loop."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(EVENTS_EVERY_SECONDS, self._flush_events)
