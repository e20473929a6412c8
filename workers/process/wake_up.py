"""Wake-ups of the dispatcher: a message that something is due, for which no caller waits.

A wake-up is a hint: each worker dispatches every second anyway. So a wake-up that fails is forgotten, and many at once
become one message in flight and one after it.
"""

from models.failpoints import failpoint
from workers.app import HOUSEKEEPING, app
from workers.process.ticks import Tick
from workers.telemetry import metrics

PAUSE_SECONDS = 0.03
"""Between two wake-ups: bounds what a flood of calls spends on them."""


@metrics.WAKE_UP_FAILURES.count_exceptions()
def send_wake_up() -> None:
    """Puts one `due.dispatch` into Redis, unless a message waits in its queue. Raises what Redis raises.

    A wake-up that waits there will find the row of this one too. If something else waits there, no worker has a free
    slot, and the end of an attempt or the next second brings a dispatch.
    """
    failpoint("wake_up_before_send")
    with app.producer_or_acquire() as producer:
        if not producer.channel.client.llen(HOUSEKEEPING):
            app.send_task("due.dispatch", queue=HOUSEKEEPING, producer=producer, retry=False)


class Waker(Tick):
    """Sends wake-ups in a thread of its own. The first wake-up starts the thread, so that it runs after any fork."""

    def __init__(self) -> None:
        super().__init__(send_wake_up, pause_seconds=PAUSE_SECONDS)

    def wake(self) -> None:
        """Asks for a wake-up and returns at once, whatever Redis does."""
        super().wake()
        self.start()
