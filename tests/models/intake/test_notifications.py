"""Our record of notifications: one row each, however often they come."""

from typing import Any

from models.database import Database
from models.intake import notifications
from models.intake.notifications import NotificationStatus
from tests.support.rows import LOCATION, rows_of, write
from tests.support.waiting import at_once

VALUES = {
    "location_id": LOCATION, "call_id": "call-1", "dialect": "workflow", "authenticated_by": "intake_header",
    "status": NotificationStatus.ACCEPTED, "document": {"id": "call-1"},
}  # fmt: skip


def record(database: Database, dedupe_key: str, **values: Any) -> bool:
    return write(database, notifications.record, dedupe_key, **{**VALUES, **values})


def test_a_notification_is_written_down_once_and_its_repeats_are_counted(database: Database) -> None:
    assert record(database, "one")
    (first,) = rows_of(database, notifications.notifications_table)
    assert (first["repeats"], first["document"], first["status"]) == (0, {"id": "call-1"}, "accepted")
    assert first["received_at"] == first["last_received_at"]
    assert not record(database, "one", status=NotificationStatus.IGNORED, document=None)
    assert not record(database, "one")
    (row,) = rows_of(database, notifications.notifications_table)
    assert row["repeats"] == 2
    assert row["last_received_at"] > row["received_at"] == first["received_at"]
    assert (row["status"], row["document"]) == (first["status"], first["document"]), "the first one counts"


def test_repeats_that_come_at_once_are_all_counted(database: Database) -> None:
    assert sorted(at_once([lambda: record(database, "one")] * 8)) == [False] * 7 + [True]
    assert [row["repeats"] for row in rows_of(database, notifications.notifications_table)] == [7]


def test_the_notifications_of_an_id_that_names_no_call_become_unresolved(database: Database) -> None:
    record(database, "one", contact_id="contact-1")
    record(database, "two")
    record(database, "another call", call_id="call-2")
    record(database, "another account", location_id="loc-two")
    write(database, notifications.become_unresolved, LOCATION, "call-1", reason="call_id_of_another_kind")
    rows = {row["dedupe_key"]: row for row in rows_of(database, notifications.notifications_table)}
    for name in ("one", "two"):
        assert (rows[name]["status"], rows[name]["call_id"]) == (NotificationStatus.UNRESOLVED, None)
        assert rows[name]["reason"] == "call_id_of_another_kind"
    assert rows["one"]["contact_id"] == "contact-1", "by which the call is looked for"
    for name in ("another call", "another account"):
        assert (rows[name]["status"], rows[name]["reason"]) == (NotificationStatus.ACCEPTED, None)


def test_the_notifications_of_a_call_are_told_in_their_order(database: Database) -> None:
    for key in ("b", "a", "c"):
        record(database, key)
    record(database, "other", call_id="call-2")
    with database.reading() as connection:
        assert [row.dedupe_key for row in notifications.of_call(connection, LOCATION, "call-1")] == ["b", "a", "c"]
