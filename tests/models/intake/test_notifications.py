"""Our record of notifications: one row each, however often they come."""

from typing import Any

import pytest
import sqlalchemy as sa

from models.database import Database
from models.intake import inbox, notifications
from models.intake.notifications import NotificationStatus, notifications_table
from tests.support.rows import LOCATION, arrive, read, receive, rows_of, write
from tests.support.waiting import at_once

ACCEPTED, IGNORED = NotificationStatus.ACCEPTED, NotificationStatus.IGNORED


def only_row(database: Database) -> sa.RowMapping:
    [row] = rows_of(database, notifications_table)
    return row


def test_a_notification_is_written_down_once_and_its_repeats_are_counted(database: Database) -> None:
    arrive(database, "one", call_id="call-1", document={"id": "call-1"})
    first = only_row(database)
    assert (first["repeats"], first["document"], first["status"]) == (0, {"id": "call-1"}, "accepted")
    assert first["received_at"] == first["last_received_at"]
    for _ in range(2):
        arrive(database, "one", status=IGNORED, reason="not_json")
    row = only_row(database)
    assert row["last_received_at"] > row["received_at"]
    changed = {name for name in row if row[name] != first[name]}
    assert (row["repeats"], changed) == (2, {"repeats", "last_received_at"}), "the first one counts"


@pytest.mark.parametrize("in_one_batch", [False, True])
@pytest.mark.parametrize(
    ("statuses", "kept"),
    [
        ((ACCEPTED, IGNORED), ("accepted", "reason 0", "call-0", 1)),
        ((IGNORED, ACCEPTED), ("accepted", "reason 1", "call-1", 1)),
        ((IGNORED, IGNORED, ACCEPTED, IGNORED), ("accepted", "reason 2", "call-2", 3)),
        ((NotificationStatus.UNRESOLVED, IGNORED), ("unresolved", "reason 0", "call-0", 1)),
    ],
)
def test_what_was_ignored_is_replaced_by_what_is_accepted_and_nothing_else_is(
    database: Database, statuses: Any, kept: tuple[Any, ...], in_one_batch: bool
) -> None:
    for number, status in enumerate(statuses):
        receive(database, "one", status=status, reason=f"reason {number}", call_id=f"call-{number}")
        if not in_one_batch or number == len(statuses) - 1:
            taken = write(database, inbox.take, read(database, inbox.oldest))
            write(database, notifications.merge, list(taken.values()))
            inbox.forget(database, taken)
    row = only_row(database)
    assert (row["status"], row["reason"], row["call_id"], row["repeats"]) == kept


def test_a_repeat_leaves_unresolved_what_turned_out_to_name_no_call(database: Database) -> None:
    for _ in range(2):
        arrive(database, "one", call_id="call-1")
        write(database, notifications.become_unresolved, LOCATION, "call-1", reason="call_id_of_another_kind")
    row = only_row(database)
    assert (row["status"], row["call_id"], row["repeats"]) == ("unresolved", None, 1)


def test_repeats_that_come_at_once_are_all_counted(database: Database) -> None:
    at_once([lambda: arrive(database, "one")] * 8)
    assert only_row(database)["repeats"] == 7


def test_the_notifications_of_an_id_that_names_no_call_become_unresolved(database: Database) -> None:
    arrive(database, "one", call_id="call-1", contact_id="contact-1")
    arrive(database, "two", call_id="call-1")
    arrive(database, "another call", call_id="call-2")
    arrive(database, "another account", call_id="call-1", location_id="loc-two", status=IGNORED)
    write(database, notifications.become_unresolved, LOCATION, "call-1", reason="call_id_of_another_kind")
    rows = {row["dedupe_key"]: row for row in rows_of(database, notifications_table)}
    for name in ("one", "two"):
        assert (rows[name]["status"], rows[name]["call_id"]) == (NotificationStatus.UNRESOLVED, None)
        assert rows[name]["reason"] == "call_id_of_another_kind"
    assert rows["one"]["contact_id"] == "contact-1", "by which the call is looked for"
    assert (rows["another call"]["status"], rows["another call"]["reason"]) == (NotificationStatus.ACCEPTED, None)
    assert rows["another account"]["status"] == IGNORED


def test_the_notifications_of_a_call_are_told_in_their_order(database: Database) -> None:
    for key in ("b", "a", "c"):
        arrive(database, key, call_id="call-1")
    arrive(database, "other", call_id="call-2")
    with database.reading() as connection:
        assert [row.dedupe_key for row in notifications.of_call(connection, LOCATION, "call-1")] == ["b", "a", "c"]
