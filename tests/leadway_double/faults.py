"""What can go wrong on purpose: the faults, and the board on which tests pin them."""

import itertools
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

HOLD_LOOK_SECONDS = 0.1
"""How soon a held request notices that the double stops."""


class What(StrEnum):
    """What happens instead of (or around) an honest answer."""

    STATUS = "status"
    """Not executed; answers `status`, `body`, `retry_after`."""
    RESET = "reset"
    """Not executed; the connection is reset."""
    HANG = "hang"
    """Not executed, never answered; waits until the client leaves."""
    DELAY = "delay"
    """Executed and answered `seconds` later, whether or not the client still listens."""
    DO_THEN_STATUS = "do_then_status"
    """Executed, then answers `status` (500, 422, …)."""
    DO_THEN_RESET = "do_then_reset"
    """Executed, then the connection is reset."""
    DO_THEN_HANG = "do_then_hang"
    """Executed at once, never answered."""
    DO_LATE = "do_late"
    """Never answered; executed `seconds` after the client has given up."""
    HOLD = "hold"
    """Under way until `release`; then executed and answered, whether or not the client still listens."""
    DO_THEN_HOLD = "do_then_hold"
    """Executed at once; the answer is held until `release`."""
    DRIP = "drip"
    """Executed; the answer trickles in over `seconds`."""
    BROKEN_JSON = "broken_json"
    """Executed; the success status with half of the JSON and a matching length."""
    TRUNCATED = "truncated"
    """Executed; half of the promised body, then the connection closes."""
    REDIRECT = "redirect"
    """Not executed; `status` (302) to `to`."""
    WRONG_DOCUMENT = "wrong_document"
    """fetch: another call's log. get_contact, get_note, appointment: the right one under another id."""
    OLDER_COPY = "older_copy"
    """fetch, list: each log as it was when first written."""
    LAGGING = "lagging"
    """list_notes, list_tasks, appointments: hides what is younger than `seconds`."""
    CUT_BODY = "cut_body"
    """create_note: the note is kept without its last line, and returned so."""
    SHORTENED = "shortened"
    """list, list_notes, list_tasks, appointments: only the first `count` rows."""
    CAPPED = "capped"
    """list: pages hold at most `count` rows, whatever was asked for."""
    SAME_PAGE = "same_page"
    """list: every page is the first one."""
    WRONG_TOTAL = "wrong_total"
    """list: the total is wrong by `count`."""
    UNDERTOLD = "undertold"
    """list: pages hold at most `count` rows, and the total tells no more than the first of them shows."""
    NO_TOTAL = "no_total"
    """list: no total is told; pages hold at most `count` rows, if that is not 0."""
    SHUFFLED = "shuffled"
    """list: calls that share a start come in another order each time; pages hold at most `count` rows."""
    BARE = "bare"
    """list: rows lack `executedCallActions`."""
    SHIFTING = "shifting"
    """list: after the page is served a new call appears just before its first row."""


@dataclass(eq=False)
class Fault:
    """`kind`: an endpoint kind or `*`. `only`: an id in the path (call, contact, note, …) or a location id.
    `times`: how many requests it hits, None until cleared. `skip`: lets that many matching requests pass first."""

    what: What
    kind: str = "*"
    only: str | None = None
    times: int | None = None
    skip: int = 0
    probability: float = 1.0
    seconds: float = 0.0
    status: int = 0
    retry_after: float | None = None
    body: Any = None
    to: str | None = None
    count: int = 0
    fault_id: int = 0
    hits: int = field(default=0, init=False)
    held: list[int] = field(default_factory=list, init=False)
    """The client's port of each request that HOLD or DO_THEN_HOLD has stopped so far."""


class FaultBoard:
    """The pinned faults, in the order of pinning; the first that matches and strikes is the one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._faults: dict[int, Fault] = {}
        self._released: dict[int, threading.Event] = {}
        self._dropped: set[int] = set()

    def pin(self, fault: Fault) -> int:
        with self._lock:
            fault.fault_id = next(self._ids)
            self._faults[fault.fault_id] = fault
            self._released[fault.fault_id] = threading.Event()
            return fault.fault_id

    def clear(self, fault_id: int | None = None) -> None:
        """What a cleared fault holds goes on."""
        with self._lock:
            for each in list(self._faults) if fault_id is None else [fault_id]:
                self._faults.pop(each, None)
                if each in self._released:
                    self._released.pop(each).set()

    def release(self, fault_id: int, *, executed: bool = True) -> None:
        """What the fault holds goes on, or is never executed, and it holds nothing more."""
        with self._lock:
            if not executed:
                self._dropped.add(fault_id)
            self._released[fault_id].set()

    def wait_for_release(self, fault: Fault, *, client_port: int, stopping: threading.Event) -> bool:
        """Holds a request; False when the double stops first, or the request is never to be executed."""
        with self._lock:
            released = self._released.get(fault.fault_id)
            fault.held.append(client_port)
        while released is not None and not released.wait(HOLD_LOOK_SECONDS):
            if stopping.is_set():
                return False
        return fault.fault_id not in self._dropped

    def pinned(self) -> list[Fault]:
        with self._lock:
            return list(self._faults.values())

    def take(self, kind: str, subjects: Sequence[str]) -> Fault | None:
        """The fault that strikes a request of this kind about these ids; counts it."""
        if not self._faults:
            return None
        with self._lock:
            for fault in self._faults.values():
                if _matches(fault, kind, subjects) and self._strikes(fault):
                    fault.hits += 1
                    return fault
            return None

    def _strikes(self, fault: Fault) -> bool:
        if fault.times is not None and fault.hits >= fault.times:
            return False
        if fault.skip > 0:
            fault.skip -= 1
            return False
        return fault.probability >= 1.0 or self._random.random() < fault.probability


def _matches(fault: Fault, kind: str, subjects: Sequence[str]) -> bool:
    return fault.kind in ("*", kind) and (fault.only is None or fault.only in subjects)
