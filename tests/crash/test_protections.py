"""Protections that no cell of the matrix can time, for another one stands before them: a mutation drops each."""

from datetime import timedelta
from functools import partial

import pytest

from models.calls.calls import work_key
from models.database import Database, moment
from models.follow_ups import follow_ups
from models.intake import inbox
from models.work import lifecycle, open_work
from models.work.dispatch_order import ScanMemory, due_accounts
from models.work.lifecycle import LeaseLost
from tests.support.grouped import together
from tests.support.rows import (
    LOCATION,
    announce,
    arrive,
    call_log,
    call_row,
    change,
    claim_call,
    claim_work,
    claimed_call,
    claimed_follow_up,
    fetch,
    on_postgresql,
    on_sqlite,
    only_follow_up,
    plan,
    read,
    receive,
    run_out,
    store_reading,
    unclear_follow_up,
    until_somebody_waits,
    write,
)
from tests.support.waiting import meanwhile
from workers.process.grouped_transactions import GroupedTransactions


def test_an_older_reading_is_not_stored_over_a_newer_one(database: Database) -> None:
    older = claimed_call(database)
    run_out(database, older.key)
    fetch(database, call_log(summary="newer"))
    write(database, store_reading, older, call_log(summary="older"))
    assert call_row(database).summary == "newer"


def test_a_claim_that_was_taken_over_completes_and_reschedules_nothing(database: Database) -> None:
    older = claimed_call(database)
    run_out(database, older.key)
    assert claim_work(database, older.key, worker="worker-2") is not None
    for end in (lifecycle.complete, partial(lifecycle.reschedule, seconds=60.0)):
        with pytest.raises(LeaseLost):
            write(database, end, older)
    assert call_row(database).running_on == "worker-2"


def test_what_shares_its_transaction_with_an_attempt_that_lost_its_lease_is_done(database: Database) -> None:
    lost, good = claimed_call(database, "call-1"), claimed_call(database, "call-2")
    run_out(database, lost.key)
    assert claim_work(database, lost.key, worker="worker-2") is not None
    grouped = GroupedTransactions(database)
    ends = [partial(lifecycle.complete, claim=claim) for claim in (good, lost)]
    answers = together(grouped, ends)
    grouped.close()
    assert answers[0] is None
    assert isinstance(answers[1], LeaseLost)
    assert read(database, open_work.get, good.key) is None
    assert call_row(database, "call-1").running_on == "worker-2"


def test_a_call_that_was_announced_since_its_claim_is_read_again_when_that_ends(database: Database) -> None:
    claim = claimed_call(database)
    arrive(database, "again", call_id="call-1")
    write(database, lifecycle.complete, claim)
    assert claim_work(database, claim.key) is not None


def test_under_one_claim_an_intent_is_written_once(database: Database) -> None:
    follow_up_id = plan(database)
    claim, seen = claimed_follow_up(database, follow_up_id), only_follow_up(database)
    assert write(database, follow_ups.intend, claim, seen, seconds=1)
    assert not write(database, follow_ups.intend, claim, seen, seconds=1)


@on_postgresql
def test_a_persons_decision_waits_for_the_attempt_that_holds_the_work(database: Database) -> None:
    plan(database)
    follow_up_id = unclear_follow_up(database, seconds=0)
    claim, seen = claimed_follow_up(database, follow_up_id), only_follow_up(database)
    settled: list[bool] = []
    with database.transaction() as connection:
        assert follow_ups.intend(connection, claim, seen, seconds=20)
        settling = partial(write, database, follow_ups.settle_by_person, follow_up_id, is_there=True)
        with meanwhile(lambda: settled.append(settling())):
            until_somebody_waits(database)
            connection.commit()
    assert settled == [False]


def test_no_intent_is_written_when_the_lease_does_not_last(database: Database) -> None:
    follow_up_id = plan(database)
    claim, seen = claimed_follow_up(database, follow_up_id), only_follow_up(database)
    assert not write(database, follow_ups.intend, claim, seen, seconds=61)


def test_what_is_not_due_or_is_leased_is_not_claimed_whatever_message_comes(database: Database) -> None:
    claim = claimed_call(database)
    assert claim_call(database, "call-1") is None
    change(database, claim.key, lease_until=None, due_at=moment(60))
    assert claim_call(database, "call-1") is None


def test_a_row_that_is_committed_long_after_its_due_time_is_found_within_a_minute(database: Database) -> None:
    memory = ScanMemory()
    assert not read(database, due_accounts, memory)
    announce(database, "late")
    change(database, work_key(LOCATION, "late"), due_at=moment(-600))
    assert not read(database, due_accounts, memory), "a scan that begins at its lower bound sees it"
    memory.from_beginning_at -= timedelta(seconds=60)
    assert list(read(database, due_accounts, memory)) == [LOCATION]


@on_sqlite
def test_what_leaves_its_file_late_is_taken_once(database: Database) -> None:
    receive(database, "one")
    numbers = read(database, inbox.oldest)
    assert len(write(database, inbox.take, numbers)) == 1
    assert write(database, inbox.take, numbers) == {}, "another worker had read the same numbers"
