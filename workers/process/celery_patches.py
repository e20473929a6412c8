"""The four parts of Celery's worker that are ours, each for a reason that was measured (docs/decisions/0040, 0041)."""

from concurrent.futures import Future
from typing import Any

from celery.concurrency.thread import TaskPool
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu import Connection
from kombu.asynchronous import get_event_loop

EVENTS_EVERY_SECONDS = 0.3
"""So late Flower sees what happened, at most. Celery publishes events in each turn of its loop, which costs more."""


class Hint(Request):
    """A message in a worker's hands: a hint, which nobody acknowledges.

    The queues keep nothing for an acknowledgement, so Celery's would be a round trip for nothing. And worse: an attempt
    that starts just as Redis goes away hands its acknowledgement to the main thread, which carries it out on the lost
    connection after the next one was made: AttributeError, and the worker ends.
    """

    def acknowledge(self) -> None:
        self.acknowledged = True


class WakingPool(TaskPool):
    """Celery's pool of threads; the end of each task wakes the main thread, which looks for the next message.

    While all threads are busy a worker takes no message, and its main thread sleeps until something happens on a
    connection, for up to a second. Celery's acknowledgements, which we do without, are what used to wake it.
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
    """Having something to do is what wakes it."""


class EventsTogether(Consumer):
    """Publishes what happened to tasks a few times a second, many together."""

    def on_send_event_buffered(self) -> None:
        """The timer sees to it."""

    def register_with_event_loop(self, hub: Any) -> None:
        """Called whenever the loop begins, after each loss of the connection too; timers end with it."""
        super().register_with_event_loop(hub)
        hub.call_repeatedly(EVENTS_EVERY_SECONDS, self._flush_events)


class PromptConnection(Connection):
    """Asks for Redis every second while it is away. kombu's own waits longer each time, up to 30 s, and Celery has no
    setting for it: after a long outage the worker would go on sleeping."""

    def ensure_connection(self, *given: Any, **options: Any) -> Any:
        return super().ensure_connection(*given, **{"interval_start": 1, "interval_step": 0, **options})
