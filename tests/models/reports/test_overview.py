"""The numbers of an account: what is counted as of today."""

from dataclasses import replace
from datetime import datetime, timedelta

from models.calls.calls import Origin
from models.database import Database
from models.reports import overview
from models.reports.overview import Today
from models.work.work_rows import Lane
from tests.support.rows import announce, booked_call, call_row, done_follow_up, fetch, notify, read, store


def today(database: Database, at: datetime) -> Today:
    [account] = read(database, overview.of_accounts, at)
    return account.today


def test_a_call_of_before_midnight_counts_with_its_notification_on_the_day_it_was_heard_of(database: Database) -> None:
    call = booked_call("call-1")
    assert call.started_at is not None
    store(database, replace(call, started_at=call.started_at - timedelta(days=1)))
    done_follow_up(database, "call-1")
    heard_of_at = call_row(database).created_at
    assert today(database, heard_of_at) == Today(notifications=1, calls_stored=1, follow_ups_done=1)
    assert today(database, heard_of_at + timedelta(days=1)) == Today(0, 0, 0)


def test_calls_that_only_a_backfill_brought_are_not_counted(database: Database) -> None:
    announce(database, "call-1", "call-2", origin=Origin.BACKFILL, lane=Lane.BACKFILLED)
    for call_id in ("call-1", "call-2"):
        fetch(database, booked_call(call_id))
        done_follow_up(database, call_id)
    heard_of_at = call_row(database).created_at
    assert today(database, heard_of_at) == Today(0, 0, 0)
    notify(database, "call-2")
    assert today(database, heard_of_at) == Today(notifications=1, calls_stored=1, follow_ups_done=1)


def test_what_is_still_to_be_done_is_not_counted(database: Database) -> None:
    notify(database, "call-1")
    heard_of_at = call_row(database).created_at
    assert today(database, heard_of_at) == Today(notifications=1, calls_stored=0, follow_ups_done=0)
    store(database, booked_call("call-2"))
    assert today(database, heard_of_at) == Today(notifications=2, calls_stored=1, follow_ups_done=0)
