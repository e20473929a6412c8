"""Calls: announced once, read again while that may bring news, found whether they are stored or not."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from models.calls import calls
from models.calls.calls import YOUNG, Origin, calls_table
from models.database import Database, moment
from models.work import lifecycle
from models.work.work_rows import Lane, WorkStatus, work_table
from tests.support.rows import (
    LOCATION,
    SUMMARY,
    TRANSCRIPT,
    announce,
    booked_call,
    call_row,
    change,
    claim_call,
    claimed_call,
    dead_call,
    fetch,
    make_due,
    read,
    rows_of,
    run_out,
    seconds_until,
    standing_call,
    write,
)
from tests.support.waiting import at_once

KEY = calls.work_key(LOCATION, "call-1")
OLD = booked_call("call-1")
YOUNG_ONE = replace(OLD, started_at=datetime.now(UTC), duration_seconds=1.0)
UNSETTLED = replace(OLD, summary="", transcript="")


def test_a_new_call_is_due_at_once_and_a_known_one_is_told_from_it(database: Database) -> None:
    with database.transaction() as connection:
        assert calls.announce(connection, LOCATION, "call-1")
        assert not calls.announce(connection, LOCATION, "call-1")
        assert calls.announce(connection, "another location", "call-1")
    row = call_row(database)
    assert (row.status, row.lane, row.origin) == (WorkStatus.PENDING, Lane.LIVE, Origin.NOTIFICATION)
    assert seconds_until(database, row.due_at) <= 0
    assert row.announced_at == row.first_heard_at
    assert row.wants_follow_ups is True
    assert rows_of(database, calls_table) == [], "a call has a row when a log is stored"


def test_many_announcements_at_once_make_one_call(database: Database) -> None:
    def announce_it() -> bool:
        return write(database, calls.announce, LOCATION, "call-1")

    assert sorted(at_once([announce_it] * 8)) == [False] * 7 + [True]
    assert len(rows_of(database, work_table)) == 1


def test_an_announcement_brings_an_unread_call_forward(database: Database) -> None:
    write(database, lifecycle.reschedule, claimed_call(database), seconds=600, counted=True)
    announce(database, "call-1")
    row = call_row(database)
    assert seconds_until(database, row.due_at) <= 0
    assert (row.lane, row.attempts) == (Lane.LIVE, 1)


def test_an_announcement_does_not_put_off_what_is_already_due_nor_lets_it_sink(database: Database) -> None:
    announce(database, "call-1")
    change(database, KEY, due_at=moment(-60))
    announce(database, "call-1", lane=Lane.BACKFILLED)
    row = call_row(database)
    assert seconds_until(database, row.due_at) < -50
    assert row.lane == Lane.LIVE


def test_a_running_call_keeps_its_lease_when_it_is_announced_again(database: Database) -> None:
    claim = claimed_call(database)
    before = call_row(database)
    announce(database, "call-1")
    row = call_row(database)
    assert (row.due_at, row.lease_until) == (before.lease_until, before.lease_until)
    assert row.requested == claim.requested + 1


# Of stored calls


@pytest.mark.parametrize(
    ("log", "again"), [(OLD, False), (YOUNG_ONE, True), (UNSETTLED, True)], ids=["old", "young", "unsettled"]
)
def test_a_stored_call_is_read_again_when_it_is_announced_if_it_is_young_or_unsettled(
    database: Database, log: Any, again: bool
) -> None:
    assert timedelta(minutes=1) < YOUNG < timedelta(hours=1)
    announce(database, "call-1")
    fetch(database, log)
    before = read(database, calls.get, LOCATION, "call-1")
    announce(database, "call-1")
    assert (claim_call(database, "call-1") is not None) is again
    assert read(database, calls.get, LOCATION, "call-1") == before


def test_a_young_call_is_read_again_for_a_notification_and_for_no_listing(database: Database) -> None:
    announce(database, "call-1")
    fetch(database, YOUNG_ONE)
    announce(database, "call-1", origin=Origin.RECONCILE)
    assert claim_call(database, "call-1") is None


def test_an_announcement_of_an_old_call_repeats_the_reading_that_is_under_way(database: Database) -> None:
    announce(database, "call-1")
    fetch(database, OLD)
    write(database, calls.replay, LOCATION, "call-1")
    claim = claim_call(database, "call-1")
    assert claim is not None
    announce(database, "call-1")
    write(database, lifecycle.complete, claim)
    assert claim_call(database, "call-1") is not None


@pytest.mark.parametrize("stored", [True, False])
def test_a_call_that_a_listing_found_first_remembers_when_its_notification_came(
    database: Database, stored: bool
) -> None:
    announce(database, "call-1", origin=Origin.RECONCILE, lane=Lane.RECONCILED)
    if stored:
        fetch(database, OLD)
    assert call_row(database).announced_at is None
    announce(database, "call-1")
    row = call_row(database)
    announced_at = row.announced_at
    assert (announced_at is not None, row.origin) == (True, Origin.RECONCILE)
    announce(database, "call-1")
    assert call_row(database).announced_at == announced_at, "the first"


@pytest.mark.parametrize("stored", [True, False])
def test_a_backfilled_call_gets_follow_ups_when_its_notification_comes(database: Database, stored: bool) -> None:
    backfilled: Mapping[str, Any] = {"origin": Origin.BACKFILL, "lane": Lane.BACKFILLED, "wants_follow_ups": False}
    announce(database, "call-1", **backfilled)
    if stored:
        fetch(database, OLD)
    announce(database, "call-1", **backfilled)
    assert call_row(database).wants_follow_ups is False
    announce(database, "call-1")
    row = call_row(database)
    assert (row.status, row.wants_follow_ups, row.lane) == (WorkStatus.PENDING, True, Lane.LIVE)
    fetch(database, OLD)
    announce(database, "call-1")
    assert call_row(database).status == "complete", "wanted once, read once more"


# Dead calls and people


@pytest.mark.parametrize("origin", list(Origin))
def test_a_dead_call_is_revived_by_a_notification_and_by_a_listing(database: Database, origin: Origin) -> None:
    dead_call(database, "call-1")
    assert call_row(database).due_at is None
    announce(database, "call-1", origin=origin)
    row = call_row(database)
    assert (row.status, row.dead_cause, row.failures) == (WorkStatus.PENDING, None, 0)
    assert claim_call(database, "call-1") is not None


def test_poison_is_not_revived_by_a_notification_or_a_listing_but_by_a_person(database: Database) -> None:
    announce(database, "call-1")
    for isolated in (False, False, True, True):
        claim_call(database, "call-1", isolated=isolated)
        run_out(database, KEY)
    assert claim_call(database, "call-1", isolated=True) is None
    for origin in Origin:
        announce(database, "call-1", origin=origin)
    assert (call_row(database).status, call_row(database).due_at) == (WorkStatus.DEAD, None)
    assert write(database, calls.replay, LOCATION, "call-1")
    row = call_row(database)
    assert (row.status, row.dead_cause, row.lost_leases) == (WorkStatus.PENDING, None, 0)
    assert claim_call(database, "call-1") is not None, "in company, as a new one"


def test_a_person_may_have_a_complete_call_read_again_but_no_unknown_one(database: Database) -> None:
    announce(database, "call-1")
    fetch(database, OLD)
    assert write(database, calls.replay, LOCATION, "call-1")
    assert not write(database, calls.replay, LOCATION, "unknown")
    row = call_row(database)
    assert (row.status, row.lane) == (WorkStatus.PENDING, Lane.LIVE)
    assert (row.summary, row.transcript) == (SUMMARY, TRANSCRIPT), "nothing is lost until the new reading is there"
    assert claim_call(database, "call-1") is not None
    assert standing_call(database, "unknown") is None


def test_settling_a_stored_call_as_it_is_keeps_the_time_when_it_settled_first(database: Database) -> None:
    announce(database, "call-1")
    fetch(database, UNSETTLED)
    write(database, calls.settle, LOCATION, "call-1")
    settled_at = call_row(database).settled_at
    assert settled_at is not None
    make_due(database, KEY)
    write(database, calls.settle, LOCATION, "call-1")
    assert call_row(database).settled_at == settled_at
