"""What Leadway lists is what we hold: after outages, on shifting pages, through failures and deaths of the reader."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa

from models.accounts import accounts, circuit_breaker, pauses
from models.database import moment, now
from models.reconciling import schedule, windows
from models.reconciling.windows import WindowKind, reconciliations_table
from models.work import open_work
from models.work.work_rows import work_table
from tests.leadway_double.nouns import PlacedCall
from tests.support.rows import arrive, claim_work, make_due, read, run_out, write
from tests.support.waiting import eventually, meanwhile
from tests.support.worker import DAY, HOUR, AtWork, ledger, reconcile, was_served_since
from workers.read_page import AccountStandsStill, read_to_end
from workers.reconciling import reading
from workers.reconciling.open_windows import open_windows
from workers.reconciling.reading import PageOutcome, read_one_page
from workers.reconciling.take_in_listed import take_in_listed

BOTH = ["CALL_TRANSFER", "APPOINTMENT_BOOKING"]


def stored_ids(at_work: AtWork) -> list[str]:
    return sorted(row["call_id"] for row in at_work.rows("calls"))


def ids_of(calls: Sequence[PlacedCall]) -> list[str]:
    return sorted(call.call_id for call in calls)


def open_work_of_calls(at_work: AtWork) -> list[str]:
    return [row["subject"] for row in at_work.rows("work") if row["kind"] == "call"]


def opened(at_work: AtWork, kind: WindowKind = WindowKind.REGULAR) -> Any:
    """Opens a window of the last hours; returns the key of its work."""
    with at_work.database.transaction() as connection:
        until = now(connection)
        if kind is WindowKind.REGULAR:
            schedule.open_regular(connection, at_work.location_id, until=until)
        else:
            since = at_work.account().added_at
            windows.open_run(connection, at_work.location_id, kind=kind, since=since, until=until)
    return windows.work_key(at_work.location_id, kind)


def window_of(at_work: AtWork, kind: WindowKind) -> sa.RowMapping:
    [row] = [row for row in ledger(at_work) if row["kind"] == kind]
    return row


def list_requests(at_work: AtWork) -> int:
    return len(at_work.requests("list"))


def test_after_an_outage_every_listed_call_has_its_row_with_what_it_says(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    placed = at_work.double.place_calls(120, over=4 * HOUR, actions=BOTH)
    trials = at_work.double.place_calls(7, over=HOUR, trial=True, actions=BOTH)

    [window] = reconcile(at_work)

    assert stored_ids(at_work) == ids_of(placed + trials)
    rows = at_work.rows("calls")
    assert open_work_of_calls(at_work) == []
    assert all(row["settled_at"] is not None for row in rows)
    assert all(row["read_from"] == "list" and row["transcript"] and row["origin"] == "reconcile" for row in rows)
    assert sum(row["trial_call"] for row in rows) == 7
    assert window["finished_at"] is not None
    assert (window["listed"], window["held"]) == (127, 127)
    assert window["unannounced"] >= 125  # but for calls that ended a moment ago
    assert at_work.account().complete_until == window["window_until"]
    assert len(at_work.rows("call_actions")) == sum(len(call.action_types) for call in placed + trials)
    assert list_requests(at_work) == 4
    assert at_work.rows("seen_ids") == []


def test_a_second_run_over_the_same_calls_changes_nothing(at_work: AtWork) -> None:
    was_served_since(at_work, 2 * HOUR)
    at_work.double.place_calls(30, over=HOUR, ago=600)
    reconcile(at_work)
    before = at_work.rows("calls"), at_work.rows("follow_ups")

    was_served_since(at_work, 2 * HOUR)
    *_, again = reconcile(at_work)

    assert (at_work.rows("calls"), at_work.rows("follow_ups")) == before
    assert (again["listed"], again["held"], again["unannounced"], again["changed"]) == (30, 30, 0, 0)


def test_a_run_begins_before_the_mark_because_calls_are_listed_by_their_start(at_work: AtWork) -> None:
    was_served_since(at_work, 2 * HOUR)
    reconcile(at_work)
    long_call = at_work.double.place_call(duration=900)  # it began before the mark

    reconcile(at_work)

    assert stored_ids(at_work) == [long_call.call_id]


def test_the_mark_never_moves_back(at_work: AtWork) -> None:
    reconcile(at_work)
    mark = at_work.account().complete_until
    reconcile(at_work, margin_seconds=300)
    assert at_work.account().complete_until == mark


def test_a_new_account_is_complete_from_the_time_it_was_added(at_work: AtWork) -> None:
    at_work.double.place_calls(3, ago=300)
    just_ended = at_work.double.place_call()

    reconcile(at_work)

    assert stored_ids(at_work) == [just_ended.call_id]
    account = at_work.account()
    assert account.complete_from == account.added_at


def test_both_shapes_of_the_envelope_are_read(at_work: AtWork) -> None:
    at_work.double.set_envelope("totalRecords")
    was_served_since(at_work, 3 * HOUR)
    placed = at_work.double.place_calls(60, over=2 * HOUR)
    [window] = reconcile(at_work)
    assert stored_ids(at_work) == ids_of(placed)
    assert (window["listed"], window["held"]) == (60, 60)


@pytest.mark.parametrize("insertions", [1, 3, 7])
def test_pages_that_shift_while_being_read_lose_nothing(at_work: AtWork, insertions: int) -> None:
    was_served_since(at_work, 5 * HOUR)
    at_work.double.place_calls(140, over=4 * HOUR, ago=300)
    at_work.double.fault("list", "shifting", times=insertions)

    windows = reconcile(at_work)

    assert stored_ids(at_work) == ids_of(at_work.double.truth.calls())
    assert sum(window["listed"] for window in windows) >= 140
    assert all(window["held"] == window["listed"] and window["finished_at"] for window in windows)


def test_a_list_that_shows_fewer_than_it_tells_keeps_the_mark_and_says_why(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    before = at_work.account().complete_until
    at_work.double.place_calls(80, over=4 * HOUR, ago=300)
    at_work.double.fault("list", "shortened", count=20, times=8)

    windows = reconcile(at_work)

    assert all(window["finished_at"] for window in windows), "the list recovered, so did the windows"
    assert len(stored_ids(at_work)) == 80
    after = at_work.account().complete_until
    assert before is not None
    assert after is not None
    assert after > before


def test_a_long_window_is_cut_into_several_and_the_mark_moves_with_each(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.reconciling.close_window.LARGEST_WINDOW", 100)
    monkeypatch.setattr("workers.reconciling.close_window.CUT_TO", 60)
    was_served_since(at_work, DAY)
    placed = at_work.double.place_calls(230, over=20 * HOUR, ago=300)

    windows = reconcile(at_work)

    assert stored_ids(at_work) == ids_of(placed)
    assert len(windows) > 3
    assert all(window["listed"] == window["held"] and window["finished_at"] for window in windows)
    assert all(a["window_until"] == b["window_from"] for a, b in pairwise(windows))
    assert at_work.account().complete_until == windows[-1]["window_until"]


def test_an_api_that_fails_in_between_only_delays(at_work: AtWork) -> None:
    at_work.settings.leadway_retry_seconds = 0.02
    was_served_since(at_work, 5 * HOUR)
    placed = at_work.double.place_calls(130, over=4 * HOUR, ago=300)
    at_work.double.fault("list", "status", status=500, times=2, skip=1)
    at_work.double.fault("list", "broken_json", times=1, skip=1)
    at_work.double.fault("list", "reset", times=1, skip=2)

    [window] = reconcile(at_work)

    assert stored_ids(at_work) == ids_of(placed)
    assert (window["listed"], window["held"], window["error"]) == (130, 130, None)
    assert at_work.account().complete_until == window["window_until"]


def test_a_revoked_token_pauses_the_account_and_the_run_goes_on_where_it_was(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    placed = at_work.double.place_calls(60, over=4 * HOUR, ago=300)
    at_work.double.revoke_token()
    with pytest.raises(AccountStandsStill):
        reconcile(at_work)
    [window] = ledger(at_work)
    assert (window["finished_at"], window["error"]) == (None, "token")
    assert ("token", "all") in at_work.pauses()

    at_work.double.restore_token()
    with at_work.database.transaction() as connection:
        pauses.resume(connection, at_work.location_id)
    make_due(at_work.database, windows.work_key(at_work.location_id, WindowKind.REGULAR))
    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    assert stored_ids(at_work) == ids_of(placed)


def test_a_reader_that_comes_back_after_its_lease_writes_nothing(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    at_work.double.place_calls(60, over=4 * HOUR, ago=300)
    held = at_work.double.fault("list", "do_then_hold", times=1)
    key = opened(at_work)
    late: list[PageOutcome] = []
    with meanwhile(lambda: late.append(read_one_page(key))):
        eventually(at_work.double.under_way)
        run_out(at_work.database, key)
        assert read_one_page(key) is PageOutcome.READ
        after = ledger(at_work)
        at_work.double.release(held)
    assert late == [PageOutcome.NOT_READ]
    assert ledger(at_work) == after
    assert len(stored_ids(at_work)) == 50


def refused(at_work: AtWork, _monkeypatch: pytest.MonkeyPatch, key: Any) -> None:
    """Leadway refuses each of twelve tries."""
    at_work.double.fault("list", "status", status=422, times=12)
    fail(at_work, key, times=12)
    assert window_of(at_work, WindowKind.REGULAR)["error"] == "refused"


def broken(at_work: AtWork, monkeypatch: pytest.MonkeyPatch, key: Any) -> None:
    """This window's page holds what the code cannot take in."""

    def raising(connection: Any, this: Any, claim: Any, window: Any, *rest: Any, **named: Any) -> Any:
        if window.kind is WindowKind.REGULAR:
            raise ValueError
        return take_in_listed(connection, this, claim, window, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(reading, "take_in_listed", raising)
        fail(at_work, key, times=12)
    assert window_of(at_work, WindowKind.REGULAR)["error"] == "broken"


def killed(at_work: AtWork, _monkeypatch: pytest.MonkeyPatch, key: Any) -> None:
    """Each attempt ends the worker that makes it, in isolation too."""
    for lost in range(6):
        assert claim_work(at_work.database, key, isolated=lost > 1) is not None
        run_out(at_work.database, key)


def fail(at_work: AtWork, key: Any, *, times: int) -> None:
    for _ in range(times):
        assert read_one_page(key) is PageOutcome.NOT_READ
        make_due(at_work.database, key)


@pytest.mark.parametrize("fails", [refused, broken, killed])
def test_a_page_that_fails_forever_holds_up_only_its_window_and_never_dies(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., None]
) -> None:
    was_served_since(at_work, 5 * HOUR)
    placed = at_work.double.place_calls(3, over=HOUR, ago=300)
    key, mark = opened(at_work), at_work.account().complete_until
    fails(at_work, monkeypatch, key)

    work = read(at_work.database, open_work.get, key)
    assert work is not None
    assert work.dead_cause is None
    assert work.due_at is not None
    assert at_work.account().complete_until == mark

    opened(at_work, WindowKind.SINCE)
    read_to_end(at_work.this, at_work.location_id, WindowKind.SINCE)
    assert stored_ids(at_work) == ids_of(placed)
    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    window = window_of(at_work, WindowKind.REGULAR)
    assert (window["listed"], window["held"], window["error"]) == (3, 3, None)


@pytest.mark.parametrize("database_is_away", [False, True])
def test_a_person_who_ends_a_command_leaves_no_lease_if_the_database_can_be_written(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch, database_is_away: bool
) -> None:
    def end(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def be_away(*_: object, **__: object) -> None:
        raise sa.exc.TimeoutError("no connection of the pool was free in time")

    was_served_since(at_work, 5 * HOUR)
    at_work.double.place_call(ago=600)
    key = opened(at_work)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "take_in_listed", end)
        if database_is_away:
            patch.setattr("workers.read_page.lifecycle.give_back", be_away)
        with pytest.raises(KeyboardInterrupt):
            read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    expected = PageOutcome.NOT_CLAIMED if database_is_away else PageOutcome.READ
    assert read_one_page(key) is expected


def test_a_command_waits_while_the_circuit_breaker_is_open(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    opened(at_work)
    write(at_work.database, circuit_breaker.open_breaker, at_work.location_id, seconds=60)
    looks: list[PageOutcome] = []

    def look(outcome: PageOutcome, _window: Any) -> None:
        looks.append(outcome)
        if len(looks) == 2:
            assert list_requests(at_work) == 0
            at_work.time_passes(61)

    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR, on_page=look)
    assert looks == [PageOutcome.NOT_CLAIMED] * 2 + [PageOutcome.READ] * 2


def test_two_readers_at_once_share_the_pages(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    placed = at_work.double.place_calls(200, over=4 * HOUR, ago=300)
    opened(at_work)
    with meanwhile(lambda: read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)):
        read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    [window] = ledger(at_work)
    assert stored_ids(at_work) == ids_of(placed)
    assert (window["listed"], window["held"]) == (200, 200)
    assert list_requests(at_work) == 6


def test_the_tick_opens_what_is_due_once(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    for _ in range(2):
        open_windows()
        assert [row["kind"] for row in ledger(at_work)] == ["regular"], "of each kind one is open"
    [work] = at_work.rows("work")
    assert (work["kind"], work["subject"]) == ("window", "regular")


def test_the_period_is_short_while_calls_come_unannounced_and_longer_when_the_webhook_works(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    reconcile(at_work)
    assert next_in(at_work) == pytest.approx(300, abs=20), "no notification for long"

    at_work.double.place_calls(3, over=HOUR, ago=600)
    was_served_since(at_work, 5 * HOUR)
    reconcile(at_work)
    assert next_in(at_work) == pytest.approx(120, abs=20)

    with at_work.database.transaction() as connection:
        connection.execute(sa.update(reconciliations_table).values(started_at=moment(-2 * HOUR)))
    arrive(at_work.database, "one", location_id=at_work.location_id)
    reconcile(at_work)
    assert next_in(at_work) == pytest.approx(900, abs=20)


def next_in(at_work: AtWork) -> float:
    return at_work.seconds_until(at_work.rows("accounts")[0]["next_reconcile_at"])


def test_a_log_that_appears_later_than_the_overlap_is_found_by_the_daily_listing(at_work: AtWork) -> None:
    was_served_since(at_work, 2 * DAY)
    late = at_work.double.place_call(ago=DAY, listed_late=100)
    reconcile(at_work)
    assert stored_ids(at_work) == []
    at_work.double.set_clock(200)
    with at_work.database.transaction() as connection:
        schedule.open_due(connection, list_fetch=True)
        assert {row["kind"] for row in ledger(at_work)} == {"regular"}, "it was listed just now"
        connection.execute(sa.update(accounts.accounts_table).values(next_relist_at=moment(-1)))
    write(at_work.database, schedule.open_due, list_fetch=True)
    read_to_end(at_work.this, at_work.location_id, WindowKind.DAILY)
    assert stored_ids(at_work) == [late.call_id]


def test_many_waiting_calls_are_taken_from_the_list_fifty_with_each_request(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.reconciling.schedule.BURST_CALLS", 60)
    was_served_since(at_work, 5 * HOUR)
    placed = at_work.double.place_calls(60, over=HOUR, actions=BOTH)
    for call in placed:
        at_work.announce(call)
    with at_work.database.transaction() as connection:  # they came as they ended
        connection.execute(sa.update(work_table).values(first_heard_at=moment(-HOUR)))
        schedule.open_due(connection, list_fetch=True)
    read_to_end(at_work.this, at_work.location_id, WindowKind.BURST)
    assert at_work.requests("fetch") == []
    assert stored_ids(at_work) == ids_of(placed)
    assert open_work_of_calls(at_work) == []
    assert list_requests(at_work) == 3


def test_a_burst_is_dropped_where_the_list_of_its_time_is_longer_than_it_is_worth(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.reconciling.schedule.BURST_CALLS", 2)
    was_served_since(at_work, 5 * HOUR)
    for call in at_work.double.place_calls(120, over=HOUR)[-2:]:
        at_work.announce(call)
    with at_work.database.transaction() as connection:
        connection.execute(sa.update(work_table).values(first_heard_at=moment(-HOUR)))
        schedule.open_due(connection, list_fetch=True)
    read_to_end(at_work.this, at_work.location_id, WindowKind.BURST)
    assert [row["error"] for row in ledger(at_work) if row["kind"] == "burst"] == ["not_worth_it"]
    assert list_requests(at_work) == 1


def test_calls_that_nobody_announced_raise_one_alarm_after_the_run_that_found_them(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    at_work.double.place_calls(6, over=HOUR, ago=1200)
    reconcile(at_work)
    [account] = at_work.rows("accounts")
    assert account["webhook_alarm"] == "never_arrived"
    reconcile(at_work)
    [later] = at_work.rows("accounts")
    assert later["webhook_alarm_at"] == account["webhook_alarm_at"]
