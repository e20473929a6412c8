"""A notification without a usable call id finds its call in Leadway's list, or stays visible with its reason."""

from typing import Any

import pytest
import sqlalchemy as sa

from models.database import moment
from models.intake.notifications import NotificationStatus
from models.intake.notifications import notifications_table as table
from models.reconciling import schedule
from models.reconciling.windows import reconciliations_table
from tests.leadway_double.nouns import PlacedCall
from tests.support.rows import arrive, on_sqlite, write
from tests.support.worker import HOUR, AtWork, ledger, reconcile, was_served_since
from workers.read_page import read_to_end
from workers.reconciling.close_window import NO_CALL_FOUND


@pytest.fixture(autouse=True)
def served(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)


def notified(at_work: AtWork, key: str = "one", **values: Any) -> int:
    """A notification that names no call; returns its id."""
    arrive(
        at_work.database, key, location_id=at_work.location_id, dialect="workflow",
        status=NotificationStatus.UNRESOLVED, reason="unresolved_merge_tag", **values,
    )  # fmt: skip
    with at_work.database.reading() as connection:
        this = sa.select(table.c.notification_id).where(table.c.dedupe_key == key)
        return int(connection.execute(this).scalar_one())


def look(at_work: AtWork, notification_id: int, *, times: int = 1) -> None:
    """Opens what is due and reads the notification's window as often."""
    write(at_work.database, schedule.open_due, list_fetch=True)
    for _ in range(times):
        with at_work.database.transaction() as connection:
            connection.execute(sa.update(reconciliations_table).values(due_at=moment(-1)))
        looks = of_kind(at_work)["looks"]
        while of_kind(at_work)["looks"] == looks and of_kind(at_work)["finished_at"] is None:
            _read_one(at_work, notification_id)


def _read_one(at_work: AtWork, notification_id: int) -> None:
    from workers.reconciling.read_page import read_page

    [row] = [row for row in ledger(at_work) if row["notification_id"] == notification_id]
    read_page(at_work.this, row["reconciliation_id"])


def of_kind(at_work: AtWork) -> sa.RowMapping:
    return [row for row in ledger(at_work) if row["kind"] == "narrow"][-1]


def notification(at_work: AtWork) -> sa.RowMapping:
    [row] = at_work.rows("notifications")
    return row


def place(at_work: AtWork, **wish: Any) -> PlacedCall:
    return at_work.double.place_call(**{"contact": True, **wish})


def test_it_is_matched_by_its_contact_and_the_call_counts_as_announced(at_work: AtWork) -> None:
    place(at_work)
    call = place(at_work, actions=["CALL_TRANSFER"])
    notification_id = notified(at_work, contact_id=call.contact_id)
    look(at_work, notification_id)
    row = notification(at_work)
    assert (row["status"], row["call_id"], row["reason"]) == ("accepted", call.call_id, None)
    assert at_work.call(call).announced_at is not None
    assert len(at_work.follow_ups_of(call)) == 1
    assert of_kind(at_work)["finished_at"] is not None
    assert len(at_work.requests("list")) == 2


def test_of_two_calls_of_a_contact_the_nearer_one_is_taken(at_work: AtWork) -> None:
    call = place(at_work, ago=5)
    place(at_work, contact=call.contact_id, ago=2000)
    notification_id = notified(at_work, contact_id=call.contact_id)
    look(at_work, notification_id)
    assert notification(at_work)["call_id"] == call.call_id


def test_it_is_matched_by_the_callers_number(at_work: AtWork) -> None:
    place(at_work, fields={"fromNumber": "+34600000001"})
    call = place(at_work, contact=False, fields={"fromNumber": "+34 600 111 222"})
    notification_id = notified(at_work, from_number="34600111222")
    look(at_work, notification_id)
    assert notification(at_work)["call_id"] == call.call_id


def test_without_contact_and_number_only_a_single_unannounced_call_is_taken_for_it(at_work: AtWork) -> None:
    call = place(at_work)
    notification_id = notified(at_work)
    look(at_work, notification_id)
    assert notification(at_work)["call_id"] == call.call_id


def test_what_could_be_several_calls_is_guessed_by_nobody(at_work: AtWork) -> None:
    place(at_work)
    place(at_work)
    notification_id = notified(at_work)
    look(at_work, notification_id)
    assert notification(at_work)["status"] == "unresolved"


def test_a_call_that_is_listed_later_is_found_by_a_later_look(at_work: AtWork) -> None:
    call = place(at_work, listed_late=60)
    notification_id = notified(at_work, contact_id=call.contact_id)
    look(at_work, notification_id)
    assert notification(at_work)["status"] == "unresolved"
    at_work.double.set_clock(61)
    look(at_work, notification_id)
    assert notification(at_work)["call_id"] == call.call_id


def test_what_stays_unresolved_keeps_its_reason_and_a_repeat_looks_again(at_work: AtWork) -> None:
    notification_id = notified(at_work, contact_id="nobody")
    look(at_work, notification_id, times=5)
    assert of_kind(at_work)["error"] == NO_CALL_FOUND
    left = notification(at_work)
    assert (left["status"], left["reason"]) == ("unresolved", "unresolved_merge_tag")

    look(at_work, notification_id)
    assert len([row for row in ledger(at_work) if row["kind"] == "narrow"]) == 1, "nothing new came"
    notified(at_work, contact_id="nobody")  # the same once more
    write(at_work.database, schedule.open_due, list_fetch=True)
    assert len([row for row in ledger(at_work) if row["kind"] == "narrow"]) == 2


def test_a_regular_run_resolves_too(at_work: AtWork) -> None:
    call = place(at_work)
    notified(at_work, contact_id=call.contact_id)
    reconcile(at_work)
    assert notification(at_work)["call_id"] == call.call_id


def test_of_a_flood_only_a_few_are_looked_for_one_by_one(at_work: AtWork) -> None:
    for number in range(9):
        notified(at_work, str(number), contact_id=f"contact-{number}")
    write(at_work.database, schedule.open_due, list_fetch=True)
    assert sum(row["kind"] == "narrow" for row in ledger(at_work)) == schedule.NARROW_AT_ONCE


def test_an_id_of_another_kind_makes_its_notification_one_to_be_looked_for(at_work: AtWork) -> None:
    call = place(at_work)
    arrive(
        at_work.database, "one", location_id=at_work.location_id, call_id="CA-of-the-telephone-company",
        contact_id=call.contact_id,
    )  # fmt: skip
    from workers.fetch_call import fetch_call

    fetch_call(at_work.location_id, "CA-of-the-telephone-company")
    assert at_work.maybe_call("CA-of-the-telephone-company") is None
    look(at_work, notification(at_work)["notification_id"])
    assert notification(at_work)["call_id"] == call.call_id


@on_sqlite
def test_a_list_that_refuses_the_contact_is_given_up_for_it_alone(at_work: AtWork) -> None:
    at_work.settings.leadway_retry_seconds = 0.01
    notification_id = notified(at_work, contact_id="nobody")
    at_work.double.fault("list", "status", status=422)
    write(at_work.database, schedule.open_due, list_fetch=True)
    read_to_end(at_work.this, at_work.location_id, f"narrow:{notification_id}")
    assert of_kind(at_work)["error"] == "refused"
