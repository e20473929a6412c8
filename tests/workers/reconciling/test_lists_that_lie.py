"""A list is a witness: whatever it hides, repeats or miscounts, no call is lost, and no span is falsely complete."""

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from models.database import now
from models.reconciling import quarantined_rows, schedule, windows
from models.reconciling.windows import WindowKind, reconciliations_table
from tests.support.refusing import refusing_call
from tests.support.rows import write
from tests.support.worker import DAY, HOUR, AtWork, ledger, reconcile, was_served_since
from workers.read_page import read_to_end
from workers.reconciling.reading import PageOutcome, read_one_page

CALLS = 60
BAD: dict[str, Any] = {
    "no id": {"id": None}, "an id of another shape": {"id": "call 1/2"}, "too many values": {"bulk": [0] * 300_000},
}  # fmt: skip


def placed(at_work: AtWork) -> set[str]:
    was_served_since(at_work, 2 * HOUR)
    calls = at_work.double.place_calls(CALLS, over=HOUR, ago=120, actions=["CALL_TRANSFER"], contact=True)
    return {call.call_id for call in calls}


def stored(at_work: AtWork) -> set[str]:
    return {row["call_id"] for row in at_work.rows("calls")}


def noted(at_work: AtWork) -> list[str]:
    return sorted(row["call_id"] for row in at_work.rows("follow_ups"))


def read_until_it_waits(at_work: AtWork) -> sa.RowMapping:
    """The open window, when it is not due any more."""
    with at_work.database.transaction() as connection:
        schedule.open_regular(connection, at_work.location_id, until=now(connection))
    for _ in range(200):
        if read_one_page(windows.work_key(at_work.location_id, WindowKind.REGULAR)) is PageOutcome.NOT_CLAIMED:
            [window] = [each for each in ledger(at_work) if each["finished_at"] is None]
            return window
    raise AssertionError("the window is due for ever")


@pytest.mark.parametrize(
    "how",
    [
        {"what": "capped", "count": 10}, {"what": "capped", "count": 20}, {"what": "same_page"}, {"what": "no_total"},
        {"what": "no_total", "count": 10},
    ],
    ids=str,
)  # fmt: skip
def test_a_list_with_pages_of_its_own_size_or_without_pages_is_read_whole(at_work: AtWork, how: dict[str, Any]) -> None:
    calls = placed(at_work)
    before = at_work.account().complete_until
    at_work.double.fault("list", **how)
    ledger = reconcile(at_work)
    assert stored(at_work) == calls
    assert noted(at_work) == sorted(calls)
    assert at_work.account().complete_until > before
    assert all(window["finished_at"] and not window["error"] for window in ledger)
    assert len(at_work.requests("list")) < 150


@pytest.mark.parametrize("wrong_by", [3, -3])
def test_a_list_whose_total_never_agrees_is_taken_in_and_never_called_complete(at_work: AtWork, wrong_by: int) -> None:
    calls = placed(at_work)
    at_work.double.fault("list", "wrong_total", count=wrong_by)
    window = read_until_it_waits(at_work)
    assert (window["error"], stored(at_work)) == ("list_shifted", calls)
    assert at_work.account().complete_until < min(row["started_at"] for row in at_work.rows("calls"))
    assert len(at_work.requests("list")) < 150
    at_work.double.clear_faults()
    at_work.time_passes(11)
    before = at_work.account().complete_until
    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    assert at_work.account().complete_until > before


@pytest.mark.parametrize(("size", "real"), [(50, 53), (10, 13)])
def test_a_list_that_tells_no_more_than_its_first_page_shows_is_read_whole(
    at_work: AtWork, size: int, real: int
) -> None:
    was_served_since(at_work, 2 * HOUR)
    at_work.double.place_calls(real, over=HOUR, ago=120)
    at_work.double.fault("list", "undertold", count=size)
    reconcile(at_work)
    assert len(stored(at_work)) == real


def test_a_listed_row_without_actions_is_fetched(at_work: AtWork) -> None:
    calls = placed(at_work)
    at_work.double.fault("list", "bare")
    reconcile(at_work)
    assert stored(at_work) == set()
    for call_id in calls:
        assert at_work.fetch(call_id).status == "complete"
    assert noted(at_work) == sorted(calls)
    reconcile(at_work)
    assert len(at_work.requests("fetch")) == CALLS


def quarantined(at_work: AtWork) -> list[tuple[str | None, str]]:
    return [(row["call_id"], row["reason"]) for row in at_work.rows("quarantined_rows")]


@pytest.mark.parametrize("what", ["no id", "an id of another shape", "refused by the database", "too many values"])
def test_a_row_that_cannot_be_taken_in_is_set_aside_and_told_and_holds_up_nothing(at_work: AtWork, what: str) -> None:
    calls = placed(at_work)
    before = at_work.account().complete_until
    bad = at_work.double.place_call(ago=1800, fields=BAD.get(what, {}))
    expected = {"refused by the database": (bad.call_id, "IntegrityError"), "too many values": (None, "too_large")}
    refused = refusing_call(at_work.database, "calls", bad.call_id) if what.startswith("refused") else nullcontext()
    with refused:
        reconcile(at_work)
        assert stored(at_work) == calls
        assert noted(at_work) == sorted(calls)
        assert quarantined(at_work) == [expected.get(what, (None, "no_call_id"))]
        assert at_work.account().complete_until > before
        reconcile(at_work)
        [aside] = at_work.rows("quarantined_rows")
        with at_work.database.reading() as connection:
            told = quarantined_rows.lately(connection)[at_work.location_id]
        assert told == {aside["reason"]: 1}
        assert [each["event"] for each in at_work.said].count("listed_row_quarantined") == aside["times"]


def test_a_quarantined_call_that_is_stored_later_alarms_no_more(at_work: AtWork) -> None:
    was_served_since(at_work, HOUR)
    bad = at_work.double.place_call(ago=600)
    with refusing_call(at_work.database, "calls", bad.call_id):
        reconcile(at_work)
    assert quarantined(at_work) == [(bad.call_id, "IntegrityError")]
    at_work.announce(bad)
    at_work.fetch(bad)
    with at_work.database.reading() as connection:
        assert quarantined_rows.lately(connection)[at_work.location_id] == {}


def test_an_api_whose_every_answer_is_too_large_moves_no_mark_and_says_why(at_work: AtWork) -> None:
    placed(at_work)
    before = at_work.account().complete_until
    at_work.double.fault("list", "status", status=200, body={"callLogs": [{}] * 130_000})
    window = read_until_it_waits(at_work)
    assert window["error"] == "too_large"
    assert quarantined(at_work) == [], "no page has proven that these are rows"
    assert at_work.account().complete_until == before
    assert window["finished_at"] is None
    assert len(at_work.requests("list")) < 60


@pytest.mark.parametrize("what", ["capped", "shuffled"])
def test_calls_that_share_a_start_at_the_border_of_a_page_end(at_work: AtWork, what: str) -> None:
    was_served_since(at_work, HOUR)
    moment = datetime.now(UTC) - timedelta(seconds=900)
    calls = {at_work.double.place_call(started_at=moment, duration=30, actions=[]).call_id for _ in range(25)}
    at_work.double.fault("list", what, count=10)
    reconcile(at_work)
    assert stored(at_work) == calls


def test_the_daily_window_begins_three_days_before_the_end_of_the_last_one(at_work: AtWork) -> None:
    was_served_since(at_work, 20 * DAY)
    reconcile(at_work)
    write(at_work.database, schedule.open_due, list_fetch=True)
    at_work.time_passes(DAY + 60)
    reconcile(at_work)
    write(at_work.database, schedule.open_due, list_fetch=True)
    read_to_end(at_work.this, at_work.location_id, WindowKind.DAILY)
    [first] = [each for each in at_work.rows("reconciliations") if each["kind"] == "daily"]
    at_work.time_passes(7 * DAY)
    with at_work.database.transaction() as connection:  # the ledger does not move by itself
        connection.execute(
            sa.update(reconciliations_table).values(window_until=first["window_until"] - timedelta(days=7))
        )
    reconcile(at_work)
    write(at_work.database, schedule.open_due, list_fetch=True)
    second = at_work.rows("reconciliations")[-1]
    assert second["kind"] == "daily"
    assert second["window_until"] - second["window_from"] > timedelta(days=9)
    assert first["window_until"] - first["window_from"] < timedelta(days=4)
