"""Wake-ups of the dispatcher: a message that something is due, for which no caller waits.

A wake-up is a hint: the schedule starts the dispatcher every second anyway. So a wake-up that fails is forgotten, and
many at once become one message in flight and one after it.
"""

import threading
from collections.abc import Callable

import structlog

from models.failpoints import failpoint
from workers.app import app
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

WAKE_UP_EXPIRES_SECONDS = 2
PAUSE_SECONDS = 0.03
"""Between two wake-ups: bounds what a flood of calls spends on them."""
PAUSE_AFTER_FAILURE_SECONDS = 0.25
MOST_WAITING = 50
"""When this many messages wait in the queue, no wake-up is added: no worker reads the queue, and it would only grow."""


def send_wake_up() -> None:
    """Puts one `due.dispatch` into Redis, unless MOST_WAITING messages wait there. Raises what Redis raises."""
    failpoint("wake_up_before_send")
    with app.producer_or_acquire() as producer:
        if producer.channel.client.llen("housekeeping") < MOST_WAITING:
            app.send_task(
                "due.dispatch", queue="housekeeping", expires=WAKE_UP_EXPIRES_SECONDS, producer=producer, retry=False
            )


class Waker:
    """Sends wake-ups in a thread of its own. The first wake-up starts the thread, so that it runs after any fork.

    `send`: makes one wake-up; may raise.
    """

    def __init__(self, send: Callable[[], None] = send_wake_up) -> None:
        self._send = send
        self._pause_seconds = PAUSE_SECONDS
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._silent = False

    def wake(self) -> None:
        """Asks for a wake-up and returns at once, whatever Redis does."""
        self._woken.set()
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="waker", daemon=True)
                    self._thread.start()

    def wake_by(self, send: Callable[[], None], *, pause_seconds: float) -> None:
        """Replaces what makes a wake-up; `pause_seconds` lie between two of them."""
        self._send, self._pause_seconds = send, pause_seconds

    def stop(self) -> None:
        self._stopped.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(timeout=1)

    def _run(self) -> None:
        while True:
            self._woken.wait()
            if self._stopped.is_set():
                return
            self._woken.clear()
            self._stopped.wait(self._pause_seconds if self._wake_once() else PAUSE_AFTER_FAILURE_SECONDS)

    def _wake_once(self) -> bool:
        try:
            self._send()
        except Exception as error:  # nothing may end the thread: Redis away or refusing, the database away, a bug
            metrics.WAKE_UP_FAILURES.inc()
            if not self._silent:
                log.warning("wake_up_failed", error=type(error).__name__)
            self._silent = True
            return False
        if self._silent:
            log.info("wake_up_recovered")
        self._silent = False
        return True
