"""The double speaks as its vendor describes: its answers fit the vendor's OpenAPI, and the vendor's own SDK runs on it.

`vendor_openapi.json` holds what the vendor's description of November 2026 says of the endpoints that we use: names,
types, what is required. Three of its faults are set aside here.
"""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from highlevel import HighLevel
from openapi_core import OpenAPI
from openapi_core.contrib.requests import RequestsOpenAPIRequest, RequestsOpenAPIResponse
from openapi_core.exceptions import OpenAPIError

from tests.leadway_double.double import LeadwayDouble

DESCRIPTION = Path(__file__).with_name("vendor_openapi.json")
ACTIONS = [
    "CALL_TRANSFER", "DATA_EXTRACTION", "IN_CALL_DATA_EXTRACTION", "WORKFLOW_TRIGGER", "SMS", "APPOINTMENT_BOOKING",
    "CUSTOM_ACTION", "KNOWLEDGE_BASE",
]  # fmt: skip


def described(url: str) -> OpenAPI:
    """The vendor's description of a server at this address, without its faults."""
    document = json.loads(DESCRIPTION.read_text())
    schemas = document["components"]["schemas"]
    # Two kinds of an action's parameters are the same, so that exactly one of them never fits.
    parameters = schemas["VoiceAiCallActionSchema"]["properties"]["actionParameters"]
    parameters["anyOf"] = parameters.pop("oneOf")
    for name in ("startTime", "endTime", "dateAdded", "dateUpdated"):  # times are text
        schemas["CalendarsCalendarEventDTO"]["properties"][name]["type"] = "string"
    translation = schemas["VoiceAiTranslationSchema"] | {"nullable": True}  # as seen live
    schemas["VoiceAiCallLogDTO"]["properties"]["translation"] = translation
    document["servers"] = [{"url": url}]
    return OpenAPI.from_dict(document)


@pytest.fixture
def double() -> Iterator[LeadwayDouble]:
    with LeadwayDouble() as running:
        yield running


class Vendor:
    """Asks the double, and compares its answers with the description."""

    def __init__(self, double: LeadwayDouble) -> None:
        self.double = double
        self.description = described(double.url)

    def ask(self, method: str, path: str, *, status: int, token: str | None = None, **how: Any) -> Any:
        headers = {"Authorization": f"Bearer {token or self.double.token}", "Version": "2021-07-28"}
        request = requests.Request(method, f"{self.double.url}{path}", headers=headers, **how)
        with requests.Session() as session:
            answer = session.send(session.prepare_request(request), timeout=5)
        assert answer.status_code == status, answer.text
        asked = RequestsOpenAPIRequest(request)
        self.description.validate_response(asked, RequestsOpenAPIResponse(answer))
        return answer.json()


@pytest.fixture
def vendor(double: LeadwayDouble) -> Vendor:
    return Vendor(double)


def test_logs_and_lists_of_calls_are_as_described(vendor: Vendor) -> None:
    here = {"locationId": vendor.double.location_id}
    for action in ACTIONS:
        call = vendor.double.place_call(actions=[action], contact=True)
        log = vendor.ask("GET", f"/voice-ai/dashboard/call-logs/{call.call_id}", status=200, params=here)
        assert [each["actionType"] for each in log["executedCallActions"]] == [action]
    query = {"callType": "LIVE", "sortBy": "createdAt", "sort": "ascend", "page": 1, "pageSize": 50}
    listed = vendor.ask("GET", "/voice-ai/dashboard/call-logs", status=200, params=here | query)
    assert len(listed["callLogs"]) == len(ACTIONS)


def test_what_a_contact_has_and_gets_is_as_described(vendor: Vendor) -> None:
    call = vendor.double.place_call(actions=["APPOINTMENT_BOOKING"], contact=True)
    contact = f"/contacts/{call.contact_id}"
    vendor.ask("GET", contact, status=200)
    made = vendor.ask("POST", f"{contact}/notes", status=201, json={"body": "Called."})
    vendor.ask("GET", f"{contact}/notes", status=200)
    vendor.ask("GET", f"{contact}/notes/{made['note']['id']}", status=200)
    due = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    vendor.ask("POST", f"{contact}/tasks", status=201, json={"title": "Call", "dueDate": due, "completed": False})
    vendor.ask("GET", f"{contact}/tasks", status=200)
    vendor.ask("POST", f"{contact}/tags", status=201, json={"tags": ["called"]})
    vendor.ask("DELETE", f"{contact}/tags", status=200, json={"tags": ["called"]})
    workflow_id = next(iter(vendor.double.memory.locations[call.location_id].workflows))
    vendor.ask("POST", f"{contact}/workflow/{workflow_id}", status=200, json={})
    booked = vendor.ask("GET", f"{contact}/appointments", status=200)["events"]
    vendor.ask("GET", f"/calendars/events/appointments/{booked[0]['id']}", status=200)


@pytest.mark.parametrize(
    ("method", "path", "status", "how"),
    [
        ("GET", "/contacts/{contact}", 401, {"token": "pit-unknown"}),
        ("POST", "/contacts/{contact}/notes", 422, {"json": {}}),
        ("POST", "/contacts/{contact}/tasks", 422, {"json": {"title": "Call"}}),
    ],
)
def test_refusals_are_as_described(vendor: Vendor, method: str, path: str, status: int, how: dict[str, Any]) -> None:
    contact = vendor.double.place_call(contact=True).contact_id
    vendor.ask(method, path.format(contact=contact), status=status, **how)


def test_an_answer_that_is_not_as_described_is_noticed(vendor: Vendor) -> None:
    call = vendor.double.place_call(fields={"duration": "long"})
    with pytest.raises(OpenAPIError):
        vendor.ask(
            "GET", f"/voice-ai/dashboard/call-logs/{call.call_id}", status=200, params={"locationId": call.location_id}
        )


def test_the_vendors_own_sdk_runs_on_the_double(double: LeadwayDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HighLevel, "BASE_URL", double.url)
    call = double.place_call(actions=["APPOINTMENT_BOOKING"], contact=True)
    contact_id = call.contact_id
    assert contact_id is not None

    async def run() -> None:
        client = HighLevel(private_integration_token=double.token)
        try:
            await use(client)
        finally:
            await client.close()

    async def use(client: HighLevel) -> None:
        log = await client.voice_ai.get_call_log(call.call_id, location_id=call.location_id)
        assert log["id"] == call.call_id
        listed = await client.voice_ai.get_call_logs(call.location_id, page=1, page_size=50, call_type="LIVE")
        assert [each["id"] for each in listed["callLogs"]] == [call.call_id]
        note = await client.contacts.create_note(contact_id, {"body": "Called."})
        notes = await client.contacts.get_all_notes(contact_id)
        assert [each["id"] for each in notes["notes"]] == [note["note"]["id"]]
        await client.contacts.add_tags(contact_id, {"tags": ["called"]})
        events = await client.contacts.get_appointments_for_contact(contact_id)
        assert [each["id"] for each in events["events"]] == list(call.appointment_ids)

    asyncio.run(run())
    assert [note.body for note in double.truth.notes()] == ["Called."]
