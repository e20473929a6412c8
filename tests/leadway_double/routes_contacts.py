"""The contact endpoints: the contact, its notes, tasks, tags, workflow enrolments and appointments."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from tests.leadway_double.answers import Answer, Asked, error
from tests.leadway_double.faults import Fault, What
from tests.leadway_double.memory import Memory
from tests.leadway_double.nouns import Appointment, Enrolment, Note, TagWrite, Task, iso_milliseconds

UNKNOWN_CONTACT = "Contact not found"


def get_contact(memory: Memory, asked: Asked) -> Answer:
    contact = memory.contacts.get(asked.ids["contactId"])
    if contact is None:
        return error(404, UNKNOWN_CONTACT)
    document = {
        "id": _other_id(asked.fault) or contact.contact_id,
        "locationId": contact.location_id,
        "firstName": contact.first_name,
        "lastName": contact.last_name,
        "email": contact.email,
        "phone": contact.phone,
        "timezone": memory.locations[contact.location_id].time_zone,
        "dnd": False,
        "tags": list(contact.tags),
        "customFields": [],
        "dateAdded": iso_milliseconds(contact.added_at),
    }
    return Answer(200, {"contact": document})


def list_notes(memory: Memory, asked: Asked) -> Answer:
    if asked.ids["contactId"] not in memory.contacts:
        return error(404, UNKNOWN_CONTACT)
    shown = _shown(memory, memory.notes_of[asked.ids["contactId"]], asked.fault)
    return Answer(200, {"notes": [_note_document(note) for note in reversed(shown)]})


def get_note(memory: Memory, asked: Asked) -> Answer:
    for note in memory.notes_of[asked.ids["contactId"]]:
        if note.note_id == asked.ids["id"]:
            return Answer(200, {"note": _note_document(note) | _wrong(asked.fault)})
    return error(404, "Note not found")


def create_note(memory: Memory, asked: Asked) -> Answer:
    rules = {"body": str, "userId": str, "title": str, "color": str, "pinned": bool}
    if refused := _refuse(memory, asked, rules, required=("body",)):
        return refused
    note = Note(
        note_id=memory.new_id()[:20],
        location_id=asked.location_id,
        contact_id=asked.ids["contactId"],
        body=_kept(asked),
        created_at=memory.now_utc(),
        user_id=asked.body.get("userId", ""),
        title=asked.body.get("title", ""),
        color=asked.body.get("color", ""),
        pinned=asked.body.get("pinned", False),
    )
    memory.add_note(note)
    return Answer(201, {"note": _note_document(note)})


def _kept(asked: Asked) -> str:
    body: str = asked.body["body"]
    return body.rpartition("\n")[0] if asked.fault and asked.fault.what is What.CUT_BODY else body


def list_tasks(memory: Memory, asked: Asked) -> Answer:
    if asked.ids["contactId"] not in memory.contacts:
        return error(404, UNKNOWN_CONTACT)
    shown = _shown(memory, memory.tasks_of[asked.ids["contactId"]], asked.fault)
    return Answer(200, {"tasks": [_task_document(task) for task in shown]})


def create_task(memory: Memory, asked: Asked) -> Answer:
    rules = {"title": str, "body": str, "dueDate": str, "completed": bool, "assignedTo": str}
    if refused := _refuse(memory, asked, rules, required=("title", "dueDate", "completed")):
        return refused
    try:
        datetime.fromisoformat(asked.body["dueDate"])
    except ValueError:
        return error(422, ["dueDate must be a valid ISO 8601 date string"])
    task = Task(
        task_id=memory.new_id()[:20],
        location_id=asked.location_id,
        contact_id=asked.ids["contactId"],
        title=asked.body["title"],
        due_date=asked.body["dueDate"],
        completed=asked.body["completed"],
        created_at=memory.now_utc(),
        body=asked.body.get("body", ""),
        assigned_to=asked.body.get("assignedTo", ""),
    )
    memory.add_task(task)
    return Answer(201, {"task": _task_document(task)})


def add_tags(memory: Memory, asked: Asked) -> Answer:
    return _write_tags(memory, asked, removed=False)


def remove_tags(memory: Memory, asked: Asked) -> Answer:
    return _write_tags(memory, asked, removed=True)


def enrol(memory: Memory, asked: Asked) -> Answer:
    if refused := _refuse(memory, asked, {"eventStartTime": str}, required=()):
        return refused
    if asked.ids["workflowId"] not in memory.locations[asked.location_id].workflows:
        return error(404, "Workflow not found")
    memory.enrolments.append(
        Enrolment(
            asked.location_id,
            asked.ids["contactId"],
            asked.ids["workflowId"],
            (asked.body or {}).get("eventStartTime"),
            memory.now_utc(),
        )
    )
    return Answer(200, {"succeded": True})


def list_appointments(memory: Memory, asked: Asked) -> Answer:
    """Times as `YYYY-MM-DD HH:MM:SS` of the location's time zone, the zone not said: as the vendor does here."""
    if asked.ids["contactId"] not in memory.contacts:
        return error(404, UNKNOWN_CONTACT)
    zone = ZoneInfo(memory.locations[asked.location_id].time_zone)
    now = memory.now()
    visible = [a for a in memory.appointments_of[asked.ids["contactId"]] if a.visible_at <= now]
    shown = _shown(memory, visible, asked.fault)
    return Answer(200, {"events": [_appointment_document(appointment, zone) for appointment in shown]})


def _write_tags(memory: Memory, asked: Asked, *, removed: bool) -> Answer:
    if refused := _refuse(memory, asked, {"tags": list}, required=("tags",)):
        return refused
    tags = asked.body["tags"]
    if not all(isinstance(tag, str) for tag in tags):
        return error(422, ["each value in tags must be a string"])
    contact = memory.contacts[asked.ids["contactId"]]
    if removed:
        contact.tags = [tag for tag in contact.tags if tag not in tags]
    else:
        contact.tags += [tag for tag in dict.fromkeys(tags) if tag not in contact.tags]
    memory.tag_writes.append(
        TagWrite(asked.location_id, contact.contact_id, tuple(tags), memory.now_utc(), removed=removed)
    )
    return Answer(200 if removed else 201, {"tags": list(contact.tags)})


def _refuse(memory: Memory, asked: Asked, rules: Mapping[str, type], *, required: Sequence[str]) -> Answer | None:
    """422 for a body that breaks the rules (an unknown property does), 404 for an unknown contact."""
    body = {} if asked.body is None else asked.body
    if not isinstance(body, dict):
        return error(400, "Bad Request")
    complaints = [f"property {name} should not exist" for name in body if name not in rules]
    complaints += [f"{name} should not be empty" for name in required if body.get(name) in (None, "", [])]
    words = {str: "a string", bool: "a boolean value", list: "an array"}
    complaints += [
        f"{name} must be {words[rule]}"
        for name, rule in rules.items()
        if name in body and not isinstance(body[name], rule)
    ]
    if complaints:
        return error(422, complaints)
    return error(404, UNKNOWN_CONTACT) if asked.ids["contactId"] not in memory.contacts else None


def _shown(memory: Memory, rows: Sequence[Any], fault: Fault | None) -> list[Any]:
    """The rows a list shows, oldest first, as a lagging or shortened list shows them."""
    if fault and fault.what is What.LAGGING:
        newest = memory.now() - fault.seconds
        return [row for row in rows if _since(row).timestamp() <= newest]
    return list(rows[: fault.count] if fault and fault.what is What.SHORTENED else rows)


def _since(row: Any) -> datetime:
    at = row.added_at if isinstance(row, Appointment) else row.created_at
    assert isinstance(at, datetime)
    return at


def _other_id(fault: Fault | None) -> str | None:
    return "000000000000000000000000" if fault and fault.what is What.WRONG_DOCUMENT else None


def _wrong(fault: Fault | None) -> dict[str, Any]:
    other = _other_id(fault)
    return {"id": other} if other else {}


def _note_document(note: Note) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": note.note_id,
        "body": note.body,
        "userId": note.user_id,
        "dateAdded": iso_milliseconds(note.created_at),
        "contactId": note.contact_id,
    }
    optional = {"title": note.title, "color": note.color, "pinned": note.pinned}
    return document | {name: value for name, value in optional.items() if value}


def _task_document(task: Task) -> dict[str, Any]:
    return {
        "id": task.task_id,
        "title": task.title,
        "body": task.body,
        "assignedTo": task.assigned_to,
        "dueDate": task.due_date,
        "completed": task.completed,
        "contactId": task.contact_id,
    }


def _appointment_document(appointment: Appointment, zone: ZoneInfo) -> dict[str, Any]:
    def local(at: datetime) -> str:
        return f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}"

    return {
        "id": appointment.appointment_id,
        "calendarId": appointment.calendar_id,
        "status": "booked",
        "appointmentStatus": "confirmed",
        "title": appointment.title,
        "assignedUserId": "",
        "notes": "",
        "startTime": local(appointment.starts_at),
        "endTime": local(appointment.ends_at),
        "address": "",
        "locationId": appointment.location_id,
        "contactId": appointment.contact_id,
        "groupId": "",
        "users": [],
        "dateAdded": local(appointment.added_at),
        "dateUpdated": local(appointment.added_at),
        "assignedResources": [],
    }
