"""Everything the double knows: locations, tokens, contacts, calls, appointments, and what clients have written."""

import bisect
import heapq
import random
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime

from tests.leadway_double.nouns import (
    Appointment,
    Contact,
    Enrolment,
    Location,
    Note,
    PlacedCall,
    SeenRequest,
    TagWrite,
    Task,
    Token,
)


class Memory:
    """Guarded by `lock`: whoever reads or writes more than one thing holds it."""

    def __init__(self, *, seed: int) -> None:
        self.lock = threading.RLock()
        self.clock_offset = 0.0
        self.envelope = "total"
        self.locations: dict[str, Location] = {}
        self.tokens: dict[str, Token] = {}
        self.contacts: dict[str, Contact] = {}
        self.calls: dict[str, PlacedCall] = {}
        self.appointments: dict[str, Appointment] = {}
        self.notes: list[Note] = []
        self.tasks: list[Task] = []
        self.tag_writes: list[TagWrite] = []
        self.enrolments: list[Enrolment] = []
        self.requests: list[SeenRequest] = []
        self.notes_of: dict[str, list[Note]] = defaultdict(list)
        self.tasks_of: dict[str, list[Task]] = defaultdict(list)
        self.appointments_of: dict[str, list[Appointment]] = defaultdict(list)
        self._ids = random.Random(f"ids {seed}")
        self._listed: dict[tuple[str, bool], list[PlacedCall]] = defaultdict(list)
        self._unlisted: list[tuple[float, str]] = []

    def now(self) -> float:
        """Epoch seconds of the double's clock."""
        return time.time() + self.clock_offset

    def now_utc(self) -> datetime:
        return datetime.fromtimestamp(self.now(), UTC)

    def new_id(self) -> str:
        """24 hex digits, the only form of a call-log id that was ever seen live."""
        with self.lock:
            return f"{self._ids.getrandbits(96):024x}"

    def add_call(self, call: PlacedCall, *, listed_at: float) -> None:
        with self.lock:
            if call.call_id in self.calls:
                raise ValueError(f"call {call.call_id} is already placed")
            self.calls[call.call_id] = call
            heapq.heappush(self._unlisted, (listed_at, call.call_id))

    def add_appointment(self, appointment: Appointment) -> None:
        with self.lock:
            self.appointments[appointment.appointment_id] = appointment
            self.appointments_of[appointment.contact_id].append(appointment)

    def add_note(self, note: Note) -> None:
        with self.lock:
            self.notes.append(note)
            self.notes_of[note.contact_id].append(note)

    def add_task(self, task: Task) -> None:
        with self.lock:
            self.tasks.append(task)
            self.tasks_of[task.contact_id].append(task)

    def listed_calls(
        self, location_id: str, *, trial: bool, from_ms: int | None, to_ms: int | None
    ) -> list[PlacedCall]:
        """The location's calls that a list may show now, oldest first, both bounds included."""
        with self.lock:
            self._list_what_is_due()
            index = self._listed[location_id, trial]
            start = 0 if from_ms is None else bisect.bisect_left(index, from_ms, key=_created_ms)
            end = len(index) if to_ms is None else bisect.bisect_right(index, to_ms, key=_created_ms)
            return index[start:end]

    def _list_what_is_due(self) -> None:
        now = self.now()
        while self._unlisted and self._unlisted[0][0] <= now:
            _, call_id = heapq.heappop(self._unlisted)
            call = self.calls[call_id]
            bisect.insort(self._listed[call.location_id, call.trial], call, key=_created_ms)


def _created_ms(call: PlacedCall) -> int:
    return call.created_ms
