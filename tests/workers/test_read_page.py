"""What Leadway lists is what we hold: after outages, on shifting pages, through failures and deaths of the reader."""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import pytest
import sqlalchemy as sa

from models.accounts import accounts, pauses
from models.calls.calls import calls_table
from models.database import moment, now
from models.reconciling import schedule
from models.reconciling.windows import WindowKind, reconciliations_table
from tests.leadway_double.nouns import PlacedCall
from tests.support.rows import arrive, write
from tests.support.waiting import eventually, meanwhile
from tests.support.worker import DAY, HOUR, AtWork, ledger, reconcile, was_served_since
from workers.reconcile_accounts import AccountStandsStill, read_to_end, reconcile_accounts
from workers.reconciling.read_page import PageOutcome, read_page


def stored_ids(at_work: AtWork) -> list[str]:
    return sorted(row["call_id"] for row in at_work.rows("calls"))


def ids_of(calls: Sequence[PlacedCall]) -> list[str]:
    return sorted(call.call_id for call in calls)


def list_requests(at_work: AtWork) -> int:
    return len(at_work.requests("list"))


def test_after_an_outage_every_listed_call_has_its_row_with_what_it_says(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    placed = at_work.double.place_calls(120, over=4 * HOUR)
    trials = at_work.double.place_calls(7, over=HOUR, trial=True)

    [window] = reconcile(at_work)

    assert stored_ids(at_work) == ids_of(placed + trials)
    rows = at_work.rows("calls")
    assert Counter(row["status"] for row in rows) == {"done": 127}
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

    [window] = reconcile(at_work)

    assert stored_ids(at_work) == ids_of(at_work.double.truth.calls())
    assert (window["listed"], window["held"]) == (140 + insertions, 140 + insertions)
    assert window["finished_at"] is not None


def test_a_list_that_shows_fewer_than_it_tells_keeps_the_mark_and_says_why(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    before = at_work.account().complete_until
    at_work.double.place_calls(80, over=4 * HOUR, ago=300)
    at_work.double.fault("list", "shortened", count=20, times=8)

    [window] = reconcile(at_work)

    assert window["finished_at"] is not None, "the list recovered, so did the window"
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
        connection.execute(sa.update(reconciliations_table).values(due_at=moment()))
    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    assert stored_ids(at_work) == ids_of(placed)


def test_a_reader_that_comes_back_after_its_lease_writes_nothing(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    at_work.double.place_calls(60, over=4 * HOUR, ago=300)
    at_work.double.fault("list", "delay", seconds=1.0, times=1)
    steps: list[PageOutcome] = []
    with at_work.database.transaction() as connection:
        schedule.open_regular(connection, at_work.location_id, until=now(connection))
    [window] = ledger(at_work)
    with meanwhile(lambda: steps.append(read_page(at_work.this, window["reconciliation_id"]))):
        eventually(lambda: at_work.requests("list"))
        with at_work.database.transaction() as connection:
            connection.execute(sa.update(reconciliations_table).values(due_at=moment(-1)))
        assert read_page(at_work.this, window["reconciliation_id"]) is PageOutcome.READ
        after = ledger(at_work)
    assert steps == [PageOutcome.LEASE_LOST]
    assert ledger(at_work) == after
    assert len(stored_ids(at_work)) == 50


@pytest.mark.parametrize("ended_by", [KeyboardInterrupt, RuntimeError])
def test_a_database_that_cannot_be_written_at_the_end_replaces_no_other_error(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch, ended_by: type[BaseException]
) -> None:
    def end(*_: object, **__: object) -> None:
        raise ended_by

    def release(*_: object, **__: object) -> None:
        raise sa.exc.TimeoutError("no connection of the pool was free in time")

    was_served_since(at_work, 5 * HOUR)
    at_work.double.place_call(ago=600)
    with at_work.database.transaction() as connection:
        schedule.open_regular(connection, at_work.location_id, until=now(connection))
    [window] = ledger(at_work)
    monkeypatch.setattr("workers.reconciling.read_page.seen_ids.record", end)
    monkeypatch.setattr("workers.reconciling.read_page.windows.release", release)
    if ended_by is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            read_page(at_work.this, window["reconciliation_id"])
    else:
        assert read_page(at_work.this, window["reconciliation_id"]) is PageOutcome.RESCHEDULED


def test_two_readers_at_once_share_the_pages(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    placed = at_work.double.place_calls(200, over=4 * HOUR, ago=300)
    with at_work.database.transaction() as connection:
        schedule.open_regular(connection, at_work.location_id, until=now(connection))
    with meanwhile(lambda: read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)):
        read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    [window] = ledger(at_work)
    assert stored_ids(at_work) == ids_of(placed)
    assert (window["listed"], window["held"]) == (200, 200)
    assert list_requests(at_work) == 6


def test_the_tick_opens_what_is_due_and_sends_a_reader_for_it(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)
    reconcile_accounts()
    kinds = {row["kind"]: row for row in ledger(at_work)}
    assert set(kinds) == {"regular"}
    assert at_work.this.redis.llen("housekeeping") == 1
    reconcile_accounts()
    assert len(ledger(at_work)) == 1, "of each kind one is open"
    for _ in range(20):
        reconcile_accounts()
    assert at_work.this.redis.llen("housekeeping") == 32 // 4, "one slot in four: what nobody takes does not pile up"


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
    placed = at_work.double.place_calls(60, over=HOUR)
    for call in placed:
        at_work.announce(call)
    with at_work.database.transaction() as connection:  # they came as they ended
        connection.execute(sa.update(calls_table).values(created_at=moment(-HOUR)))
        schedule.open_due(connection, list_fetch=True)
    read_to_end(at_work.this, at_work.location_id, WindowKind.BURST)
    assert at_work.requests("fetch") == []
    assert {row["status"] for row in at_work.rows("calls")} == {"done"}
    assert list_requests(at_work) == 3


def test_a_burst_is_dropped_where_the_list_of_its_time_is_longer_than_it_is_worth(
    at_work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.reconciling.schedule.BURST_CALLS", 2)
    was_served_since(at_work, 5 * HOUR)
    for call in at_work.double.place_calls(120, over=HOUR)[-2:]:
        at_work.announce(call)
    with at_work.database.transaction() as connection:
        connection.execute(sa.update(calls_table).values(created_at=moment(-HOUR)))
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
