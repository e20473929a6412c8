"""The contract, one plain function per promise: the same for the double and for a live account."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from tests.contract import facts
from tests.contract.facts import ENDPOINTS
from tests.contract.shapes import complaints


@dataclass(frozen=True)
class Account:
    """One location of an API. `live`: not ours, so it is only read, and judged with the leniency of `facts`."""

    url: str
    token: str
    location_id: str
    live: bool = False

    def ask(
        self, kind: str, *, body: Any = None, headers: Mapping[str, str | None] | None = None, **how: Any
    ) -> requests.Response:
        """Asks an endpoint by its kind; keywords fill the path, what is left over becomes the query."""
        endpoint = ENDPOINTS[kind]
        path = endpoint.path
        for name in [name for name in how if f"{{{name}}}" in path]:
            path = path.replace(f"{{{name}}}", how.pop(name))
        sent = {"Authorization": f"Bearer {self.token}", "Version": endpoint.version, "Accept": "application/json"}
        kept = {name: value for name, value in {**sent, **(headers or {})}.items() if value is not None}
        return requests.request(
            endpoint.method,
            f"{self.url}/{path}",
            headers=kept,
            params=how,
            json=body,
            timeout=30,
            allow_redirects=False,
        )

    def call_logs(self, **query: Any) -> list[Any]:
        answer = self.ask("list", locationId=self.location_id, pageSize=10, **query)
        assert answer.status_code == 200
        logs: list[Any] = answer.json()["callLogs"]
        return logs

    def fits(self, document: Any, fields: facts.Fields) -> None:
        found = complaints(document, fields, live=self.live)
        assert not found, found


# Reading


def the_list_has_one_of_the_two_envelopes(account: Account) -> None:
    page = account.ask("list", locationId=account.location_id, page=1, pageSize=2).json()
    assert isinstance(page["callLogs"], list)
    assert len(page["callLogs"]) <= 2
    assert isinstance(page["total"] if "total" in page else page["totalRecords"], int)


def listed_logs_and_their_actions_have_the_documented_fields(account: Account) -> None:
    for log in account.call_logs() + account.call_logs(callType="TRIAL"):
        account.fits(log, facts.CALL_LOG)
        _actions_fit(account, log)


def the_list_can_be_sorted_by_start(account: Account) -> None:
    starts = [log["createdAt"] for log in account.call_logs(sortBy="createdAt", sort="ascend")]
    assert starts == sorted(starts)
    assert [log["createdAt"] for log in account.call_logs()] == sorted(
        (log["createdAt"] for log in account.call_logs()), reverse=True
    )


def a_page_beyond_the_end_is_empty(account: Account) -> None:
    assert account.ask("list", locationId=account.location_id, page=100_000, pageSize=50).json()["callLogs"] == []


def live_and_trial_calls_are_listed_apart(account: Account) -> None:
    assert not any(log.get("trialCall") for log in account.call_logs(callType="LIVE"))
    assert all(log.get("trialCall") for log in account.call_logs(callType="TRIAL"))


def a_single_log_is_bare_and_agrees_with_the_list(account: Account) -> None:
    for listed in account.call_logs()[:3]:
        answer = account.ask("fetch", callId=listed["id"], locationId=account.location_id)
        assert answer.status_code == ENDPOINTS["fetch"].success
        account.fits(answer.json(), facts.CALL_LOG)
        assert [answer.json()[name] for name in ("id", "createdAt")] == [listed["id"], listed["createdAt"]]


def limit_is_no_parameter_of_the_list(account: Account) -> None:
    _refused(account.ask("list", locationId=account.location_id, limit=10), 422)


def a_call_id_of_another_kind_is_refused(account: Account) -> None:
    wrong = account.ask("fetch", callId="CA" + uuid.uuid4().hex, locationId=account.location_id)
    _refused(wrong, 422)
    assert "Call ID is invalid" in _words(wrong)


def an_unknown_call_id_is_refused(account: Account) -> None:
    """Which status a live account gives is not known; a 2xx it must not be."""
    answer = account.ask("fetch", callId=uuid.uuid4().hex[:24], locationId=account.location_id)
    _refused(answer, *((400, 404, 422) if account.live else (404,)))


def a_missing_location_is_403(account: Account) -> None:
    _refused(account.ask("list"), 403)


def a_missing_version_is_401_and_says_so(account: Account) -> None:
    answer = account.ask("list", headers={"Version": None}, locationId=account.location_id)
    _refused(answer, 401)
    assert "version header" in _words(answer)


def an_unknown_token_is_401(account: Account) -> None:
    stranger = {"Authorization": f"Bearer pit-{uuid.uuid4()}"}
    _refused(account.ask("list", headers=stranger, locationId=account.location_id), 401)


def every_answer_tells_the_rate_limit(account: Account) -> None:
    headers = account.ask("list", locationId=account.location_id).headers
    assert all(headers[name].isdecimal() for name in facts.RATE_HEADERS)


def a_contact_and_what_hangs_on_it_have_the_documented_fields(account: Account) -> None:
    for contact_id in _some_contacts(account):
        account.fits(account.ask("get_contact", contactId=contact_id).json()["contact"], facts.CONTACT)
        for note in account.ask("list_notes", contactId=contact_id).json()["notes"]:
            account.fits(note, facts.NOTE)
        for task in account.ask("list_tasks", contactId=contact_id).json()["tasks"]:
            account.fits(task, facts.TASK)


def an_appointment_is_the_same_on_the_contact_and_on_the_calendar(account: Account) -> None:
    for contact_id in _some_contacts(account):
        for event in account.ask("appointments", contactId=contact_id).json()["events"][:3]:
            account.fits(event, facts.CONTACT_APPOINTMENT)
            exact = account.ask("appointment", eventId=event["id"]).json()["event"]
            account.fits(exact, facts.CALENDAR_APPOINTMENT)
            assert exact["calendarId"] == event["calendarId"]


def workflows_have_id_and_name(account: Account) -> None:
    for workflow in account.ask("workflows", locationId=account.location_id).json()["workflows"]:
        account.fits(workflow, facts.WORKFLOW)


# Writing


def a_note_can_be_created_and_read_back(account: Account) -> None:
    contact_id = _some_contacts(account)[0]
    body = {"body": "A note.\nReference: contract", "title": "Contract", "color": "#FFAA00", "pinned": True}
    created = account.ask("create_note", contactId=contact_id, body=body)
    assert created.status_code == ENDPOINTS["create_note"].success
    note = created.json()["note"]
    account.fits(note, facts.NOTE)
    assert {name: note[name] for name in body} == body
    assert account.ask("get_note", contactId=contact_id, id=note["id"]).json()["note"] == note
    assert note in account.ask("list_notes", contactId=contact_id).json()["notes"]


def a_task_can_be_created_and_read_back(account: Account) -> None:
    contact_id = _some_contacts(account)[0]
    body = {"title": "Call back", "dueDate": "2026-12-01T10:00:00.000Z", "completed": False, "body": "Please."}
    created = account.ask("create_task", contactId=contact_id, body=body)
    assert created.status_code == ENDPOINTS["create_task"].success
    account.fits(created.json()["task"], facts.TASK)
    assert created.json()["task"] in account.ask("list_tasks", contactId=contact_id).json()["tasks"]


def tags_are_added_once_and_taken_away(account: Account) -> None:
    contact_id = _some_contacts(account)[0]
    for _ in range(2):
        added = account.ask("add_tags", contactId=contact_id, body={"tags": ["contract"]})
        assert added.status_code == ENDPOINTS["add_tags"].success
        assert added.json()["tags"].count("contract") == 1
    removed = account.ask("remove_tags", contactId=contact_id, body={"tags": ["contract"]})
    assert removed.status_code == ENDPOINTS["remove_tags"].success
    assert "contract" not in removed.json()["tags"]


def a_contact_can_be_enrolled_in_a_workflow(account: Account) -> None:
    workflow = account.ask("workflows", locationId=account.location_id).json()["workflows"][0]
    contact_id = _some_contacts(account)[0]
    body = {"eventStartTime": "2026-12-01T03:30:00+01:00"}
    answer = account.ask("enrol", contactId=contact_id, workflowId=workflow["id"], body=body)
    assert (answer.status_code, answer.json()["succeded"]) == (ENDPOINTS["enrol"].success, True)


def bodies_without_a_required_field_or_with_an_unknown_one_are_422(account: Account) -> None:
    contact_id = _some_contacts(account)[0]
    for kind in ("create_note", "create_task", "add_tags"):
        valid = {name: VALID[rule] for name, rule in ENDPOINTS[kind].required.items()}
        for name in valid:
            lacking = {other: value for other, value in valid.items() if other != name}
            _refused(account.ask(kind, contactId=contact_id, body=lacking), 422)
        _refused(account.ask(kind, contactId=contact_id, body=valid | {"unheardOf": 1}), 422)


VALID: Mapping[str, Any] = {"str": "text", "instant": "2026-12-01T10:00:00Z", "bool": True, "list": ["one"]}

Promise = Callable[[Account], None]
READING: tuple[Promise, ...] = (
    the_list_has_one_of_the_two_envelopes,
    listed_logs_and_their_actions_have_the_documented_fields,
    the_list_can_be_sorted_by_start,
    a_page_beyond_the_end_is_empty,
    live_and_trial_calls_are_listed_apart,
    a_single_log_is_bare_and_agrees_with_the_list,
    limit_is_no_parameter_of_the_list,
    a_call_id_of_another_kind_is_refused,
    an_unknown_call_id_is_refused,
    a_missing_location_is_403,
    a_missing_version_is_401_and_says_so,
    an_unknown_token_is_401,
    every_answer_tells_the_rate_limit,
    a_contact_and_what_hangs_on_it_have_the_documented_fields,
    an_appointment_is_the_same_on_the_contact_and_on_the_calendar,
    workflows_have_id_and_name,
)
WRITING: tuple[Promise, ...] = (
    a_note_can_be_created_and_read_back,
    a_task_can_be_created_and_read_back,
    tags_are_added_once_and_taken_away,
    a_contact_can_be_enrolled_in_a_workflow,
    bodies_without_a_required_field_or_with_an_unknown_one_are_422,
)


def _actions_fit(account: Account, log: Mapping[str, Any]) -> None:
    for action in log.get("executedCallActions") or ():
        account.fits(action, facts.ACTION)
        if known := facts.PARAMETERS.get(action["actionType"]):
            account.fits(action["actionParameters"], known)


def _some_contacts(account: Account) -> list[str]:
    """Up to three contacts of recent calls; none at all would prove nothing."""
    found = list(dict.fromkeys(log["contactId"] for log in account.call_logs() if log.get("contactId")))
    assert found, "no listed call has a contact"
    return found[:3]


def _refused(answer: requests.Response, *statuses: int) -> None:
    """The status, and the error body that goes with it."""
    assert answer.status_code in statuses
    body = answer.json()
    assert body.get("statusCode", answer.status_code) == answer.status_code
    assert isinstance(body["message"], str | list)


def _words(answer: requests.Response) -> str:
    message = answer.json()["message"]
    return message if isinstance(message, str) else " ".join(message)
