"""The double fails on purpose: each fault looks right to the client, and the truth says what was really done."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.leadway_double.double import LeadwayDouble
from tests.support.waiting import eventually


@pytest.fixture
def double() -> Iterator[LeadwayDouble]:
    with LeadwayDouble() as running:
        running.place_call(contact="c1")
        yield running


def headers(double: LeadwayDouble) -> dict[str, str]:
    return {"Authorization": f"Bearer {double.token}", "Version": "2021-07-28"}


def post_note(double: LeadwayDouble, *, timeout: float = 5.0) -> requests.Response:
    url = f"{double.url}/contacts/c1/notes"
    return requests.post(url, json={"body": "n"}, headers=headers(double), timeout=timeout, allow_redirects=False)


def notes_listed(double: LeadwayDouble) -> list[Any]:
    answer = requests.get(f"{double.url}/contacts/c1/notes", headers=headers(double), timeout=5)
    listed: list[Any] = answer.json()["notes"]
    return listed


@pytest.mark.parametrize(
    ("fault", "status", "executed"),
    [
        ({"what": "status", "status": 429, "retry_after": 3}, 429, 0),
        ({"what": "status", "status": 502, "body": "<html>bad gateway</html>"}, 502, 0),
        ({"what": "do_then_status", "status": 500}, 500, 1),
        ({"what": "do_then_status", "status": 422}, 422, 1),
        ({"what": "redirect", "to": "/elsewhere"}, 302, 0),
        ({"what": "delay", "seconds": 0.05}, 201, 1),
        ({"what": "drip", "seconds": 0.1}, 201, 1),
    ],
)
def test_an_answer_that_arrives_says_one_thing_and_the_truth_another(
    double: LeadwayDouble, fault: dict[str, Any], status: int, executed: int
) -> None:
    double.fault("create_note", times=1, **fault)
    answer = post_note(double)
    assert (answer.status_code, len(double.truth.notes())) == (status, executed)
    assert "X-RateLimit-Remaining" in answer.headers
    assert answer.headers.get("Retry-After") == (str(fault["retry_after"]) if "retry_after" in fault else None)
    assert post_note(double).status_code == 201


@pytest.mark.parametrize(("what", "executed"), [("reset", 0), ("do_then_reset", 1), ("truncated", 1)])
def test_a_connection_that_breaks_leaves_the_client_without_an_answer(
    double: LeadwayDouble, what: str, executed: int
) -> None:
    double.fault("create_note", what)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)) as broken:
        post_note(double)
    assert ("reset by peer" in str(broken.value)) == ("reset" in what)
    assert len(double.truth.notes()) == executed
    assert double.truth.requests(kind="create_note")[0].fault == what


@pytest.mark.parametrize(("what", "executed"), [("hang", 0), ("do_then_hang", 1)])
def test_a_hanging_answer_runs_into_the_clients_time_out(double: LeadwayDouble, what: str, executed: int) -> None:
    double.fault("create_note", what)
    with pytest.raises(requests.ReadTimeout):
        post_note(double, timeout=0.2)
    assert len(double.truth.notes()) == executed


def test_a_late_write_happens_only_after_the_client_has_given_up(double: LeadwayDouble) -> None:
    double.fault("create_note", "do_late", seconds=0.3)
    with pytest.raises(requests.ReadTimeout):
        post_note(double, timeout=0.2)
    assert (double.truth.notes(), double.under_way()) == ([], 1)
    eventually(lambda: double.under_way() == 0, describe="the late write")
    assert len(double.truth.notes()) == 1


@pytest.mark.parametrize(("what", "executed_meanwhile"), [("hold", 0), ("do_then_hold", 1)])
def test_a_held_request_waits_until_it_is_released_and_is_then_answered(
    double: LeadwayDouble, what: str, executed_meanwhile: int
) -> None:
    number = double.fault("create_note", what, times=1)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post_note, double)
        [port] = eventually(lambda: double.faults()[0].held, describe="the request to be held")
        assert (len(double.truth.notes()), answer.done(), port > 0) == (executed_meanwhile, False, True)
        double.release(number)
        assert answer.result(timeout=5).status_code == 201
    assert len(double.truth.notes()) == 1


def test_a_held_request_is_executed_though_its_client_has_left_and_also_when_the_fault_is_cleared(
    double: LeadwayDouble,
) -> None:
    double.fault("create_note", "hold")
    with pytest.raises(requests.ReadTimeout):
        post_note(double, timeout=0.2)
    assert double.truth.notes() == []
    double.clear_faults()
    eventually(lambda: len(double.truth.notes()) == 1, describe="the note to be written")


def test_broken_json_keeps_the_success_status(double: LeadwayDouble) -> None:
    double.fault("create_note", "broken_json")
    answer = post_note(double)
    assert answer.status_code == 201
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_a_list_of_notes_may_lag_or_be_cut_short(double: LeadwayDouble) -> None:
    post_note(double)
    lag = double.fault("list_notes", "lagging", seconds=60)
    assert notes_listed(double) == []
    double.clear_faults(lag)
    post_note(double)
    double.fault("list_notes", "shortened", count=1, times=1)
    assert (len(notes_listed(double)), len(notes_listed(double))) == (1, 2)


def test_a_fault_hits_only_its_subject_lets_the_first_pass_and_counts(double: LeadwayDouble) -> None:
    double.fault("create_note", "status", status=503, only="someone else")
    double.fault("create_note", "status", status=500, only="c1", skip=1, times=2)
    assert [post_note(double).status_code for _ in range(4)] == [201, 500, 500, 201]
    assert [fault.hits for fault in double.faults()] == [0, 2]


def test_chance_is_seeded() -> None:
    def answers(seed: int) -> list[int]:
        with LeadwayDouble(seed=seed) as double:
            double.place_call(contact="c1")
            double.fault("create_note", "status", status=503, probability=0.5)
            return [post_note(double).status_code for _ in range(12)]

    assert answers(3) == answers(3)
    assert set(answers(3)) == {201, 503}


def test_pages_that_shift_show_a_row_twice_and_hide_the_new_one(double: LeadwayDouble) -> None:
    double.place_calls(5, over=600, ago=3600)
    double.fault("list", "shifting", times=1)
    query = {"locationId": double.location_id, "sortBy": "createdAt", "sort": "ascend", "pageSize": "3"}
    url = f"{double.url}/voice-ai/dashboard/call-logs"
    pages = [
        requests.get(url, params=query | {"page": str(page)}, headers=headers(double), timeout=5).json()["callLogs"]
        for page in (1, 2, 3)
    ]
    rows = [row["id"] for page in pages for row in page]
    assert len(rows) == 7
    assert len(set(rows)) == 6
    assert len(double.truth.calls()) == 7


def test_another_calls_document_can_be_served(double: LeadwayDouble) -> None:
    placed = double.place_call()
    double.fault("fetch", "wrong_document", only=placed.call_id)
    url = f"{double.url}/voice-ai/dashboard/call-logs/{placed.call_id}"
    answer = requests.get(url, params={"locationId": double.location_id}, headers=headers(double), timeout=5)
    assert answer.json()["id"] != placed.call_id


def test_a_double_that_goes_away_refuses_connections_and_comes_back_with_its_memory(double: LeadwayDouble) -> None:
    double.go_away()
    with pytest.raises(requests.ConnectionError):
        post_note(double)
    double.come_back()
    assert post_note(double).status_code == 201


def test_stopping_the_double_ends_hanging_connections() -> None:
    double = LeadwayDouble().start()
    double.place_call(contact="c1")
    double.fault("create_note", "hang")
    failures: list[Exception] = []

    def ask() -> None:
        try:
            post_note(double, timeout=30)
        except requests.RequestException as failure:
            failures.append(failure)

    asking = threading.Thread(target=ask)
    asking.start()
    while not double.faults()[0].hits:
        asking.join(0.01)
    double.stop()
    asking.join(5)
    assert isinstance(failures[0], requests.ConnectionError)
