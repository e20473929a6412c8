"""What really happened, for assertions: everything ever written by clients, everything placed by us."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.leadway_double.memory import Memory
from tests.leadway_double.nouns import Appointment, Enrolment, Note, PlacedCall, SeenRequest, TagWrite, Task


@dataclass(frozen=True)
class Truth:
    """Every method answers a copy: later writes do not change it."""

    memory: Memory

    def notes(self, *, contact_id: str | None = None, containing: str = "") -> list[Note]:
        with self.memory.lock:
            notes = self.memory.notes if contact_id is None else self.memory.notes_of.get(contact_id, [])
            return [note for note in notes if containing in note.body]

    def tasks(self, *, contact_id: str | None = None) -> list[Task]:
        with self.memory.lock:
            return list(self.memory.tasks if contact_id is None else self.memory.tasks_of.get(contact_id, []))

    def tag_writes(self, *, contact_id: str | None = None) -> list[TagWrite]:
        return _of_contact(self.memory.tag_writes, contact_id)

    def enrolments(self, *, contact_id: str | None = None) -> list[Enrolment]:
        return _of_contact(self.memory.enrolments, contact_id)

    def calls(self, *, location_id: str | None = None) -> list[PlacedCall]:
        with self.memory.lock:
            return [call for call in self.memory.calls.values() if location_id in (None, call.location_id)]

    def appointments(self, *, contact_id: str) -> list[Appointment]:
        with self.memory.lock:
            return list(self.memory.appointments_of.get(contact_id, []))

    def requests(self, *, kind: str | None = None, location_id: str | None = None) -> list[SeenRequest]:
        seen = list(self.memory.requests)
        return [r for r in seen if kind in (None, r.kind) and location_id in (None, r.location_id)]


def _of_contact(writes: Sequence[Any], contact_id: str | None) -> list[Any]:
    return [write for write in list(writes) if contact_id in (None, write.contact_id)]
