"""The things the double remembers, one class per noun, and how their instants are written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

ALL_SCOPES = frozenset(
    {
        "voice-ai-dashboard.readonly",
        "contacts.readonly",
        "contacts.write",
        "calendars/events.readonly",
        "workflows.readonly",
    }
)


@dataclass
class Location:
    location_id: str
    time_zone: str = "America/New_York"
    intake_secret: str | None = None
    workflows: dict[str, str] = field(default_factory=dict)


@dataclass
class Token:
    token: str
    location_id: str
    scopes: frozenset[str] = ALL_SCOPES
    revoked: bool = False
    expires_at: float | None = None
    """Epoch seconds of the double's clock; None: a static token."""


@dataclass
class Contact:
    contact_id: str
    location_id: str
    first_name: str
    last_name: str
    phone: str
    email: str
    added_at: datetime
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Appointment:
    """`visible_at`: epoch seconds of the double's clock; before that no endpoint shows it."""

    appointment_id: str
    location_id: str
    contact_id: str
    calendar_id: str
    title: str
    starts_at: datetime
    ends_at: datetime
    added_at: datetime
    visible_at: float = 0.0


@dataclass(slots=True)
class PlacedCall:
    """A call log. `versions` are (from epoch seconds, the document as compact JSON), oldest first."""

    call_id: str
    location_id: str
    contact_id: str | None
    agent_id: str
    created_at: datetime
    duration: float
    trial: bool
    action_types: tuple[str, ...]
    placed_at: float
    readable_at: float
    versions: list[tuple[float, bytes]]
    appointment_ids: tuple[str, ...] = ()

    @property
    def created_ms(self) -> int:
        return round(self.created_at.timestamp() * 1000)

    def document(self, now: float, *, oldest: bool = False) -> bytes:
        current = self.versions[0][1]
        for since, document in self.versions[1:]:
            if since <= now and not oldest:
                current = document
        return current


@dataclass(frozen=True)
class Note:
    note_id: str
    location_id: str
    contact_id: str
    body: str
    created_at: datetime
    user_id: str = ""
    title: str = ""
    color: str = ""
    pinned: bool = False


@dataclass(frozen=True)
class Task:
    task_id: str
    location_id: str
    contact_id: str
    title: str
    due_date: str
    completed: bool
    created_at: datetime
    body: str = ""
    assigned_to: str = ""


@dataclass(frozen=True)
class TagWrite:
    """One accepted request to add (or, `removed`, to take away) tags."""

    location_id: str
    contact_id: str
    tags: tuple[str, ...]
    created_at: datetime
    removed: bool = False


@dataclass(frozen=True)
class Enrolment:
    location_id: str
    contact_id: str
    workflow_id: str
    event_start_time: str | None
    created_at: datetime


@dataclass(slots=True)
class SeenRequest:
    """One request to the API, noted on arrival. `status` 0: no whole answer (yet). `fault`: the one that struck."""

    at: float
    kind: str
    method: str
    template: str
    location_id: str
    subject: str
    status: int = 0
    fault: str | None = None


def iso_milliseconds(at: datetime) -> str:
    """`2024-01-15T10:30:00.000Z`, as the API writes instants."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def without(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}
