"""What the dispatcher sends: who goes first, how much at once, and when a message counts as lost."""

from collections import Counter
from collections.abc import Sequence

import pytest
import sqlalchemy as sa

from models.accounts import accounts, circuit_breaker, pauses
from models.accounts.accounts import accounts_table
from models.accounts.pauses import PauseCause
from models.calls.calls import CALL, calls_table
from models.database import Database, insert, moment
from models.follow_ups.follow_ups import FOLLOW_UP
from models.work import dispatch_order, heartbeats, lifecycle
from models.work.dispatch_order import DispatchLimits, Due, EnqueueMarks
from models.work.work_rows import Lane, WorkStatus
from tests.support.rows import (
    LOCATION,
    announce,
    call_row,
    change,
    claim_call,
    claimed_call,
    make_due,
    plan,
    run_out,
    write,
)
from tests.support.waiting import at_once

WIDE = DispatchLimits(in_all=1000, per_account=1000)

KINDS = (CALL, FOLLOW_UP)


def take(database: Database, *, epoch: str = "one", limits: DispatchLimits = WIDE) -> list[Due]:
    marks = EnqueueMarks(epoch, seconds=30)
    return database.transact(lambda connection: dispatch_order.take_due(connection, KINDS, marks=marks, limits=limits))


def call_ids(taken: Sequence[Due]) -> list[str]:
    return [each.key[-1] for each in taken]


def add_account(database: Database, location_id: str, *, due_calls: int = 0) -> None:
    with database.transaction() as connection:
        accounts.add(connection, location_id)
        for number in range(due_calls):
            values = {
                "location_id": location_id,
                "call_id": f"{location_id}-{number}",
                "due_at": moment(-number),
            }
            connection.execute(
                insert(connection, calls_table).values(**values, origin="notification", created_at=moment())
            )


def beat(database: Database, name: str) -> None:
    write(database, heartbeats.beat, name, process="worker", slots=8)


def test_nothing_due_takes_nothing(database: Database) -> None:
    claim = claimed_call(database)
    write(database, lifecycle.reschedule, claim, seconds=60)
    assert take(database) == []


def test_what_is_sent_is_marked_and_not_sent_again(database: Database) -> None:
    announce(database, "call-1")
    assert take(database) == [Due(CALL, (LOCATION, "call-1"))]
    row = call_row(database)
    assert row.enqueued_at is not None
    assert row.enqueued_epoch == "one"
    assert row.status == WorkStatus.PENDING
    assert take(database) == []


def test_a_mark_is_void_after_half_a_minute(database: Database) -> None:
    announce(database, "call-1")
    take(database)
    change(database, CALL, (LOCATION, "call-1"), enqueued_at=moment(-29))
    assert take(database) == []
    change(database, CALL, (LOCATION, "call-1"), enqueued_at=moment(-31))
    assert call_ids(take(database)) == ["call-1"]


def test_a_mark_is_taken_back_when_its_message_could_not_be_sent(database: Database) -> None:
    announce(database, "call-1")
    taken = take(database)
    write(database, dispatch_order.clear_marks, taken)
    assert take(database) == taken


def test_a_mark_is_void_at_once_when_redis_lost_its_memory(database: Database) -> None:
    announce(database, "call-1")
    take(database, epoch="one")
    assert call_ids(take(database, epoch="two")) == ["call-1"]


def test_live_calls_go_first_then_follow_ups_retries_and_history(database: Database) -> None:
    announce(database, "backfilled", lane=Lane.BACKFILLED)
    announce(database, "reconciled", lane=Lane.RECONCILED)
    announce(database, "retry", lane=Lane.RETRY)
    follow_up_id = plan(database, "live")
    assert call_ids(take(database)) == ["live", follow_up_id, "retry", "reconciled", "backfilled"]


def test_what_waited_longest_goes_first_within_a_lane(database: Database) -> None:
    announce(database, "newer", "older")
    change(database, CALL, (LOCATION, "older"), due_at=moment(-60))
    assert call_ids(take(database)) == ["older", "newer"]


def test_an_account_with_five_hundred_due_calls_does_not_starve_one_with_a_single_call(database: Database) -> None:
    add_account(database, "loud", due_calls=500)
    add_account(database, "quiet", due_calls=1)
    taken = take(database, limits=DispatchLimits(in_all=10, per_account=10))
    assert len(taken) == 10
    assert ("quiet", "quiet-0") in [each.key for each in taken]


def test_two_loud_accounts_share_alike(database: Database) -> None:
    add_account(database, "one", due_calls=50)
    add_account(database, "two", due_calls=50)
    taken = take(database, limits=DispatchLimits(in_all=10, per_account=10))
    assert Counter(each.key[0] for each in taken) == {"one": 5, "two": 5}


def test_history_of_one_account_waits_for_live_calls_of_another(database: Database) -> None:
    announce(database, *(f"old-{n}" for n in range(5)), lane=Lane.BACKFILLED)
    add_account(database, "other", due_calls=3)
    taken = take(database, limits=DispatchLimits(in_all=4, per_account=4))
    assert [each.key[0] for each in taken] == ["other"] * 3 + [LOCATION]


def test_no_account_has_more_in_flight_than_its_share(database: Database) -> None:
    add_account(database, "loud", due_calls=20)
    limits = DispatchLimits(in_all=100, per_account=3)
    assert len(take(database, limits=limits)) == 3
    assert take(database, limits=limits) == []
    change(database, CALL, ("loud", "loud-19"), status=WorkStatus.DONE, due_at=None, enqueued_at=None)
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
    change(database, CALL, ("loud", "loud-3"), enqueued_at=None)
    assert len(take(database, limits=limits)) == 1, "the dead worker's row takes no place"


def test_a_lease_that_ran_out_is_sent_again(database: Database) -> None:
    claimed_call(database)
    assert take(database) == []
    run_out(database, CALL, (LOCATION, "call-1"))
    assert call_ids(take(database)) == ["call-1"]


def test_a_resting_account_gets_nothing_until_its_rest_is_over(database: Database) -> None:
    announce(database, "call-1")
    write(database, circuit_breaker.open_breaker, LOCATION, seconds=60)
    assert take(database) == []
    with database.transaction() as connection:
        connection.execute(sa.update(accounts_table).values(open_until=moment(-1)))
    assert call_ids(take(database)) == ["call-1"]


def test_a_removed_account_gets_nothing(database: Database) -> None:
    announce(database, "call-1")
    write(database, accounts.remove, LOCATION)
    assert take(database) == []


def test_a_paused_account_gets_nothing_and_takes_no_room(database: Database) -> None:
    add_account(database, "paused", due_calls=5)
    announce(database, "call-1")
    write(database, pauses.pause, "paused", cause=PauseCause.TOKEN, detail="set a new one")
    assert call_ids(take(database, limits=DispatchLimits(in_all=1, per_account=1))) == ["call-1"]


def test_a_pause_of_the_follow_ups_leaves_the_calls_to_go_on(database: Database) -> None:
    plan(database)
    write(database, pauses.pause, LOCATION, cause=PauseCause.SCOPE, detail="contacts.write", work="follow_up")
    assert [each.work for each in take(database)] == [CALL]


def test_after_an_outage_one_attempt_goes_ahead(database: Database) -> None:
    add_account(database, "struck", due_calls=9)
    add_account(database, "well", due_calls=3)
    with database.transaction() as connection:
        for _ in range(circuit_breaker.OUTAGES_BEFORE_OPEN):
            circuit_breaker.record_outage(connection, "struck", first_seconds=0)
    assert Counter(each.key[0] for each in take(database)) == {"struck": 1, "well": 3}
    assert take(database) == []
    write(database, circuit_breaker.record_success, "struck")
    assert len(take(database)) == 8


def test_what_has_ended_is_not_sent(database: Database) -> None:
    announce(database, "done", "dead")
    change(database, CALL, (LOCATION, "done"), status=WorkStatus.DONE)
    change(database, CALL, (LOCATION, "dead"), status=WorkStatus.DEAD)
    assert take(database) == []


def test_a_claim_takes_the_mark_away_and_so_does_every_outcome(database: Database) -> None:
    claim = claimed_call(database)
    change(database, CALL, claim.key, enqueued_at=moment(), enqueued_epoch="one")
    write(database, lifecycle.reschedule, claim, seconds=60)
    make_due(database, CALL, claim.key)
    assert call_ids(take(database)) == ["call-1"]
    assert claim_call(database, "call-1") is not None
    assert call_row(database).enqueued_at is None


def test_two_dispatchers_at_once_send_nothing_twice(database: Database) -> None:
    for name in ("one", "two", "three"):
        add_account(database, name, due_calls=40)
    taken = at_once([lambda: take(database) for _ in range(4)])
    sent = Counter(each.key for several in taken for each in several)
    assert max(sent.values()) == 1
    sent.update(each.key for each in take(database))  # what a lock hid from all of them comes with the next tick
    assert sent == Counter({(name, f"{name}-{n}"): 1 for name in ("one", "two", "three") for n in range(40)})


@pytest.fixture
def twenty_thousand(database: Database) -> Database:
    """Due calls of one account, and five times as many that are done."""
    row = {"location_id": LOCATION, "origin": "backfill", "created_at": moment(), "lane": Lane.BACKFILLED}
    many = {"status": "pending", "due_at": moment(-5)}, {"status": "done", "due_at": None}
    with database.transaction() as connection:
        for count, values in zip((20_000, 100_000), many, strict=True):
            first = sa.select(sa.literal(1).label("n")).cte("numbers", recursive=True)
            numbers = first.union_all(sa.select(first.c.n + 1).where(first.c.n < count))
            columns = {**values, **row}
            filled = {name: _default(column) for name, column in calls_table.c.items() if not column.nullable} | {
                name: value if isinstance(value, sa.ColumnElement) else sa.literal(value, calls_table.c[name].type)
                for name, value in columns.items()
            }
            filled["call_id"] = sa.literal(f"{values['status']}-") + sa.cast(numbers.c.n, sa.Text)
            connection.execute(
                sa.insert(calls_table).from_select(list(filled), sa.select(*filled.values()), include_defaults=False)
            )
    if database.engine.dialect.name == "postgresql":  # does so by itself after a while; SQLite never does
        with database.transaction() as connection:
            connection.execute(sa.text("ANALYZE"))
    return database


def _default(column: sa.Column[object]) -> sa.ColumnElement[object]:
    value = column.default.arg if column.default is not None else ""  # type: ignore[attr-defined]
    return sa.literal(value, column.type)


def test_a_long_queue_is_looked_up_by_its_indexes_only(twenty_thousand: Database) -> None:
    database = twenty_thousand
    assert call_ids(take(database, limits=DispatchLimits(in_all=8, per_account=8)))
    seen: list[tuple[str, object]] = []

    @sa.event.listens_for(database.engine, "before_cursor_execute")
    def remember(_c: object, _cursor: object, statement: str, parameters: object, _x: object, _many: bool) -> None:
        seen.append((statement, parameters))

    with database.transaction() as connection:
        dispatch_order.take_due(
            connection, KINDS, marks=EnqueueMarks("two", seconds=30), limits=DispatchLimits(in_all=8, per_account=8)
        )
    sa.event.remove(database.engine, "before_cursor_execute", remember)
    on_sqlite = database.engine.dialect.name == "sqlite"
    told: list[tuple[str, str]] = []
    with database.engine.connect() as connection:
        for statement, parameters in [each for each in seen if each[0].startswith(("SELECT", "UPDATE"))]:
            explain = "EXPLAIN QUERY PLAN " if on_sqlite else "EXPLAIN "
            lines = connection.exec_driver_sql(explain + statement, parameters).all()  # type: ignore[arg-type]
            told += [(str(line[-1]), statement) for line in lines]
    plans = [line for line, _ in told]
    assert any("ix_calls_due" in line for line in plans)
    assert any("ix_calls_in_flight" in line for line in plans)
    for line, statement in told:
        assert "SCAN calls" not in line or "USING INDEX ix_calls_in_flight" in line, statement
        assert "Seq Scan on calls" not in line, statement
