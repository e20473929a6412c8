"""Delivers notifications and repeats them as the vendor does, the same bytes each time."""

import heapq
import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests

from tests.leadway_double.notifications import Message

VENDOR_REPEATS = 12


@dataclass(frozen=True)
class Repeats:
    """When a failed delivery is repeated: `delays` in seconds, one per repeat. `only_429`: the vendor's older rule."""

    delays: Sequence[float] = (0.5, 1, 2, 4, 8, 15, 30, 30, 30, 30, 30, 30)
    only_429: bool = False
    timeout: float = 5.0

    def wanted(self, status: int | None) -> bool:
        return status == 429 if self.only_429 else status is None or not 200 <= status < 300


@dataclass(frozen=True)
class Attempt:
    """`status` None: no answer came. `seconds`: from sending to the answer."""

    at: float
    status: int | None
    seconds: float
    answer: str = ""


@dataclass(eq=False)
class Delivery:
    """One notification on its way. `finished` is set after a 2xx or the last repeat."""

    delivery_id: int
    call_id: str
    dialect: str
    proof: str
    message: Message = field(repr=False)
    attempts: list[Attempt] = field(default_factory=list)
    finished: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def status(self) -> int | None:
        """Of the latest attempt."""
        return self.attempts[-1].status if self.attempts else None

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    def wait(self, timeout: float | None = None) -> bool:
        return self.finished.wait(timeout)


class Sender:
    """A handful of threads that post, one that remembers what is to be repeated when."""

    def __init__(self) -> None:
        self.repeats = Repeats()
        self.deliveries: list[Delivery] = []
        self._pool = ThreadPoolExecutor(16, "notifications")
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._due: list[tuple[float, int, Delivery]] = []
        self._order = itertools.count()
        self._wake = threading.Condition()
        self._stopped = False
        self._clockwork = threading.Thread(target=self._repeat_what_is_due, name="repeats", daemon=True)
        self._clockwork.start()

    def send(self, message: Message, *, call_id: str, dialect: str, proof: str) -> Delivery:
        """Starts a delivery and returns at once."""
        delivery = Delivery(next(self._order), call_id, dialect, proof, message)
        self.deliveries.append(delivery)
        self._pool.submit(self._attempt, delivery)
        return delivery

    def resend(self, delivery: Delivery) -> Delivery:
        """The vendor's manual Resend: the original bytes once more."""
        return self.send(delivery.message, call_id=delivery.call_id, dialect=delivery.dialect, proof=delivery.proof)

    def stop(self) -> None:
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._clockwork.join()
        self._pool.shutdown(cancel_futures=True)
        for session in self._sessions:
            session.close()

    def _attempt(self, delivery: Delivery) -> None:
        started, at, status, answer = time.monotonic(), time.time(), None, ""
        message = delivery.message
        try:
            response = self._session().post(
                message.url,
                data=message.body,
                headers=dict(message.headers),
                timeout=self.repeats.timeout,
                allow_redirects=False,
            )
            status, answer = response.status_code, response.text[:500]
        except requests.RequestException as failure:
            answer = type(failure).__name__
        delivery.attempts.append(Attempt(at, status, time.monotonic() - started, answer))
        self._repeat_or_finish(delivery, status)

    def _repeat_or_finish(self, delivery: Delivery, status: int | None) -> None:
        tries = len(delivery.attempts)
        with self._wake:
            if self._stopped or tries > len(self.repeats.delays) or not self.repeats.wanted(status):
                delivery.finished.set()
                return
            due = time.monotonic() + self.repeats.delays[tries - 1]
            heapq.heappush(self._due, (due, next(self._order), delivery))
            self._wake.notify()

    def _repeat_what_is_due(self) -> None:
        with self._wake:
            while not self._stopped:
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    self._pool.submit(self._attempt, heapq.heappop(self._due)[2])
                self._wake.wait(self._due[0][0] - now if self._due else None)

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False
            self._sessions.append(self._local.session)
        session: requests.Session = self._local.session
        return session
