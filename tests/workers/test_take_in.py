"""Taking in: whatever happens meanwhile, each arrival is counted once and its call becomes work."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog.testing
from sqlalchemy.exc import ProgrammingError

from models.accounts import accounts
from models.calls.calls import YOUNG, Origin, calls_table, work_key
from models.database import Database, moment
from models.failpoints import arm_failpoints
from models.intake.inbox import ARRIVALS_AT_ONCE, inbox_table
from models.intake.notifications import NotificationStatus, notifications_table
from models.intake.quarantine import quarantine_table
from models.intake.reasons import Reason
from models.intake.rejection_counts import rejection_counts_table
from models.reconciling.unknown_calls import CEILING, TOO_MANY
from models.work.work_rows import Lane, work_table
from tests.crash.points import Points
from tests.support.refusing import refusing_call
from tests.support.rows import (
    LOCATION,
    TRANSCRIPT,
    add_account,
    announce,
    arrive,
    call_log,
    call_row,
    change,
    claim_call,
    dead_letter_call,
    fetch,
    on_sqlite,
    receive,
    rows_of,
    seconds_until,
    write,
)
from tests.support.waiting import at_once, meanwhile
from workers import take_in as take_in_module
from workers.take_in import take_in

KEY = work_key(LOCATION, "call-1")


def notification(database: Database) -> sa.RowMapping:
    [row] = rows_of(database, notifications_table)
    return row


def call_ids(database: Database) -> list[str]:
    """Of the calls that are to be read."""
    return [row["subject"] for row in rows_of(database, work_table)]


# What becomes of the call


def announced_only(database: Database) -> None:
    announce(database, "call-1")
    change(database, KEY, lane=Lane.BACKFILLED)


def running(database: Database) -> None:
    announce(database, "call-1")
    claim_call(database, "call-1")


def dead(cause: str) -> Callable[[Database], None]:
    def prepare(database: Database) -> None:
        announce(database, "call-1")
        dead_letter_call(database, "call-1", cause=cause)

    return prepare


def stored(
    *, origin: Origin = Origin.RECONCILE, wants_follow_ups: bool = True, settled: bool = True, erased: bool = False,
    age: timedelta = YOUNG,
) -> Callable[[Database], None]:  # fmt: skip
    """A call that ended `age` ago."""

    def prepare(database: Database) -> None:
        announce(database, "call-1", origin=origin, wants_follow_ups=wants_follow_ups)
        words = TRANSCRIPT if settled else ""
        started_at = datetime.now(UTC) - age - timedelta(seconds=61)
        fetch(
            database, call_log("call-1", started_at=started_at, duration_seconds=60.0, transcript=words, summary=words)
        )
        with database.transaction() as connection:
            if settled:
                connection.execute(sa.delete(work_table))
            if erased:
                connection.execute(sa.update(calls_table).values(erased_at=moment()))

    return prepare


@pytest.mark.parametrize(
    ("before", "status", "is_due"),
    [
        pytest.param(lambda _database: None, "pending", True, id="unknown"),
        pytest.param(announced_only, "pending", True, id="waiting"),
        pytest.param(running, "running", False, id="running"),
        pytest.param(dead("not_found"), "pending", True, id="dead"),
        pytest.param(dead("poison"), "dead", False, id="poison"),
        pytest.param(stored(), "complete", False, id="stored"),
        pytest.param(stored(settled=False), "pending", True, id="unsettled"),
        pytest.param(stored(age=YOUNG - timedelta(minutes=1)), "pending", True, id="settled and young"),
        pytest.param(stored(origin=Origin.BACKFILL, wants_follow_ups=False), "pending", True, id="without follow-ups"),
    ],
)
def test_a_notification_makes_its_call_work_by_what_is_known_of_it(
    database: Database, before: Callable[[Database], None], status: str, is_due: bool
) -> None:
    before(database)
    arrive(database, "one", call_id="call-1")
    row = call_row(database)
    assert row.status == status
    assert row.announced_at is not None
    assert row.wants_follow_ups
    assert is_due == (row.due_at is not None and seconds_until(database, row.due_at) <= 0)
    if is_due:
        assert row.lane == Lane.LIVE


def test_an_erased_call_is_left_alone(database: Database) -> None:
    stored(erased=True, age=timedelta(seconds=1))(database)
    before = rows_of(database, calls_table)
    arrive(database, "one", call_id="call-1")
    assert (rows_of(database, calls_table), call_ids(database)) == (before, [])


def test_a_call_is_heard_of_when_its_notification_came(database: Database) -> None:
    receive(database, "one", call_id="call-1")
    with database.inbox.transaction() as connection:
        connection.execute(sa.update(inbox_table).values(received_at=moment(-600)))
    take_in(database)
    row = call_row(database)
    assert -602 < seconds_until(database, row.first_heard_at) < -598
    assert row.announced_at == row.first_heard_at


def test_a_repeat_while_the_call_is_being_read_asks_for_another_reading_and_touches_no_lease(
    database: Database,
) -> None:
    arrive(database, "one", call_id="call-1")
    claim_call(database, "call-1")
    [before] = rows_of(database, work_table)
    arrive(database, "one", call_id="call-1")
    [after] = rows_of(database, work_table)
    assert {name for name in after if after[name] != before[name]} == {"requested"}


def test_one_without_a_call_id_brings_the_listing_of_its_account_forward(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(sa.update(accounts.accounts_table).values(next_reconcile_at=moment(900)))
    arrive(database, "one", status=NotificationStatus.UNRESOLVED, contact_id="contact-1")
    [account] = rows_of(database, accounts.accounts_table)
    assert 0 < seconds_until(database, account["next_reconcile_at"]) <= 2


@pytest.mark.parametrize("status", [NotificationStatus.UNRESOLVED, NotificationStatus.IGNORED])
def test_without_a_usable_call_id_it_is_kept_with_its_reason_and_makes_no_work(
    database: Database, status: NotificationStatus
) -> None:
    arrive(database, "one", status=status, reason="a_reason", contact_id="contact-1")
    row = notification(database)
    assert (row["status"], row["reason"], row["contact_id"]) == (status, "a_reason", "contact-1")
    assert call_ids(database) == []


# Accounts


def test_what_is_of_an_account_that_was_removed_since_is_ignored_and_counted(database: Database) -> None:
    for _ in range(2):
        receive(database, "one", call_id="call-1", document={"id": "call-1"})
    write(database, accounts.remove, LOCATION)
    take_in(database)
    row = notification(database)
    assert (row["status"], row["reason"], row["repeats"]) == ("ignored", Reason.LOCATION_NOT_SERVED, 1)
    assert (row["call_id"], row["document"], call_ids(database)) == (None, None, [])


def test_what_is_of_an_account_that_was_added_since_is_accepted(unserved: Database) -> None:
    receive(unserved, "one", call_id="call-1", document={"id": "call-1"})
    add_account(unserved)
    take_in(unserved)
    assert (notification(unserved)["status"], call_ids(unserved)) == ("accepted", ["call-1"])


def test_what_was_ignored_is_accepted_when_it_comes_again_and_the_account_was_added(unserved: Database) -> None:
    arrive(unserved, "one", call_id="call-1", document={"id": "call-1"})
    assert (notification(unserved)["status"], call_ids(unserved)) == ("ignored", [])
    add_account(unserved)
    arrive(unserved, "one", call_id="call-1", document={"id": "call-1"})
    row = notification(unserved)
    assert (row["status"], row["reason"], row["call_id"]) == ("accepted", None, "call-1")
    assert (row["document"], row["repeats"], call_ids(unserved)) == ({"id": "call-1"}, 1, ["call-1"])


# At the same time


@pytest.fixture
def points(tmp_path: Path) -> Iterator[Points]:
    arm_failpoints(tmp_path)
    yield Points(tmp_path)
    arm_failpoints(None)


@pytest.mark.parametrize("point", ["inbox_taken", "notifications_merged", "taken_in_before_commit"])
def test_a_repeat_that_comes_while_its_first_is_being_taken_in_is_counted(
    database: Database, points: Points, point: str
) -> None:
    receive(database, "one", call_id="call-1")
    points.arm(point)
    with meanwhile(lambda: take_in(database)):
        points.wait_until_reached(point)
        with meanwhile(lambda: arrive(database, "one", call_id="call-1")):  # on PostgreSQL it is taken in meanwhile
            points.open(point)
    take_in(database)
    assert (notification(database)["repeats"], call_ids(database)) == (1, ["call-1"])
    assert call_row(database).requested == 2
    assert rows_of(database, inbox_table) == []


def test_several_at_once_share_out_what_waits_and_end_when_it_is_all_taken_in(database: Database) -> None:
    for number in range(90):
        receive(database, f"key-{number % 30}", call_id=f"call-{number % 30}")
    at_once([lambda: take_in(database)] * 4)
    take_in(database)
    rows = rows_of(database, notifications_table)
    assert [row["repeats"] for row in rows] == [2] * 30
    assert len(call_ids(database)) == 30
    assert rows_of(database, inbox_table) == []


@on_sqlite
def test_a_backlog_of_several_batches_is_taken_in_at_one_go(database: Database) -> None:
    copied = ", ".join(column.name for column in inbox_table.c if column.name not in ("number", "arrival_id"))
    receive(database, "one", call_id="call-1")
    with database.inbox.transaction() as connection:  # as many repeats
        connection.execute(
            sa.text(
                f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {2 * ARRIVALS_AT_ONCE})"
                f" INSERT INTO inbox (arrival_id, {copied}) SELECT i, {copied} FROM inbox, n"
            )
        )
    take_in(database)
    assert (notification(database)["repeats"], rows_of(database, inbox_table)) == (2 * ARRIVALS_AT_ONCE, [])


# Crashes


class Crash(BaseException):
    """The process ends here."""


def test_a_crash_at_every_statement_loses_nothing_and_counts_nothing_twice(database: Database) -> None:
    receive(database, "one", call_id="call-1")
    receive(database, "one", call_id="call-1")
    receive(database, "two", status=NotificationStatus.UNRESOLVED)
    receive(database, "three", call_id="call-3", location_id="loc-unknown")
    announce(database, "call-1", origin=Origin.RECONCILE)
    before = [rows_of(database, table) for table in (inbox_table, notifications_table, work_table)]
    crashes = 0
    while not _is_taken_in_without_crash(database, at_statement=crashes + 1):
        crashes += 1
        now = [rows_of(database, table) for table in (inbox_table, notifications_table, work_table)]
        if now != before:  # a SQLite inbox is a file of its own: it forgets after the commit
            assert (database.inbox is database, now[0]) == (False, before[0]), f"after a crash at statement {crashes}"
            assert len(now[1]) == 3
            before = now
    assert crashes >= 6, "a look at the inbox, its DELETE, the accounts, the merge, the call"
    kept = {row["dedupe_key"]: (row["status"], row["repeats"]) for row in rows_of(database, notifications_table)}
    assert kept == {"one": ("accepted", 1), "two": ("unresolved", 0), "three": ("ignored", 0)}
    assert call_ids(database) == ["call-1"]
    assert rows_of(database, inbox_table) == []


def _is_taken_in_without_crash(database: Database, *, at_statement: int) -> bool:
    """Crashes before the statement, or before the commit that follows the last one."""
    left = at_statement

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise Crash

    events = ("before_cursor_execute", "commit")
    engines = {database.engine, database.inbox.engine}
    for event, engine in itertools.product(events, engines):
        sa.event.listen(engine, event, count)
    try:
        take_in(database)
    except Crash:
        return False
    finally:
        for event, engine in itertools.product(events, engines):
            sa.event.remove(engine, event, count)
    return True


# What the database refuses


@pytest.fixture
def refusing(database: Database) -> Iterator[Database]:
    with refusing_call(database, "notifications", "call-2"):
        yield database


def test_a_row_that_the_database_refuses_is_set_aside_and_stops_no_other(refusing: Database) -> None:
    for number in (1, 2, 3):
        receive(refusing, f"key-{number}", call_id=f"call-{number}", document={"id": f"call-{number}"})
    [_, held, _] = rows_of(refusing, inbox_table)
    with structlog.testing.capture_logs() as said:
        take_in(refusing)
    assert call_ids(refusing) == ["call-1", "call-3"]
    assert rows_of(refusing, inbox_table) == []
    [aside] = rows_of(refusing, quarantine_table)
    assert {name: aside[name] for name in held if name != "number"} == {
        name: value for name, value in held.items() if name != "number"
    }
    assert aside["error"] == "IntegrityError"
    assert [line["log_level"] for line in said if line["event"] == "notification_quarantined"] == ["error"]
    receive(refusing, "key-4", call_id="call-4")
    take_in(refusing)
    assert call_ids(refusing) == ["call-1", "call-3", "call-4"]


@on_sqlite
def test_a_row_that_cannot_even_be_read_is_set_aside_too(database: Database) -> None:
    for number in (1, 2):
        receive(database, f"key-{number}", call_id=f"call-{number}", document={"id": f"call-{number}"})
    with database.inbox.transaction() as connection:
        connection.execute(sa.text("UPDATE inbox SET document = '{\"id\"' WHERE number = 1"))
    take_in(database)
    assert call_ids(database) == ["call-2"]
    with database.reading() as connection:
        assert connection.execute(sa.text("SELECT document FROM quarantine")).scalars().all() == ['{"id"']


def test_while_the_database_is_not_as_it_should_be_nothing_is_set_aside(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(database, "one", call_id="call-1")

    def broken(connection: Any, *_: object) -> None:
        connection.execute(sa.text("SELECT * FROM a_table_that_is_away"))

    with monkeypatch.context() as patch:
        patch.setattr(take_in_module.notifications, "merge", broken)
        patch.setattr("models.database.connections.RETRY_PAUSE_SECONDS", 0)
        with pytest.raises((ProgrammingError, sa.exc.OperationalError)):
            take_in(database)
    assert len(rows_of(database, inbox_table)) == 1
    assert rows_of(database, quarantine_table) == []
    take_in(database)
    assert call_ids(database) == ["call-1"]


# Signed, but of calls that nobody knows


def named_unknown_calls(database: Database, *, number: int = CEILING, proof: str = "ed25519") -> None:
    """Notifications of half an hour ago, whose calls Leadway still does not know."""
    for index in range(number):
        receive(database, f"unknown-{index}", call_id=f"unknown-{index}", authenticated_by=proof)
    with database.inbox.transaction() as connection:
        connection.execute(sa.update(inbox_table).values(received_at=moment(-1800)))
    take_in(database)
    with database.transaction() as connection:
        connection.execute(sa.update(work_table).values(last_error="not_found", due_at=moment(600)))


def counted(database: Database) -> dict[str, int]:
    return {row["reason"]: row["number"] for row in rows_of(database, rejection_counts_table)}


def test_beyond_the_ceiling_signed_notifications_of_unknown_calls_are_only_counted(database: Database) -> None:
    named_unknown_calls(database)
    waiting = call_ids(database)
    for _ in range(2):
        receive(database, "new", call_id="call-1")
    receive(database, "without id", status=NotificationStatus.UNRESOLVED)
    receive(database, "again", call_id="unknown-0")
    take_in(database)
    assert counted(database) == {TOO_MANY: 4}
    assert call_ids(database) == waiting
    assert call_row(database, "unknown-0").requested == 1
    assert len(rows_of(database, notifications_table)) == CEILING


def test_below_the_ceiling_and_with_an_intake_secret_they_become_work(database: Database) -> None:
    named_unknown_calls(database, number=CEILING - 1)
    arrive(database, "signed", call_id="call-1")
    assert "call-1" in call_ids(database)
    arrive(database, "without id", status=NotificationStatus.UNRESOLVED)
    arrive(database, "with a secret", call_id="call-2", authenticated_by="intake_path")
    assert "call-2" in call_ids(database)
    assert counted(database) == {}


def test_repeats_count_towards_the_ceiling_and_unknown_calls_with_a_secret_do_not(database: Database) -> None:
    named_unknown_calls(database, proof="intake_header")
    for _ in range(CEILING - 1):
        receive(database, "without id", status=NotificationStatus.UNRESOLVED)
    take_in(database)
    arrive(database, "signed", call_id="call-1")
    assert "call-1" in call_ids(database)
    arrive(database, "without id", status=NotificationStatus.UNRESOLVED)
    arrive(database, "signed too", call_id="call-2")
    assert "call-2" not in call_ids(database)


def test_beyond_the_ceiling_a_known_call_is_read_again_and_other_accounts_go_on(database: Database) -> None:
    announce(database, "waiting")
    change(database, work_key(LOCATION, "waiting"), due_at=None)
    stored(settled=False)(database)
    named_unknown_calls(database)
    change(database, work_key(LOCATION, "waiting"), last_error=None)
    change(database, KEY, last_error=None)
    for call_id in ("waiting", "call-1"):
        arrive(database, call_id, call_id=call_id)
        assert call_row(database, call_id).requested == 2
    add_account(database, "another")
    arrive(database, "of another", call_id="call-2", location_id="another")
    assert "call-2" in call_ids(database)


def test_a_log_that_is_not_there_yet_counts_for_nothing(database: Database) -> None:
    for index in range(CEILING):
        receive(database, f"new-{index}", call_id=f"new-{index}")
    take_in(database)
    with database.transaction() as connection:
        connection.execute(sa.update(work_table).values(last_error="not_found"))
    arrive(database, "one more", call_id="call-1")
    assert "call-1" in call_ids(database)


def test_the_ceiling_is_lifted_after_a_day(database: Database) -> None:
    named_unknown_calls(database)
    with database.transaction() as connection:
        connection.execute(sa.update(notifications_table).values(last_received_at=moment(-86_401)))
    arrive(database, "new", call_id="call-1")
    assert "call-1" in call_ids(database)
