"""The windows: one open window per slot, one reader at a time, and a watermark that only a window read whole moves."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from models.accounts import accounts
from models.database import Database, now
from models.reconciling import runs, seen_ids, windows
from models.reconciling.windows import Window, WindowKind
from models.reconciling.windows import reconciliations_table as table
from models.work import lifecycle
from models.work.lifecycle import Claim, LeaseLost
from tests.support.rows import LOCATION, announce, call_log, claim_work, read, rows_of, run_out, store, write
from tests.support.waiting import at_once

HOUR = timedelta(hours=1)
KEY = windows.work_key(LOCATION, WindowKind.REGULAR)


def open_run(database: Database, *, kind: WindowKind = WindowKind.REGULAR, hours: float = 1) -> bool:
    def opened(connection: sa.Connection) -> bool:
        until = now(connection)
        return windows.open_run(connection, LOCATION, kind=kind, since=until - hours * HOUR, until=until)

    return database.transact(opened)


def claimed(database: Database) -> tuple[Claim, Window]:
    claim = claim_work(database, KEY)
    assert claim is not None
    return claim, read(database, windows.get_claimed, claim)


def test_of_a_slot_one_window_is_open_however_many_want_it(database: Database) -> None:
    assert sum(at_once([lambda: open_run(database)] * 4)) == 1
    assert open_run(database, kind=WindowKind.DAILY), "another slot"
    assert len(rows_of(database, table)) == 2


def hold_up(connection: sa.Connection, claim: Claim, window: Window) -> None:
    lifecycle.reschedule(connection, claim, seconds=5)
    windows.hold_up(connection, window, error="outage", requests=9)


@pytest.mark.parametrize("write_late", [windows.go_on, windows.close, hold_up])
def test_a_reader_whose_lease_ran_out_writes_nothing(database: Database, write_late: Callable[..., Any]) -> None:
    open_run(database)
    late = claimed(database)
    assert claim_work(database, KEY) is None
    run_out(database, KEY)
    taken_over = claimed(database)
    before = rows_of(database, table)
    with pytest.raises(LeaseLost):
        write(database, write_late, *late)
    assert rows_of(database, table) == before
    write(database, windows.go_on, taken_over[0], replace(taken_over[1], next_page=2))
    assert rows_of(database, table)[0]["next_page"] == 2


def test_what_the_list_has_shown_is_counted_once_however_often_it_stood_there(database: Database) -> None:
    """`a` is stored, `b` is open work: both are held."""
    open_run(database)
    store(database, call_log("a"))
    announce(database, "b")
    _, window = claimed(database)
    write(database, seen_ids.record, window, inside=["a", "b"], outside=["x"])
    write(database, seen_ids.record, window, inside=["b", "c"], outside=[])
    shown = read(database, seen_ids.count_seen, window)
    assert (shown.calls, shown.inside, shown.held) == (4, 3, 2)


def test_the_rest_of_a_run_follows_where_its_window_ended(database: Database) -> None:
    open_run(database, hours=2)
    claim, window = claimed(database)
    middle: datetime = window.window_from + HOUR
    write(database, windows.go_on, claim, replace(window, window_until=middle))
    claim, window = claimed(database)
    write(database, windows.close, claim, replace(window, listed=7, held=7))
    first, second = rows_of(database, table)
    assert (second["window_from"], second["window_until"]) == (first["window_until"], first["run_until"])
    with database.reading() as connection:
        assert runs.first_of_run(connection, LOCATION, WindowKind.REGULAR) == 1
        assert runs.totals(connection, LOCATION, WindowKind.REGULAR, first_id=1).listed == 7
    write(database, windows.close, *claimed(database))
    assert claim_work(database, KEY) is None, "the run has ended"


@pytest.mark.parametrize(
    ("since", "until", "grows"),
    [(-1, 1, (0, 1)), (-3, -1, (0, 0)), (1, 2, (0, 0)), (-30, -20, (-30, 0)), (-30, 5, (-30, 5)), (-40, -21, (0, 0))],
)
def test_the_complete_span_grows_only_by_what_touches_it(
    database: Database, since: int, until: int, grows: tuple[int, int]
) -> None:
    """The account is complete from 20 hours before the mark on."""
    mark = read(database, now)
    with database.transaction() as connection:
        connection.execute(
            sa.update(accounts.accounts_table).values(complete_from=mark - 20 * HOUR, complete_until=mark)
        )
        accounts.extend_completeness(connection, LOCATION, since=mark + since * HOUR, until=mark + until * HOUR)
        account = accounts.get(connection, LOCATION)
    expected_from = mark + grows[0] * HOUR if grows[0] else mark - 20 * HOUR
    assert (account.complete_from, account.complete_until) == (expected_from, mark + grows[1] * HOUR)
