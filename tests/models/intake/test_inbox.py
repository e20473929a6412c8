"""The inbox: what is put there comes out once, as it went in, and nobody waits for anybody."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from models.database import WORKER, Database, KeptConnection
from models.intake import inbox, quarantine
from models.intake.inbox import WHOLE_SCAN_SECONDS, ScanBound, Waiting, inbox_table
from models.intake.notifications import Arrival, NotificationStatus
from models.intake.quarantine import quarantine_table
from tests.support.rows import LOCATION, arrive, read, receive, rows_of, write

ARRIVAL = Arrival(
    arrival_id="arrival-1", dedupe_key="one", dialect="thin", authenticated_by="intake_path",
    status=NotificationStatus.UNRESOLVED, reason="call_id_missing", location_id=LOCATION, call_id="call-1",
    contact_id="contact-1", from_number="+15550100", started_at=datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
    webhook_id="webhook-1", event_type="VoiceAiCallEnd", document={"id": "call-1", "deep": [1, {"two": "…"}]},
)  # fmt: skip


def url_of(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)


def take(database: Database, *numbers: int) -> list[Arrival]:
    """As `workers.take_in` does: what was taken and committed leaves the inbox."""
    by_number = write(database, inbox.take, numbers or read(database, inbox.oldest))
    inbox.forget(database, by_number)
    return list(by_number.values())


def taken(database: Database) -> list[str]:
    return [each.dedupe_key for each in take(database)]


def test_an_arrival_comes_out_as_it_went_in_with_its_time(database: Database) -> None:
    write(database.inbox, inbox.put_all, [ARRIVAL])
    [row] = rows_of(database, inbox_table)
    assert take(database) == [replace(ARRIVAL, received_at=row["received_at"])]
    assert rows_of(database, inbox_table) == []


def test_arrivals_are_taken_in_their_order_and_in_batches(database: Database) -> None:
    with database.inbox.transaction() as connection:
        for number in range(inbox.ARRIVALS_AT_ONCE + 2):
            inbox.put_all(connection, [replace(ARRIVAL, arrival_id=str(number), dedupe_key=str(number))])
    assert taken(database) == [str(number) for number in range(inbox.ARRIVALS_AT_ONCE)]
    assert taken(database) == [str(inbox.ARRIVALS_AT_ONCE), str(inbox.ARRIVALS_AT_ONCE + 1)]
    assert taken(database) == []


def test_a_scan_begins_after_what_was_seen_a_minute_ago_and_now_and_then_at_the_beginning() -> None:
    bound = ScanBound()
    assert bound.after(1000.0) == 0
    bound.record(1000.0, 7)
    assert bound.after(1030.0) == 0, "a smaller number may still be committed"
    bound.record(1030.0, 9)
    assert bound.after(1000.0 + WHOLE_SCAN_SECONDS) == 0, "whatever was committed later than that is found"
    assert bound.after(1061.0) == 7
    assert bound.after(1091.0) == 9


def test_an_arrival_that_is_committed_late_is_found_by_a_scan_from_the_beginning(database: Database) -> None:
    bound = ScanBound()
    write(database.inbox, inbox.put_all, [ARRIVAL])
    [number] = read(database, inbox.numbers, bound)
    bound._after = number  # as if a minute had passed
    assert read(database, inbox.numbers, bound) == []
    bound._from_beginning_at -= WHOLE_SCAN_SECONDS
    assert read(database, inbox.numbers, bound) == [number]


def test_a_number_is_never_given_twice_because_scans_begin_after_those_they_have_seen(database: Database) -> None:
    receive(database, "first")
    [first] = rows_of(database, inbox_table)
    take(database)
    receive(database, "second")
    [second] = rows_of(database, inbox_table)
    assert second["number"] > first["number"]


def test_an_arrival_is_written_down_once(database: Database) -> None:
    write(database.inbox, inbox.put_all, [ARRIVAL])
    write(database.inbox, inbox.put_all, [replace(ARRIVAL, dedupe_key="two"), replace(ARRIVAL, arrival_id="arrival-2")])
    assert [row["arrival_id"] for row in rows_of(database, inbox_table)] == ["arrival-1", "arrival-2"]


def test_a_look_sees_repeats_that_wait_and_those_that_were_taken_in(database: Database) -> None:
    receive(database, "waits")
    arrive(database, "taken in")
    came = [replace(ARRIVAL, arrival_id=key, dedupe_key=key) for key in ("new", "waits", "taken in")]
    looking = KeptConnection(Database(url_of(database), limits=WORKER).inbox)
    assert looking.run(lambda connection: inbox.put_and_look(connection, came)) == {"waits", "taken in"}
    looking.close()
    assert {"new", "waits", "taken in"} <= {row["arrival_id"] for row in rows_of(database, inbox_table)}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_another_transaction_is_taking_is_left_to_it(database: Database) -> None:
    receive(database, "one")
    with database.transaction() as other:
        [row] = rows_of(database, inbox_table)
        assert [each.dedupe_key for each in inbox.take(other, inbox.oldest(other)).values()] == ["one"]
        receive(database, "two")
        assert not write(database, quarantine.set_aside, row["number"], error="DataError")
        assert take(database, row["number"]) == []
        assert taken(database) == ["two"]
    assert rows_of(database, inbox_table) == rows_of(database, quarantine_table) == []


def test_what_waits_is_counted_with_the_age_of_the_oldest(database: Database) -> None:
    assert read(database, inbox.waiting) == Waiting(0, 0.0)
    receive(database, "one")
    receive(database, "two", location_id=None)
    waiting = read(database, inbox.waiting)
    assert waiting.number == 2
    assert 0 <= waiting.oldest_seconds < 30
    assert read(database, inbox.waiting, LOCATION).number == 1
