"""What is due is sent, as ids, once, and again when Redis forgot it."""

import base64
import json
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from redis.exceptions import RedisError

from models.accounts import accounts, circuit_breaker, pauses
from models.accounts.circuit_breaker import OUTAGES_BEFORE_OPEN
from models.accounts.pauses import PauseCause
from models.database import moment, now
from models.reconciling import windows
from models.reconciling.windows import WindowKind
from tests.leadway_double.nouns import PlacedCall
from tests.support.rows import claim_work, make_due, run_out, write
from tests.support.waiting import meanwhile
from tests.support.worker import HOUR, AtWork, was_served_since
from workers import dispatch_due as dispatch_due_module
from workers.app import app
from workers.dispatch_due import dispatch_due
from workers.process.celery_patches import Hint
from workers.reconciling.open_windows import open_windows

SHORT_LEASE = 4
PER_ACCOUNT = 8
"""A quarter of a worker's 32 threads."""


def announced(at_work: AtWork, count: int) -> list[PlacedCall]:
    placed = at_work.double.place_calls(count, actions=["CALL_TRANSFER"], contact=True)
    for call in placed:
        at_work.announce(call)
    return placed


def messages(at_work: AtWork, queue: str = "calls") -> list[dict[str, Any]]:
    return [json.loads(each) for each in at_work.this.redis.lrange(queue, 0, -1)]


def arguments(at_work: AtWork, queue: str = "calls") -> list[tuple[str, ...]]:
    """Of each message, oldest first."""
    bodies = [json.loads(base64.b64decode(each["body"])) for each in reversed(messages(at_work, queue))]
    assert all(keywords == {} for _, keywords, _ in bodies)
    return [tuple(positional) for positional, _, _ in bodies]


def marked(at_work: AtWork) -> int:
    return sum(row["enqueued_at"] is not None for row in at_work.rows("work"))


def test_what_is_due_is_sent_as_ids_to_the_queue_of_its_work(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    [call] = announced(at_work, 1)
    open_windows()
    dispatch_due()
    expected = {
        "calls": ("calls.fetch", call.call_id),
        "follow_ups": ("follow_ups.send", follow_up_id),
        "housekeeping": ("reconciliations.read_page", "regular"),
    }
    for queue, (task, subject) in expected.items():
        assert arguments(at_work, queue) == [(at_work.location_id, subject)]
        [message] = messages(at_work, queue)
        assert message["headers"]["task"] == task
        assert (message["headers"]["retries"], message["headers"]["eta"]) == (0, None)
        assert set(message) == {"body", "headers", "properties", "content-type", "content-encoding"}


def test_pages_of_windows_are_sent_the_most_urgent_first_and_those_of_a_backfill_by_nobody(at_work: AtWork) -> None:
    def open_all(connection: sa.Connection) -> None:
        until = now(connection)
        for kind in WindowKind:
            windows.open_run(connection, at_work.location_id, kind=kind, since=until - timedelta(hours=1), until=until)

    at_work.database.transact(open_all)
    dispatch_due()
    slots = [slot for _, slot in arguments(at_work, "housekeeping")]
    assert (slots[0], set(slots[1:3]), slots[3:]) == ("burst", {"regular", "since"}, ["daily"])


def test_nothing_is_sent_twice_while_its_mark_holds(at_work: AtWork) -> None:
    announced(at_work, 3)
    for _ in range(3):
        dispatch_due()
    assert len(arguments(at_work)) == 3


def test_two_dispatchers_at_once_send_each_row_once(at_work: AtWork) -> None:
    placed = announced(at_work, 6)
    with meanwhile(dispatch_due), meanwhile(dispatch_due), meanwhile(dispatch_due):
        dispatch_due()
    assert sorted(arguments(at_work)) == sorted((at_work.location_id, call.call_id) for call in placed)


def test_a_message_that_was_lost_is_sent_again_when_its_mark_is_void(at_work: AtWork) -> None:
    announced(at_work, 1)
    dispatch_due()
    at_work.time_passes(at_work.this.mark_seconds - 1)
    dispatch_due()
    assert len(arguments(at_work)) == 1
    at_work.time_passes(1.1)
    dispatch_due()
    assert len(arguments(at_work)) == 2


def test_messages_that_nobody_takes_do_not_pile_up(at_work: AtWork) -> None:
    announced(at_work, PER_ACCOUNT)
    slots = at_work.settings.worker_threads
    for _ in range(2 * slots // PER_ACCOUNT + 2):
        dispatch_due()
        at_work.time_passes(at_work.this.mark_seconds + 0.1)
    assert len(arguments(at_work)) == 2 * slots, "one for each slot, and one more to be taken by it next"
    at_work.this.redis.ltrim("calls", 0, -4)
    dispatch_due()
    assert len(arguments(at_work)) == 2 * slots


@pytest.mark.parametrize("behind", [timedelta(seconds=3), timedelta(seconds=-3), timedelta(days=1)], ids=str)
def test_a_message_is_taken_up_however_far_the_clock_of_its_sender_is_behind(
    at_work: AtWork, behind: timedelta
) -> None:
    at_work.settings.leadway_lease_seconds = SHORT_LEASE
    follow_up_id = at_work.owed()
    [call] = announced(at_work, 1)
    was_served_since(at_work, 5 * HOUR)
    open_windows()
    dispatch_due()
    take_up(at_work, "calls", behind)
    take_up(at_work, "follow_ups", behind)
    take_up(at_work, "housekeeping", behind)
    assert at_work.call(call).status == "complete"
    assert at_work.follow_up(follow_up_id).status == "done"
    assert len(at_work.requests("list")) == 1


def take_up(at_work: AtWork, queue: str, behind: timedelta) -> None:
    """Carries the queue's one message out as a worker does, Celery's own checks first. The times that its sender wrote
    into it are those of a clock that is behind."""
    with app.connection_for_read() as connection:
        message = connection.default_channel.basic_get(queue, no_ack=True)
    assert message is not None
    for name in ("expires", "eta"):
        if message.headers.get(name):
            message.headers[name] = (datetime.fromisoformat(message.headers[name]) - behind).isoformat()
    Hint(message, app=app, task=app.tasks[message.headers["task"]], hostname="worker-1@here").execute()


def test_when_redis_lost_its_memory_everything_is_sent_again_at_once(at_work: AtWork) -> None:
    announced(at_work, 3)
    dispatch_due()
    at_work.this.redis.flushall()
    dispatch_due()
    assert len(arguments(at_work)) == 3
    dispatch_due()
    assert len(arguments(at_work)) == 3


def test_what_could_not_be_published_is_unmarked_and_sent_as_soon_as_it_can_be(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    announced(at_work, 3)

    def spoil_the_queue(point: str) -> None:
        if point == "due_marked":
            at_work.this.redis.set("calls", "no list, so that Redis refuses what is pushed to it")

    with monkeypatch.context() as patch:
        patch.setattr(dispatch_due_module, "failpoint", spoil_the_queue)
        with pytest.raises(RedisError):
            dispatch_due()
    assert marked(at_work) == 0
    at_work.this.redis.delete("calls")
    dispatch_due()
    assert (marked(at_work), len(arguments(at_work))) == (3, 3)


def test_one_account_gets_no_more_than_its_share_of_the_slots(at_work: AtWork) -> None:
    announced(at_work, 20)
    dispatch_due()
    dispatch_due()
    assert len(arguments(at_work)) == PER_ACCOUNT


@pytest.mark.parametrize("cause", [PauseCause.PERSON, PauseCause.TOKEN])
def test_a_paused_account_gets_nothing_until_it_goes_on(at_work: AtWork, cause: PauseCause) -> None:
    announced(at_work, 2)
    write(at_work.database, pauses.pause, at_work.location_id, cause=cause, detail="why")
    dispatch_due()
    assert (arguments(at_work), marked(at_work)) == ([], 0)
    write(at_work.database, pauses.resume, at_work.location_id)
    dispatch_due()
    assert len(arguments(at_work)) == 2


def test_an_account_that_rests_gets_nothing_until_its_rest_is_over(at_work: AtWork) -> None:
    announced(at_work, 2)
    write(at_work.database, circuit_breaker.open_breaker, at_work.location_id, seconds=30)
    dispatch_due()
    assert arguments(at_work) == []
    at_work.time_passes(31)
    dispatch_due()
    assert len(arguments(at_work)) == 2


def test_after_many_outages_one_goes_ahead_to_see(at_work: AtWork) -> None:
    first, *others = announced(at_work, 5)
    with at_work.database.transaction() as connection:
        connection.execute(
            sa.update(accounts.accounts_table).values(outages_in_a_row=OUTAGES_BEFORE_OPEN, open_until=moment(-1))
        )
    dispatch_due()
    dispatch_due()
    assert arguments(at_work) == [(at_work.location_id, first.call_id)]
    at_work.fetch(first)
    dispatch_due()
    assert len(arguments(at_work)) == 1 + len(others)


def test_a_claim_clears_the_mark_so_that_its_next_try_is_sent_when_due(at_work: AtWork) -> None:
    [call] = announced(at_work, 1)
    at_work.double.fault("fetch", "status", status=500, times=1)
    dispatch_due()
    at_work.fetch(call)
    dispatch_due()
    assert len(arguments(at_work)) == 1
    make_due(at_work.database, at_work.call_key(call))
    dispatch_due()
    assert len(arguments(at_work)) == 2


def test_a_lease_that_ran_out_is_sent_again(at_work: AtWork) -> None:
    [call] = announced(at_work, 1)
    assert claim_work(at_work.database, at_work.call_key(call), worker="gone") is not None
    dispatch_due()
    assert arguments(at_work) == []
    run_out(at_work.database, at_work.call_key(call))
    dispatch_due()
    assert len(arguments(at_work)) == 1
