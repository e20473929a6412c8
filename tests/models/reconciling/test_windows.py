"""The ledger: one open window per slot, one reader at a time, and a mark that only a window read to its end moves."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from models.accounts import accounts, circuit_breaker
from models.accounts.pauses import PauseCause, pause
from models.database import Database, moment
from models.reconciling import runs, seen_ids, windows
from models.reconciling.windows import Window, WindowKind
from models.reconciling.windows import reconciliations_table as table
from models.work.lifecycle import LeaseLost
from tests.support.rows import LOCATION, announce, read, rows_of, write
from tests.support.waiting import at_once

HOUR = timedelta(hours=1)


def now(database: Database) -> datetime:
    with database.reading() as connection:
        at: datetime = connection.execute(sa.select(moment())).scalar_one()
    return at


def open_run(database: Database, *, kind: WindowKind = WindowKind.REGULAR, hours: float = 1) -> bool:
    until = now(database)
    return database.transact(
        lambda connection: windows.open_run(connection, LOCATION, kind=kind, since=until - hours * HOUR, until=until)
    )


def claim(database: Database, reconciliation_id: int = 1) -> Window | None:
    return database.transact(lambda connection: windows.claim(connection, reconciliation_id, lease_seconds=60))


def claimed(database: Database) -> Window:
    window = claim(database)
    assert window is not None
    return window


def test_of_a_slot_one_window_is_open_however_many_want_it(database: Database) -> None:
    until = now(database)

    def wants() -> bool:
        return database.transact(
            lambda connection: windows.open_run(
                connection, LOCATION, kind=WindowKind.REGULAR, since=until - HOUR, until=until
            )
        )

    assert sum(at_once([wants] * 4)) == 1
    assert open_run(database, kind=WindowKind.DAILY), "another slot"
    assert len(rows_of(database, table)) == 2


def test_one_of_many_readers_gets_the_page(database: Database) -> None:
    open_run(database)
    assert sum(window is not None for window in at_once([lambda: claim(database)] * 4)) == 1


def test_a_lease_that_ran_out_is_taken_over_and_its_reader_writes_nothing(database: Database) -> None:
    open_run(database)
    late = claimed(database)
    assert claim(database) is None
    with database.transaction() as connection:
        connection.execute(sa.update(table).values(due_at=moment(-1)))
    taken_over = claimed(database)
    with pytest.raises(LeaseLost), database.transaction() as connection:
        windows.release(connection, late, next_page=9)
    write(database, windows.release, taken_over, next_page=2)
    with pytest.raises(LeaseLost), database.transaction() as connection:
        windows.release(connection, taken_over, next_page=3)
    assert rows_of(database, table)[0]["next_page"] == 2


def test_paused_resting_and_removed_accounts_are_not_read(database: Database) -> None:
    open_run(database)
    write(database, pause, LOCATION, cause=PauseCause.PERSON, detail="")
    assert claim(database) is None
    with database.transaction() as connection:
        connection.execute(sa.text("DELETE FROM pauses"))
        circuit_breaker.open_breaker(connection, LOCATION, seconds=60)
    assert claim(database) is None
    with database.transaction() as connection:
        connection.execute(sa.update(accounts.accounts_table).values(open_until=None, removed_at=moment()))
    assert claim(database) is None


def test_backfills_are_read_by_their_command_only(database: Database) -> None:
    open_run(database, kind=WindowKind.BACKFILL)
    assert read(database, windows.due, limit=10) == []
    assert claim(database) is not None


def test_the_most_urgent_windows_come_first(database: Database) -> None:
    for kind in (WindowKind.DAILY, WindowKind.REGULAR, WindowKind.BURST):
        open_run(database, kind=kind)
    assert read(database, windows.due, limit=10) == [3, 2, 1]


def test_what_the_list_has_shown_is_counted_once_however_often_it_stood_there(database: Database) -> None:
    open_run(database)
    announce(database, "a", "b")
    with database.transaction() as connection:
        window = windows.claim(connection, 1, lease_seconds=60)
        assert window is not None
        seen_ids.record(connection, window, inside=["a", "b"], outside=["x"])
        seen_ids.record(connection, window, inside=["b", "c"], outside=[])
        shown = seen_ids.count_seen(connection, window)
    assert (shown.calls, shown.inside, shown.held) == (4, 3, 2)


def test_the_rest_of_a_run_follows_where_its_window_ended(database: Database) -> None:
    open_run(database, hours=2)
    window = claimed(database)
    with database.transaction() as connection:
        middle = window.window_from + HOUR
        windows.release(connection, window, window_until=middle, due_at=moment())
    window = claimed(database)
    with database.transaction() as connection:
        windows.close(connection, window, listed=7, held=7)
        assert windows.open_next(connection, window)
    first, second = rows_of(database, table)
    assert (second["window_from"], second["window_until"]) == (first["window_until"], first["run_until"])
    with database.reading() as connection:
        assert windows.next_of(connection, 1) == 2
        assert runs.first_of_run(connection, LOCATION, WindowKind.REGULAR) == 1
        assert runs.totals(connection, LOCATION, WindowKind.REGULAR, first_id=1).listed == 7


@pytest.mark.parametrize(
    ("since", "until", "grows"),
    [(-1, 1, (0, 1)), (-3, -1, (0, 0)), (1, 2, (0, 0)), (-30, -20, (-30, 0)), (-30, 5, (-30, 5)), (-40, -21, (0, 0))],
)
def test_the_complete_span_grows_only_by_what_touches_it(
    database: Database, since: int, until: int, grows: tuple[int, int]
) -> None:
    """The account is complete from 20 hours before the mark on."""
    mark = now(database)
    with database.transaction() as connection:
        connection.execute(
            sa.update(accounts.accounts_table).values(complete_from=mark - 20 * HOUR, complete_until=mark)
        )
        accounts.extend_completeness(connection, LOCATION, since=mark + since * HOUR, until=mark + until * HOUR)
        account = accounts.get(connection, LOCATION)
    expected_from = mark + grows[0] * HOUR if grows[0] else mark - 20 * HOUR
    assert (account.complete_from, account.complete_until) == (expected_from, mark + grows[1] * HOUR)
