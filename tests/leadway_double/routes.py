"""The table of endpoints: method and path to kind, scope and the function that answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from tests.leadway_double import routes_calls, routes_contacts
from tests.leadway_double.answers import NOT_THIS_LOCATION, Answer, Asked, error
from tests.leadway_double.faults import What
from tests.leadway_double.memory import Memory
from tests.leadway_double.nouns import iso_milliseconds


@dataclass(frozen=True)
class Route:
    """`kind` is the name by which faults, counts and the request log speak of the endpoint."""

    kind: str
    method: str
    template: str
    scope: str
    answer: Callable[[Memory, Asked], Answer]


def find(routes: dict[tuple[str, int], list[Route]], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    parts = path.strip("/").split("/")
    for route in routes.get((method, len(parts)), ()):
        ids = _ids(route.template, parts)
        if ids is not None:
            return route, ids
    return None


def table(place: routes_calls.PlaceCall) -> dict[tuple[str, int], list[Route]]:
    """The routes, grouped by method and number of path parts."""

    def list_calls(memory: Memory, asked: Asked) -> Answer:
        return routes_calls.list_calls(memory, asked, place)

    read_calls, read, write = "voice-ai-dashboard.readonly", "contacts.readonly", "contacts.write"
    contacts, one = routes_contacts, "contacts/{contactId}"
    routes = [
        Route("fetch", "GET", "voice-ai/dashboard/call-logs/{callId}", read_calls, routes_calls.fetch),
        Route("list", "GET", "voice-ai/dashboard/call-logs", read_calls, list_calls),
        Route("get_contact", "GET", one, read, contacts.get_contact),
        Route("list_notes", "GET", f"{one}/notes", read, contacts.list_notes),
        Route("create_note", "POST", f"{one}/notes", write, contacts.create_note),
        Route("get_note", "GET", f"{one}/notes/{{id}}", read, contacts.get_note),
        Route("list_tasks", "GET", f"{one}/tasks", read, contacts.list_tasks),
        Route("create_task", "POST", f"{one}/tasks", write, contacts.create_task),
        Route("add_tags", "POST", f"{one}/tags", write, contacts.add_tags),
        Route("remove_tags", "DELETE", f"{one}/tags", write, contacts.remove_tags),
        Route("enrol", "POST", f"{one}/workflow/{{workflowId}}", write, contacts.enrol),
        Route("appointments", "GET", f"{one}/appointments", read, contacts.list_appointments),
        Route(
            "appointment",
            "GET",
            "calendars/events/appointments/{eventId}",
            "calendars/events.readonly",
            get_appointment,
        ),
        Route("workflows", "GET", "workflows", "workflows.readonly", list_workflows),
    ]
    grouped: dict[tuple[str, int], list[Route]] = {}
    for route in routes:
        grouped.setdefault((route.method, route.template.count("/") + 1), []).append(route)
    return grouped


def get_appointment(memory: Memory, asked: Asked) -> Answer:
    """Times as ISO 8601 with the location's offset: the endpoint to ask for the exact instant."""
    appointment = memory.appointments.get(asked.ids["eventId"])
    if appointment is None or appointment.visible_at > memory.now():
        return error(404, "Appointment not found")
    zone = ZoneInfo(memory.locations[appointment.location_id].time_zone)
    wrong = asked.fault is not None and asked.fault.what is What.WRONG_DOCUMENT
    document: dict[str, Any] = {
        "id": "000000000000000000000000" if wrong else appointment.appointment_id,
        "address": "",
        "title": appointment.title,
        "calendarId": appointment.calendar_id,
        "locationId": appointment.location_id,
        "contactId": appointment.contact_id,
        "groupId": "",
        "appointmentStatus": "confirmed",
        "assignedUserId": "",
        "users": [],
        "notes": "",
        "isRecurring": False,
        "startTime": appointment.starts_at.astimezone(zone).isoformat(timespec="seconds"),
        "endTime": appointment.ends_at.astimezone(zone).isoformat(timespec="seconds"),
        "dateAdded": appointment.added_at.astimezone(zone).isoformat(timespec="seconds"),
        "dateUpdated": appointment.added_at.astimezone(zone).isoformat(timespec="seconds"),
        "assignedResources": [],
        "createdBy": {"source": "voice_ai", "userId": ""},
    }
    return Answer(200, {"event": document})


def list_workflows(memory: Memory, asked: Asked) -> Answer:
    if "locationId" not in asked.query:
        return error(403, NOT_THIS_LOCATION)
    since = iso_milliseconds(memory.now_utc())
    workflows = [
        {
            "id": workflow_id,
            "name": name,
            "status": "published",
            "version": 1,
            "locationId": asked.location_id,
            "createdAt": since,
            "updatedAt": since,
        }
        for workflow_id, name in memory.locations[asked.location_id].workflows.items()
    ]
    return Answer(200, {"workflows": workflows})


def _ids(template: str, parts: list[str]) -> dict[str, str] | None:
    ids = {}
    for wanted, part in zip(template.split("/"), parts, strict=True):
        if wanted.startswith("{"):
            ids[wanted[1:-1]] = part
        elif wanted != part:
            return None
    return ids
