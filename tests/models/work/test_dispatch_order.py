"""What the dispatcher sends: who goes first, how much at once, and when a message counts as lost."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa

from models.accounts import accounts, circuit_breaker, pauses
from models.accounts.accounts import accounts_table
from models.accounts.pauses import PauseCause
from models.calls import calls
from models.calls.calls import CALL
from models.database import Database, moment
from models.follow_ups.follow_ups import FOLLOW_UP
from models.reconciling.windows import WINDOW
from models.work import dispatch_order, heartbeats, lifecycle
from models.work.dispatch_order import (
    FROM_THE_BEGINNING_SECONDS,
    LATE_COMMIT,
    DispatchLimits,
    Due,
    EnqueueMarks,
    ScanMemory,
)
from models.work.work_rows import NEW, Lane, WorkKey, work_table
from tests.support.rows import (
    LOCATION,
    announce,
    call_log,
    change,
    claim_call,
    claimed_call,
    dead_call,
    make_due,
    on_postgresql,
    plan,
    read,
    rows_of,
    run_out,
    store,
    unclear_follow_up,
    until_somebody_waits,
    write,
)
from tests.support.waiting import at_once, meanwhile

WIDE = DispatchLimits(in_all=1000, per_account=1000)
KINDS = (CALL, FOLLOW_UP, WINDOW)
KEY = calls.work_key(LOCATION, "call-1")


def take(
    database: Database, *, epoch: str = "one", limits: DispatchLimits = WIDE, memory: ScanMemory | None = None
) -> list[Due]:
    """One dispatch, of a process that has just started unless it remembers its scans."""
    memory = memory or ScanMemory()
    due = read(database, dispatch_order.due_accounts, memory)
    marks = EnqueueMarks(epoch, seconds=30)
    return database.transact(
        lambda connection: dispatch_order.take_due(connection, KINDS, due, memory=memory, marks=marks, limits=limits)
    )


def subjects(taken: Sequence[Due]) -> list[str]:
    return [each.key.subject for each in taken]


def by_account(taken: Sequence[Due]) -> Counter[str]:
    return Counter(each.key.location_id for each in taken)


def add_account(database: Database, location_id: str, *, due_calls: int = 0) -> None:
    """An account with due calls, the one with the highest number due first."""
    write(database, accounts.add, location_id)
    announce(database, *(f"{location_id}-{n}" for n in range(due_calls)), location_id=location_id)
    for number in range(due_calls):
        change(database, calls.work_key(location_id, f"{location_id}-{number}"), due_at=moment(-number))


def beat(database: Database, name: str) -> None:
    write(database, heartbeats.beat, name, process="worker", slots=8)


def test_a_dispatch_remembers_whether_it_was_allowed_less_than_is_due(database: Database) -> None:
    announce(database, "call-1", "call-2")
    memory = ScanMemory()
    assert len(take(database, limits=DispatchLimits(in_all=1000, per_account=1), memory=memory)) == 1
    assert memory.left_behind
    assert len(take(database, limits=DispatchLimits(in_all=2, per_account=1000), memory=memory)) == 1
    assert memory.left_behind
    assert take(database, memory=memory) == []
    assert not memory.left_behind


def test_nothing_due_takes_nothing(database: Database) -> None:
    claim = claimed_call(database)
    write(database, lifecycle.reschedule, claim, seconds=60)
    assert take(database) == []


def test_what_is_sent_is_marked_and_not_sent_again(database: Database) -> None:
    announce(database, "call-1")
    assert take(database) == [Due(KEY)]
    (row,) = rows_of(database, work_table)
    assert (row["enqueued_at"] is not None, row["enqueued_epoch"], row["lease_until"]) == (True, "one", None)
    assert take(database) == []


def test_a_mark_is_void_after_half_a_minute(database: Database) -> None:
    announce(database, "call-1")
    take(database)
    change(database, KEY, enqueued_at=moment(-29))
    assert take(database) == []
    change(database, KEY, enqueued_at=moment(-31))
    assert subjects(take(database)) == ["call-1"]


def test_a_mark_is_taken_back_when_its_message_could_not_be_sent(database: Database) -> None:
    announce(database, "call-1")
    taken = take(database)
    write(database, dispatch_order.clear_marks, taken[::-1])
    assert take(database) == taken


def test_a_mark_is_void_at_once_when_redis_lost_its_memory(database: Database) -> None:
    announce(database, "call-1")
    take(database, epoch="one")
    assert subjects(take(database, epoch="two")) == ["call-1"]


def test_live_calls_go_first_then_follow_ups_retries_and_history(database: Database) -> None:
    for lane in (Lane.BACKFILLED, Lane.RECONCILED, Lane.RETRY):
        announce(database, lane.name, lane=lane)
    write(database, lifecycle.add, WorkKey(WINDOW, LOCATION, "regular"), lane=Lane.RECONCILED)
    follow_up_id = plan(database)
    announce(database, "live")
    taken = subjects(take(database))
    assert taken == ["live", follow_up_id, "RETRY", "RECONCILED", "regular", "BACKFILLED"]


def test_what_waited_longest_goes_first_within_a_lane(database: Database) -> None:
    announce(database, "newer", "older")
    change(database, calls.work_key(LOCATION, "older"), due_at=moment(-60))
    assert subjects(take(database)) == ["older", "newer"]


def test_an_account_with_five_hundred_due_calls_does_not_starve_one_with_a_single_call(database: Database) -> None:
    add_account(database, "loud", due_calls=500)
    add_account(database, "quiet", due_calls=1)
    taken = take(database, limits=DispatchLimits(in_all=10, per_account=10))
    assert len(taken) == 10
    assert by_account(taken)["quiet"] == 1


def test_two_loud_accounts_share_alike(database: Database) -> None:
    add_account(database, "one", due_calls=50)
    add_account(database, "two", due_calls=50)
    taken = take(database, limits=DispatchLimits(in_all=10, per_account=10))
    assert by_account(taken) == {"one": 5, "two": 5}


def test_history_of_one_account_waits_for_live_calls_of_another(database: Database) -> None:
    announce(database, *(f"old-{n}" for n in range(5)), lane=Lane.BACKFILLED)
    add_account(database, "other", due_calls=3)
    taken = take(database, limits=DispatchLimits(in_all=4, per_account=4))
    assert [each.key.location_id for each in taken] == ["other"] * 3 + [LOCATION]


def test_no_account_has_more_in_flight_than_its_share(database: Database) -> None:
    add_account(database, "loud", due_calls=20)
    limits = DispatchLimits(in_all=100, per_account=3)
    assert len(take(database, limits=limits)) == 3
    assert take(database, limits=limits) == []
    write(database, lifecycle.remove, calls.work_key("loud", "loud-19"))
    assert len(take(database, limits=limits)) == 1


def test_no_more_is_in_flight_than_there_is_room_for_in_all(database: Database) -> None:
    for name in ("one", "two", "three"):
        add_account(database, name, due_calls=5)
    limits = DispatchLimits(in_all=4, per_account=3)
    assert len(take(database, limits=limits)) == 4
    assert take(database, limits=limits) == []


def test_what_a_live_worker_holds_counts_as_in_flight_and_what_a_dead_one_holds_does_not(database: Database) -> None:
    add_account(database, "loud", due_calls=4)
    beat(database, "alive")
    claim_call(database, "loud-0", location_id="loud", worker="alive")
    limits = DispatchLimits(in_all=100, per_account=2)
    assert len(take(database, limits=limits)) == 1
    claim_call(database, "loud-1", location_id="loud", worker="dead and gone")
    change(database, calls.work_key("loud", "loud-3"), enqueued_at=None)
    assert len(take(database, limits=limits)) == 1, "the dead worker's row takes no place"


def test_a_lease_that_ran_out_is_sent_again(database: Database) -> None:
    claimed_call(database)
    assert take(database) == []
    run_out(database, KEY)
    assert subjects(take(database)) == ["call-1"]


def test_a_resting_account_gets_nothing_until_its_rest_is_over(database: Database) -> None:
    announce(database, "call-1")
    write(database, circuit_breaker.open_breaker, LOCATION, seconds=60)
    assert take(database) == []
    with database.transaction() as connection:
        connection.execute(sa.update(accounts_table).values(open_until=moment(-1)))
    assert subjects(take(database)) == ["call-1"]


def test_a_removed_account_gets_nothing(database: Database) -> None:
    announce(database, "call-1")
    write(database, accounts.remove, LOCATION)
    assert take(database) == []


def test_a_paused_account_gets_nothing_and_takes_no_room(database: Database) -> None:
    add_account(database, "paused", due_calls=5)
    announce(database, "call-1")
    write(database, pauses.pause, "paused", cause=PauseCause.TOKEN, detail="set a new one")
    assert subjects(take(database, limits=DispatchLimits(in_all=1, per_account=1))) == ["call-1"]


def test_a_pause_of_the_follow_ups_leaves_the_calls_to_go_on(database: Database) -> None:
    plan(database)
    announce(database, "call-2")
    write(database, pauses.pause, LOCATION, cause=PauseCause.SCOPE, detail="contacts.write", work="follow_up")
    assert subjects(take(database)) == ["call-2"]


def test_after_an_outage_one_attempt_goes_ahead(database: Database) -> None:
    add_account(database, "struck", due_calls=9)
    add_account(database, "well", due_calls=3)
    with database.transaction() as connection:
        for _ in range(circuit_breaker.OUTAGES_BEFORE_OPEN):
            circuit_breaker.record_outage(connection, "struck", first_seconds=0)
    assert by_account(take(database)) == {"struck": 1, "well": 3}
    assert take(database) == []
    write(database, circuit_breaker.record_success, "struck")
    assert len(take(database)) == 8


def test_what_has_ended_is_not_sent(database: Database) -> None:
    store(database, call_log("complete"))
    dead_call(database, "dead")
    plan(database)
    unclear_follow_up(database)
    assert take(database) == []


def test_a_claim_takes_the_mark_away_and_so_does_every_outcome(database: Database) -> None:
    announce(database, "call-1")
    for _ in range(2):
        assert subjects(take(database)) == ["call-1"]
        claim = claim_call(database, "call-1")
        assert claim is not None
        assert [row["enqueued_at"] for row in rows_of(database, work_table)] == [None]
        write(database, lifecycle.reschedule, claim, seconds=60)
        make_due(database, KEY)


def test_two_dispatchers_at_once_send_nothing_twice(database: Database) -> None:
    for name in ("one", "two", "three"):
        add_account(database, name, due_calls=40)
    taken = at_once([lambda: take(database) for _ in range(4)])
    sent = Counter(each.key.subject for several in taken for each in several)
    assert max(sent.values()) == 1
    sent.update(subjects(take(database)))  # what a lock hid from all of them comes with the next tick
    assert sent == Counter({f"{name}-{n}": 1 for name in ("one", "two", "three") for n in range(40)})


@on_postgresql
def test_a_dispatcher_leaves_out_what_another_is_taking_at_this_moment(database: Database) -> None:
    announce(database, "call-1", "call-2")
    with database.transaction() as connection:
        assert lifecycle.lock(connection, KEY)
        assert subjects(take(database)) == ["call-2"]


@on_postgresql
def test_marks_are_cleared_in_the_order_of_the_keys_whatever_the_order_of_the_rows(database: Database) -> None:
    """Else two transactions that write the same rows could each wait for the other."""
    others = [calls.work_key(LOCATION, call_id) for call_id in ("call-3", "call-2")]
    announce(database, "call-1", "call-2", "call-3")
    taken = take(database)
    for key in (*others, KEY):  # each is written anew, behind the one before
        write(database, lifecycle.lock, key)
    write(database, sa.Connection.execute, sa.text("ANALYZE work"))  # so few rows are read as they lie on the disk
    with database.transaction() as connection:
        lifecycle.lock(connection, KEY)
        with meanwhile(lambda: write(database, dispatch_order.clear_marks, taken[::-1])):
            until_somebody_waits(database)
            for key in others:
                lifecycle.lock(connection, key)
            connection.commit()
    assert {row["enqueued_at"] for row in rows_of(database, work_table)} == {None}


# The lower bound of a scan


def test_a_row_that_is_committed_late_is_found_at_once(database: Database) -> None:
    memory = ScanMemory()
    assert take(database, memory=memory) == []
    announce(database, "call-1")
    change(database, KEY, due_at=moment(5 - LATE_COMMIT.total_seconds()))
    assert subjects(take(database, memory=memory)) == ["call-1"]


def test_a_row_that_is_committed_later_than_that_is_found_by_the_next_scan_from_the_beginning(
    database: Database,
) -> None:
    memory = ScanMemory()
    announce(database, "call-1")
    assert subjects(take(database, memory=memory)) == ["call-1"]
    announce(database, "late")
    change(database, calls.work_key(LOCATION, "late"), due_at=moment(-5 - LATE_COMMIT.total_seconds()))
    assert take(database, memory=memory) == [], "its account is known, but its entry lies below the bound"
    memory.from_beginning_at -= timedelta(seconds=FROM_THE_BEGINNING_SECONDS)
    assert subjects(take(database, memory=memory)) == ["late"]
    assert subjects(take(database, memory=memory, epoch="two")) == ["late", "call-1"], "the bound went down with it"


@pytest.mark.parametrize("why", ["paused", "breaker open"])
def test_an_account_that_stood_still_is_dispatched_at_once_when_it_goes_on(database: Database, why: str) -> None:
    memory = ScanMemory()
    announce(database, "call-1")
    change(database, KEY, due_at=moment(-3600))
    if why == "paused":
        write(database, pauses.pause, LOCATION, cause=PauseCause.PERSON, detail="holidays")
    else:
        write(database, circuit_breaker.open_breaker, LOCATION, seconds=60)
    for _ in range(2):
        assert take(database, memory=memory) == []
    with database.transaction() as connection:
        pauses.resume(connection, LOCATION)
        connection.execute(sa.update(accounts_table).values(open_until=moment(-1)))
    assert subjects(take(database, memory=memory)) == ["call-1"]


def test_accounts_without_due_work_are_not_looked_at(database: Database) -> None:
    for name in ("one", "two"):
        add_account(database, name, due_calls=1)
    add_account(database, "three")
    memory = ScanMemory()
    with statements(database) as first:
        read(database, dispatch_order.due_accounts, memory)
    assert accounts_looked_at(first) == {"one", "two"}
    for name in ("one", "two"):
        write(database, lifecycle.remove, calls.work_key(name, f"{name}-0"))
    read(database, dispatch_order.due_accounts, memory)  # the last that looks at them
    with statements(database) as later:
        assert read(database, dispatch_order.due_accounts, memory) == {}
    assert accounts_looked_at(later) == set()
    assert len(later) == 2, "the time, and what became due"


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, object]]]:
    """What is executed during the block, with parameters."""
    seen: list[tuple[str, object]] = []

    def remember(_c: object, _cursor: object, statement: str, parameters: object, _x: object, _many: bool) -> None:
        seen.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", remember)
    yield seen
    sa.event.remove(database.engine, "before_cursor_execute", remember)


def accounts_looked_at(seen: Collection[tuple[str, object]]) -> set[str]:
    return {name for _, parameters in seen for name in ("one", "two", "three") if repr(name) in repr(parameters)}


@pytest.fixture
def long_queue(database: Database) -> Database:
    """Due calls of one account, and four times as many that wait for a person."""
    values = {**NEW, "kind": CALL.name, "location_id": LOCATION, "lane": Lane.BACKFILLED, "created_at": moment()}
    with database.transaction() as connection:
        for count, state in ((10_000, {"due_at": moment(-5)}), (40_000, {"dead_cause": "not_found"})):
            first = sa.select(sa.literal(1).label("n")).cte("numbers", recursive=True)
            numbers = first.union_all(sa.select(first.c.n + 1).where(first.c.n < count))
            filled = {
                name: value if isinstance(value, sa.ColumnElement) else sa.literal(value, work_table.c[name].type)
                for name, value in {**values, **state}.items()
            }
            filled["subject"] = sa.literal("-".join(state)) + sa.cast(numbers.c.n, sa.Text)
            connection.execute(sa.insert(work_table).from_select(list(filled), sa.select(*filled.values())))
    if database.engine.dialect.name == "postgresql":  # does so by itself after a while; SQLite never does
        with database.transaction() as connection:
            connection.execute(sa.text("ANALYZE"))
    return database


def test_a_long_queue_is_looked_up_by_its_indexes_only(long_queue: Database) -> None:
    database, limits, memory = long_queue, DispatchLimits(in_all=8, per_account=8), ScanMemory()
    assert subjects(take(database, limits=limits, memory=memory))
    with statements(database) as seen:
        take(database, epoch="two", limits=limits, memory=memory)
    on_sqlite = database.engine.dialect.name == "sqlite"
    told: list[tuple[str, str]] = []
    with database.engine.connect() as connection:
        for statement, parameters in [each for each in seen if each[0].startswith(("SELECT", "UPDATE"))]:
            explain = "EXPLAIN QUERY PLAN " if on_sqlite else "EXPLAIN "
            one = parameters[0] if isinstance(parameters, list) else parameters
            lines = connection.exec_driver_sql(explain + statement, one).all()  # type: ignore[arg-type]
            told += [(str(line[-1]), statement) for line in lines]
    plans = [line for line, _ in told]
    for index in ("ix_work_due_at", "ix_work_in_flight"):
        assert any(index in line for line in plans), index
    for line, statement in told:
        assert "SCAN work" not in line or "USING INDEX ix_work_in_flight" in line, statement
        assert "Seq Scan on work" not in line, statement
