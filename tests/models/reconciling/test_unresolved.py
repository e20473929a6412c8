"""A notification without a usable call id finds its call in the account's next listings, or stays with its reason."""

from typing import Any

import pytest
import sqlalchemy as sa

from models.database import now
from models.intake.notifications import NotificationStatus
from models.reconciling import schedule
from models.reconciling.windows import WindowKind
from tests.leadway_double.nouns import PlacedCall
from tests.support.rows import arrive, on_sqlite, read, write
from tests.support.worker import DAY, HOUR, TOLERATED, AtWork, ledger, reconcile, was_served_since
from workers.fetch_call import fetch_call
from workers.read_page import read_to_end


@pytest.fixture(autouse=True)
def served(at_work: AtWork) -> None:
    """Listed a moment ago, so that the next listing is minutes away."""
    was_served_since(at_work, 5 * HOUR)
    reconcile(at_work)


def notified(at_work: AtWork, key: str = "one", **values: Any) -> None:
    """A notification comes that names no call."""
    arrive(
        at_work.database, key, location_id=at_work.location_id, dialect="workflow",
        status=NotificationStatus.UNRESOLVED, reason="unresolved_merge_tag", **values,
    )  # fmt: skip


def look(at_work: AtWork, *, after: float = 2.1) -> bool:
    """Lets time pass, then opens what is due and reads the regular window. Returns whether there was one."""
    at_work.time_passes(after)
    before = len(ledger(at_work))
    write(at_work.database, schedule.open_due, list_fetch=True)
    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    return len(ledger(at_work)) > before


def next_in(at_work: AtWork) -> float:
    return at_work.seconds_until(at_work.rows("accounts")[0]["next_reconcile_at"])


def notification(at_work: AtWork) -> sa.RowMapping:
    [row] = at_work.rows("notifications")
    return row


def place(at_work: AtWork, **wish: Any) -> PlacedCall:
    return at_work.double.place_call(**{"contact": True, **wish})


# Which call it is about


def test_it_is_matched_by_its_contact_and_the_call_counts_as_announced(at_work: AtWork) -> None:
    place(at_work)
    call = place(at_work, actions=["CALL_TRANSFER"])
    notified(at_work, contact_id=call.contact_id)
    assert look(at_work)
    row = notification(at_work)
    assert (row["status"], row["call_id"], row["reason"]) == ("accepted", call.call_id, None)
    assert at_work.call(call).announced_at is not None
    assert len(at_work.follow_ups_of(call)) == 1
    assert next_in(at_work) == pytest.approx(900, abs=TOLERATED), "it is resolved: nothing is looked for any more"


def test_of_two_calls_of_a_contact_the_nearer_one_is_taken(at_work: AtWork) -> None:
    call = place(at_work, ago=5)
    place(at_work, contact=call.contact_id, ago=2000)
    notified(at_work, contact_id=call.contact_id)
    look(at_work)
    assert notification(at_work)["call_id"] == call.call_id


@pytest.mark.parametrize("key", ["one", "two"])
def test_a_contact_that_calls_again_gets_its_new_call_though_the_list_shows_it_late(at_work: AtWork, key: str) -> None:
    """Also when the body is the same as the last time."""
    first = place(at_work, ago=900)
    second = place(at_work, contact=first.contact_id, ago=300, listed_late=100, actions=["CALL_TRANSFER"])
    notified(at_work, contact_id=first.contact_id)
    look(at_work)
    assert notification(at_work)["call_id"] == first.call_id
    notified(at_work, key, contact_id=first.contact_id)
    waited = 0.0
    while at_work.maybe_call(second) is None:
        waited += next_in(at_work)
        look(at_work, after=next_in(at_work))
    assert waited < 180
    assert at_work.call(second).announced_at is not None
    assert {row["call_id"] for row in at_work.rows("notifications")} >= {second.call_id}


def test_a_second_notification_of_the_same_call_is_given_to_it_when_no_other_call_has_come(at_work: AtWork) -> None:
    call = place(at_work, ago=1500)
    notified(at_work, contact_id=call.contact_id)
    look(at_work)
    notified(at_work, contact_id=call.contact_id)
    look(at_work)
    assert notification(at_work)["status"] == "unresolved", "another call of the contact may be on its way"
    assert look(at_work, after=16 * 60)
    assert (notification(at_work)["call_id"], notification(at_work)["repeats"]) == (call.call_id, 1)


def test_it_is_matched_by_the_callers_number(at_work: AtWork) -> None:
    place(at_work, fields={"fromNumber": "+34600000001"})
    call = place(at_work, contact=False, fields={"fromNumber": "+34 600 111 222"})
    notified(at_work, from_number="34600111222")
    look(at_work)
    assert notification(at_work)["call_id"] == call.call_id


@pytest.mark.parametrize("calls", [1, 2])
def test_without_contact_and_number_only_a_single_unannounced_call_is_taken_for_it(at_work: AtWork, calls: int) -> None:
    placed = [place(at_work) for _ in range(calls)]
    notified(at_work)
    look(at_work)
    row = notification(at_work)
    expected = ("accepted", placed[0].call_id) if calls == 1 else ("unresolved", None)
    assert (row["status"], row["call_id"]) == expected


def test_an_id_of_another_kind_makes_its_notification_one_to_be_looked_for(at_work: AtWork) -> None:
    call = place(at_work)
    foreign = "CA-of-the-telephone-company"
    arrive(at_work.database, "one", location_id=at_work.location_id, call_id=foreign, contact_id=call.contact_id)
    assert next_in(at_work) > 100
    fetch_call(at_work.location_id, foreign)
    assert at_work.maybe_call(foreign) is None
    assert look(at_work)
    assert notification(at_work)["call_id"] == call.call_id


# When it is looked for


def test_the_listing_is_brought_forward_and_followed_by_others_until_the_call_is_listed(at_work: AtWork) -> None:
    call = place(at_work, ago=1000, listed_late=100)
    requests = len(at_work.requests("list"))
    notified(at_work, contact_id=call.contact_id)
    for delay in (2, 10, 30, 120):
        assert notification(at_work)["status"] == "unresolved"
        assert next_in(at_work) == pytest.approx(delay, abs=TOLERATED)
        assert look(at_work, after=next_in(at_work))
    assert notification(at_work)["call_id"] == call.call_id
    assert len(at_work.requests("list")) == requests + 2 * 4, "each has one page of calls and one of trials"


@pytest.mark.parametrize(
    ("seconds", "period", "margin"),
    [(2.1, 10, 0), (100, 62, 0), (700, 62, 0), (HOUR - 60, 120, 60), (HOUR + 60, 300, 60)],
)
def test_what_stays_unresolved_keeps_its_reason_and_hastens_the_listing_less_as_it_grows_old(
    at_work: AtWork, seconds: float, period: float, margin: float
) -> None:
    """While it is looked for at once the window ends now, so that it has a call of a moment ago."""
    notified(at_work, contact_id="nobody")
    look(at_work, after=seconds)
    assert next_in(at_work) == pytest.approx(period, abs=TOLERATED)
    assert at_work.seconds_until(ledger(at_work)[-1]["window_until"]) == pytest.approx(-margin, abs=TOLERATED)
    row = notification(at_work)
    assert (row["status"], row["reason"]) == ("unresolved", "unresolved_merge_tag")


def test_after_three_days_it_is_not_looked_for_any_more_and_a_repeat_looks_again(at_work: AtWork) -> None:
    call = place(at_work)
    notified(at_work, contact_id=call.contact_id)
    assert look(at_work, after=3 * DAY + 60)
    assert notification(at_work)["status"] == "unresolved"
    assert not look(at_work)
    notified(at_work, contact_id=call.contact_id)  # the same once more
    assert look(at_work)
    assert notification(at_work)["repeats"] == 1


def test_a_listing_that_is_under_way_when_it_comes_is_followed_by_another(at_work: AtWork) -> None:
    until = read(at_work.database, now)
    write(at_work.database, schedule.open_regular, at_work.location_id, until=until)
    call = place(at_work, listed_late=30)
    notified(at_work, contact_id=call.contact_id)
    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    assert notification(at_work)["status"] == "unresolved", "the list did not show it yet"
    assert next_in(at_work) == pytest.approx(2, abs=TOLERATED)
    at_work.double.set_clock(30)
    assert look(at_work)
    assert notification(at_work)["call_id"] == call.call_id


@on_sqlite
def test_however_many_come_one_listing_looks_for_them_all(at_work: AtWork) -> None:
    placed = [place(at_work) for _ in range(9)]
    for number, call in enumerate(placed):
        notified(at_work, str(number), contact_id=call.contact_id)
    before = len(ledger(at_work))
    assert look(at_work)
    assert {row["call_id"] for row in at_work.rows("notifications")} == {call.call_id for call in placed}
    assert len(ledger(at_work)) == before + 1
