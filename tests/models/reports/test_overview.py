"""The numbers of an account: what is counted as of today, and what waits."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from models.calls.calls import Origin
from models.database import Database
from models.reports import call_list, overview
from models.reports.overview import Today
from models.work import lifecycle
from models.work.work_rows import Lane
from tests.support.rows import (
    announce,
    booked_call,
    call_row,
    claimed_call,
    done_follow_up,
    fetch,
    notify,
    read,
    store,
    store_reading,
)
from tests.support.worker import AtWork, reconcile


def today(database: Database, at: datetime) -> Today:
    [account] = read(database, overview.of_accounts, at)
    return account.today


def test_a_call_of_before_midnight_counts_with_its_notification_on_the_day_it_was_heard_of(database: Database) -> None:
    call = booked_call("call-1")
    assert call.started_at is not None
    store(database, replace(call, started_at=call.started_at - timedelta(days=1)))
    done_follow_up(database, "call-1")
    heard_of_at = call_row(database).first_heard_at
    assert today(database, heard_of_at) == Today(notifications=1, calls_stored=1, follow_ups_done=1)
    assert today(database, heard_of_at + timedelta(days=1)) == Today(0, 0, 0)


def test_calls_that_only_a_backfill_brought_are_not_counted(database: Database) -> None:
    announce(database, "call-1", "call-2", origin=Origin.BACKFILL, lane=Lane.BACKFILLED)
    for call_id in ("call-1", "call-2"):
        fetch(database, booked_call(call_id))
        done_follow_up(database, call_id)
    heard_of_at = call_row(database).first_heard_at
    assert today(database, heard_of_at) == Today(0, 0, 0)
    notify(database, "call-2")
    assert today(database, heard_of_at) == Today(notifications=1, calls_stored=1, follow_ups_done=1)


def test_what_is_still_to_be_done_is_not_counted(database: Database) -> None:
    notify(database, "call-1")
    heard_of_at = call_row(database).first_heard_at
    assert today(database, heard_of_at) == Today(notifications=1, calls_stored=0, follow_ups_done=0)
    store(database, booked_call("call-2"))
    assert today(database, heard_of_at) == Today(notifications=2, calls_stored=1, follow_ups_done=0)


@pytest.mark.parametrize("listed", [False, True])
def test_a_call_that_is_stored_and_not_settled_waits_no_more_and_is_listed_once(at_work: AtWork, listed: bool) -> None:
    call = at_work.double.place_call(empty_for=3600.0)
    at_work.announce(call)
    if listed:
        reconcile(at_work)
    else:
        at_work.fetch(call)
    [account] = read(at_work.database, overview.of_accounts)
    assert (account.waiting_calls, account.oldest_waiting_call, account.unsettled_calls) == (0, None, 1)
    assert len(read(at_work.database, call_list.newest, limit=10).calls) == 1


def test_a_call_that_is_notified_of_while_it_is_first_read_is_listed_once(database: Database) -> None:
    claim = claimed_call(database)
    notify(database, "call-1")
    with database.transaction() as connection:
        store_reading(connection, claim, booked_call("call-1"))
        lifecycle.complete(connection, claim)
    [listed] = read(database, call_list.newest, limit=10).calls
    assert (listed.status, listed.stored_at is None) == ("pending", False)
