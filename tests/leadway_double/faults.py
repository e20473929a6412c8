"""What can go wrong on purpose: the faults, and the board on which tests pin them."""

import itertools
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


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
    SHORTENED = "shortened"
    """list, list_notes, list_tasks, appointments: only the first `count` rows."""
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


class FaultBoard:
    """The pinned faults, in the order of pinning; the first that matches and strikes is the one."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._faults: dict[int, Fault] = {}

    def pin(self, fault: Fault) -> int:
        with self._lock:
            fault.fault_id = next(self._ids)
            self._faults[fault.fault_id] = fault
            return fault.fault_id

    def clear(self, fault_id: int | None = None) -> None:
        with self._lock:
            if fault_id is None:
                self._faults.clear()
            else:
                self._faults.pop(fault_id, None)

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
