"""The double answers as the API does: what it lists, refuses, limits and remembers."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.leadway_double.control import RemoteDouble
from tests.leadway_double.double import LeadwayDouble


@pytest.fixture
def double() -> Iterator[LeadwayDouble]:
    with LeadwayDouble() as running:
        yield running


def call(double: LeadwayDouble, method: str, path: str, **how: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {double.token}", "Version": "2021-07-28"} | how.pop("headers", {})
    kept = {name: value for name, value in headers.items() if value is not None}
    return requests.request(method, f"{double.url}/{path}", headers=kept, timeout=5, allow_redirects=False, **how)


def call_logs(double: LeadwayDouble, call_id: str = "", **query: Any) -> requests.Response:
    path = f"voice-ai/dashboard/call-logs/{call_id}".rstrip("/")
    return call(double, "GET", path, params={"locationId": double.location_id} | query)


@pytest.mark.parametrize(
    ("headers", "status", "message"),
    [
        ({"Version": None}, 401, "version header was not found."),
        ({"Version": "2020-01-01"}, 401, "version header is invalid"),
        ({"Authorization": None}, 401, "Invalid token: access token is invalid"),
        ({"Authorization": "Bearer pit-unknown"}, 401, "Invalid Private Integration token"),
    ],
)
def test_the_door_refuses_in_the_words_seen_live(
    double: LeadwayDouble, headers: dict[str, Any], status: int, message: str
) -> None:
    answer = call(double, "GET", "contacts/c1", headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (status, message)
    assert answer.json()["traceId"]


def test_a_token_without_the_scope_gets_401_and_another_locations_token_403(double: LeadwayDouble) -> None:
    placed = double.place_call(contact=True)
    double.remove_scope("voice-ai-dashboard.readonly")
    assert call_logs(double, placed.call_id).json()["message"] == "The token is not authorized for this scope."
    other = double.add_location("loc_other")
    answer = call_logs_with(double, other, placed.call_id)
    assert (answer.status_code, answer.json()["error"]) == (403, "Forbidden")
    contact = call(double, "GET", f"contacts/{placed.contact_id}", headers={"Authorization": f"Bearer {other}"})
    assert contact.status_code == 403


def call_logs_with(double: LeadwayDouble, token: str, call_id: str) -> requests.Response:
    return call(
        double,
        "GET",
        f"voice-ai/dashboard/call-logs/{call_id}",
        params={"locationId": double.location_id},
        headers={"Authorization": f"Bearer {token}"},
    )


def test_a_missing_location_is_403_a_wrong_kind_of_id_422_an_unknown_one_404(double: LeadwayDouble) -> None:
    path = "voice-ai/dashboard/call-logs"
    assert call(double, "GET", path).status_code == 403
    wrong = call_logs(double, "CA0123456789abcdef0123456789abcdef")
    assert (wrong.status_code, wrong.json()["message"]) == (422, ["Call ID is invalid"])
    assert call_logs(double, "0" * 24).status_code == 404


def test_a_revoked_token_is_refused_until_it_is_restored_and_a_rotated_one_gives_way(double: LeadwayDouble) -> None:
    placed = double.place_call()
    double.revoke_token()
    assert call_logs(double, placed.call_id).status_code == 401
    double.restore_token()
    assert call_logs(double, placed.call_id).status_code == 200
    fresh = double.rotate_token(new="pit-fresh")
    assert call_logs(double, placed.call_id).status_code == 401
    assert call_logs_with(double, fresh, placed.call_id).status_code == 200


def test_pages_hold_every_call_once_and_list_rows_lack_extracted_data(double: LeadwayDouble) -> None:
    placed = double.place_calls(23, over=3600, duration=60)
    query: dict[str, Any] = {"sortBy": "createdAt", "sort": "ascend", "pageSize": 10}
    pages = [call_logs(double, page=page, **query).json() for page in (1, 2, 3, 4)]
    rows = [row for page in pages for row in page["callLogs"]]
    assert [row["id"] for row in rows] == [one.call_id for one in placed]
    assert [len(page["callLogs"]) for page in pages] == [10, 10, 3, 0]
    assert pages[0]["total"] == 23
    assert not any("extractedData" in row for row in rows)
    double.set_envelope("totalRecords")
    assert set(call_logs(double).json()) == {"totalRecords", "callLogs"}


def test_filters_narrow_the_list_and_trial_calls_hide_from_live_ones(double: LeadwayDouble) -> None:
    old = double.place_call(ago=5 * 86400, actions=["SMS"], contact=True)
    trial = double.place_call(trial=True)
    new = double.place_call(actions=["CALL_TRANSFER"], contact="c_new")
    assert ids(call_logs(double)) == [new.call_id, old.call_id]
    assert ids(call_logs(double, callType="TRIAL")) == [trial.call_id]
    assert ids(call_logs(double, contactId="c_none,c_new")) == [new.call_id]
    assert ids(call_logs(double, actionType="SMS,KNOWLEDGE_BASE")) == [old.call_id]
    assert ids(call_logs(double, startDate=old.created_ms, endDate=old.created_ms + 1)) == [old.call_id]


def ids(answer: requests.Response) -> list[str]:
    return [row["id"] for row in answer.json()["callLogs"]]


@pytest.mark.parametrize("query", [{"limit": 10}, {"pageSize": 51}, {"page": 0}, {"startDate": 1}, {"callType": "ALL"}])
def test_a_list_query_against_the_rules_is_422_with_a_list_of_messages(
    double: LeadwayDouble, query: dict[str, Any]
) -> None:
    answer = call_logs(double, **query)
    assert answer.status_code == 422
    assert isinstance(answer.json()["message"], list)


def test_writes_are_answered_as_documented_and_kept_as_truth(double: LeadwayDouble) -> None:
    contact = f"contacts/{double.place_call(contact='c1').contact_id}"
    note = call(double, "POST", f"{contact}/notes", json={"body": "Booked. ref-1"})
    assert (note.status_code, call(double, "GET", f"{contact}/notes").json()["notes"]) == (201, [note.json()["note"]])
    assert call(double, "GET", f"{contact}/notes/{note.json()['note']['id']}").json() == note.json()
    task = {"title": "Call back", "dueDate": "2026-01-01T10:00:00Z", "completed": False}
    assert call(double, "POST", f"{contact}/tasks", json=task).status_code == 201
    assert call(double, "POST", f"{contact}/tags", json={"tags": ["hot"]}).json() == {"tags": ["hot"]}
    workflow = call(double, "GET", "workflows/", params={"locationId": double.location_id}).json()["workflows"][0]
    assert call(double, "POST", f"{contact}/workflow/{workflow['id']}", json={}).json() == {"succeded": True}
    assert [kept.body for kept in double.truth.notes(containing="ref-1")] == ["Booked. ref-1"]
    assert len(double.truth.tasks(contact_id="c1")) == len(double.truth.enrolments(contact_id="c1")) == 1
    assert double.truth.tag_writes()[0].tags == ("hot",)
    assert call(double, "POST", f"{contact}/notes", json={"text": "?"}).status_code == 422
    assert call(double, "POST", "contacts/nobody/notes", json={"body": "x"}).status_code == 404


def test_a_booked_appointment_has_local_times_on_the_contact_and_an_offset_on_the_calendar(
    double: LeadwayDouble,
) -> None:
    placed = double.place_call(contact="c1", actions=["APPOINTMENT_BOOKING"], booked=True)
    double.place_call(contact="c2", actions=["APPOINTMENT_BOOKING"], booked=False)
    (event,) = call(double, "GET", "contacts/c1/appointments").json()["events"]
    action = call_logs(double, placed.call_id).json()["executedCallActions"][0]
    assert event["calendarId"] == action["actionParameters"]["calendarId"]
    exact = call(double, "GET", f"calendars/events/appointments/{event['id']}").json()["event"]["startTime"]
    assert exact.startswith(event["startTime"].replace(" ", "T"))
    assert exact[-6:] in ("-05:00", "-04:00")
    assert call(double, "GET", "contacts/c2/appointments").json()["events"] == []


def test_the_limit_refuses_what_exceeds_the_window_and_counts_the_peak(double: LeadwayDouble) -> None:
    double.set_clock(43_200 - time.time() % 86_400)  # noon: no day ends between two requests
    double.set_rate_limit(per_window=3, retry_after=7)
    answers = [call_logs(double) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0", "0"]
    assert answers[-1].headers["Retry-After"] == "7"
    assert double.stats() == {"requests": 5, "refused": 2, "peak": 5, "today": 3}
    assert [seen.status for seen in double.truth.requests(kind="list")] == [200, 200, 200, 429, 429]


def test_a_log_is_late_then_empty_then_full_on_the_doubles_own_clock(double: LeadwayDouble) -> None:
    placed = double.place_call(late=60, empty_for=120, actions_late=120, actions=["SMS"])
    assert (call_logs(double, placed.call_id).status_code, ids(call_logs(double))) == (404, [])
    double.set_clock(61)
    early = call_logs(double, placed.call_id).json()
    assert (early["transcript"], early["summary"], early["executedCallActions"]) == ("", "", [])
    double.set_clock(121)
    assert call_logs(double, placed.call_id).json()["transcript"].startswith("bot:")
    double.change_call(placed.call_id, summary="Rewritten", after=30)
    assert call_logs(double, placed.call_id).json()["summary"] != "Rewritten"
    double.set_clock(152)
    assert call_logs(double, placed.call_id).json()["summary"] == "Rewritten"
    double.fault("fetch", "older_copy", times=1)
    assert call_logs(double, placed.call_id).json()["summary"] == ""


def test_the_same_seed_makes_the_same_people_and_calls() -> None:
    def people(seed: int) -> list[str]:
        quiet = LeadwayDouble(seed=seed)
        quiet.start()
        quiet.place_calls(20)
        quiet.stop()
        return [f"{c.first_name} {c.last_name} {c.phone}" for c in quiet.memory.contacts.values()]

    assert people(7) == people(7) != people(8)


def test_the_control_over_http_does_what_the_object_does(double: LeadwayDouble) -> None:
    remote = RemoteDouble(double.url)
    placed = remote.do("place_call", actions=["SMS"], contact="c9")
    number = remote.do("fault", kind="fetch", what="status", status=503, times=1)
    assert call_logs(double, placed["call_id"]).status_code == 503
    assert [(fault["fault_id"], fault["hits"]) for fault in remote.do("faults")] == [(number, 1)]
    assert call_logs(double, placed["call_id"]).json() == placed["log"]
    assert [one["call_id"] for one in remote.truth("calls")] == [placed["call_id"]]
    assert [seen["status"] for seen in remote.truth("requests", kind="fetch")] == [503, 200]
    with pytest.raises(ValueError, match="no endpoint kind"):
        remote.do("fault", kind="nothing", what="status")
