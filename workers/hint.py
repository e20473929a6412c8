"""A message in a worker's hands: a hint, which nobody acknowledges."""

from celery.worker.request import Request


class Hint(Request):
    """The queues keep nothing for an acknowledgement, so Celery's would be a round trip for nothing. And worse: an
    attempt that starts just as Redis goes away hands its acknowledgement to the main thread, which carries it out on
    the lost connection after the next one was made: AttributeError, and the worker ends."""

    def acknowledge(self) -> None:
        self.acknowledged = True
