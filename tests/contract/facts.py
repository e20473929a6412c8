"""What we hold the Leadway API to: endpoints, success codes, and the fields that we read, with their types.

A field's type is `str`, `num`, `bool`, `obj`, `list`, `instant` (ISO 8601 with zone) or `wall` (date and time without
a zone). `?` after it: may be missing or null. `~`: documented as required, yet missed in live answers; only the
double must have it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Endpoint:
    """`scope` as the token names it. `required` and `optional`: the fields of the body that we may send."""

    kind: str
    method: str
    path: str
    version: str
    scope: str
    success: int
    required: Fields = field(default_factory=dict)
    optional: Fields = field(default_factory=dict)


CALLS, READ, WRITE = "voice-ai-dashboard.readonly", "contacts.readonly", "contacts.write"
SPRING, SUMMER = "2021-04-15", "2021-07-28"

ENDPOINTS = {
    endpoint.kind: endpoint
    for endpoint in (
        Endpoint("fetch", "GET", "voice-ai/dashboard/call-logs/{callId}", SPRING, CALLS, 200),
        Endpoint("list", "GET", "voice-ai/dashboard/call-logs", SPRING, CALLS, 200),
        Endpoint("get_contact", "GET", "contacts/{contactId}", SUMMER, READ, 200),
        Endpoint("list_notes", "GET", "contacts/{contactId}/notes", SUMMER, READ, 200),
        Endpoint("get_note", "GET", "contacts/{contactId}/notes/{id}", SUMMER, READ, 200),
        Endpoint(
            "create_note",
            "POST",
            "contacts/{contactId}/notes",
            SUMMER,
            WRITE,
            201,
            required={"body": "str"},
            optional={"userId": "str", "title": "str", "color": "str", "pinned": "bool"},
        ),
        Endpoint("list_tasks", "GET", "contacts/{contactId}/tasks", SUMMER, READ, 200),
        Endpoint(
            "create_task",
            "POST",
            "contacts/{contactId}/tasks",
            SUMMER,
            WRITE,
            201,
            required={"title": "str", "dueDate": "instant", "completed": "bool"},
            optional={"body": "str", "assignedTo": "str"},
        ),
        Endpoint("add_tags", "POST", "contacts/{contactId}/tags", SUMMER, WRITE, 201, required={"tags": "list"}),
        Endpoint("remove_tags", "DELETE", "contacts/{contactId}/tags", SUMMER, WRITE, 200, required={"tags": "list"}),
        Endpoint(
            "enrol",
            "POST",
            "contacts/{contactId}/workflow/{workflowId}",
            SUMMER,
            WRITE,
            200,
            optional={"eventStartTime": "instant"},
        ),
        Endpoint("appointments", "GET", "contacts/{contactId}/appointments", SUMMER, READ, 200),
        Endpoint(
            "appointment",
            "GET",
            "calendars/events/appointments/{eventId}",
            SPRING,
            "calendars/events.readonly",
            200,
        ),
        Endpoint("workflows", "GET", "workflows", SUMMER, "workflows.readonly", 200),
    )
}

CALL_LOG: Fields = {
    "id": "str",
    "agentId": "str",
    "contactId": "str?",
    "fromNumber": "str?",
    "messageId": "str?",
    "isAgentDeleted": "bool~",
    "createdAt": "instant",
    "duration": "num",
    "trialCall": "bool~",
    "executedCallActions": "list~",
    "summary": "str~",
    "transcript": "str~",
    "translation": "obj?",
    "extractedData": "obj?",
}
ACTION: Fields = {
    "actionType": "str",
    "actionName": "str",
    "actionId": "str?",
    "actionParameters": "obj?",
    "executedAt": "instant?",
    "triggerReceivedAt": "instant?",
}
PARAMETERS: Mapping[str, Fields] = {
    "CALL_TRANSFER": {"transferToType": "str", "transferToValue": "str", "triggerMessage": "str~"},
    "SMS": {"triggerPrompt": "str", "triggerMessage": "str", "messageBody": "str"},
    "DATA_EXTRACTION": {"contactFieldId": "str", "description": "str", "overwriteExistingValue": "bool?"},
    "IN_CALL_DATA_EXTRACTION": {"contactFieldId": "str", "description": "str", "overwriteExistingValue": "bool?"},
    "WORKFLOW_TRIGGER": {"triggerPrompt": "str", "triggerMessage": "str", "workflowId": "str"},
    "APPOINTMENT_BOOKING": {
        "calendarId": "str",
        "daysOfOfferingDates": "num",
        "slotsPerDay": "num",
        "hoursBetweenSlots": "num",
    },
    "CUSTOM_ACTION": {"triggerPrompt": "str", "triggerMessage": "str", "apiDetails": "obj"},
    "KNOWLEDGE_BASE": {"triggerPrompt": "str", "knowledgeBaseId": "str"},
}
CONTACT: Fields = {
    "id": "str",
    "locationId": "str",
    "firstName": "str?",
    "lastName": "str?",
    "email": "str?",
    "phone": "str?",
    "tags": "list?",
    "timezone": "str?",
}
NOTE: Fields = {"id": "str", "body": "str", "dateAdded": "instant", "contactId": "str", "userId": "str?"}
TASK: Fields = {
    "id": "str",
    "title": "str",
    "dueDate": "instant",
    "completed": "bool",
    "contactId": "str",
    "body": "str?",
    "assignedTo": "str?",
}
CONTACT_APPOINTMENT: Fields = {
    "id": "str",
    "calendarId": "str",
    "title": "str?",
    "startTime": "wall",
    "endTime": "wall",
    "contactId": "str",
    "locationId": "str",
    "appointmentStatus": "str?",
    "dateAdded": "str",
}
CALENDAR_APPOINTMENT: Fields = {
    "id": "str",
    "title": "str",
    "calendarId": "str",
    "locationId": "str",
    "contactId": "str",
    "appointmentStatus": "str",
    "startTime": "instant",
    "endTime": "instant",
    "dateAdded": "instant",
}
WORKFLOW: Fields = {"id": "str", "name": "str", "status": "str", "locationId": "str"}

RATE_HEADERS = (
    "X-RateLimit-Limit-Daily",
    "X-RateLimit-Daily-Remaining",
    "X-RateLimit-Interval-Milliseconds",
    "X-RateLimit-Max",
    "X-RateLimit-Remaining",
)
