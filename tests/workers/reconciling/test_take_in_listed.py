"""A listed log becomes the row that a fetch would have made, whatever is open of the call; nothing older over newer."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from models.calls import calls
from models.failpoints import arm_failpoints
from models.reports import call_list
from models.retention import empty_calls
from models.work.work_rows import Lane
from tests.crash.points import Points
from tests.leadway_double.nouns import PlacedCall
from tests.support.rows import read, write
from tests.support.waiting import at_once, eventually, meanwhile
from tests.support.worker import DAY, HOUR, AtWork, backfill, reconcile, was_served_since

SAME_WHEN_FETCHED = (
    "status", "started_at", "local_day", "local_hour", "duration_seconds", "direction", "call_status", "agent_id",
    "agent_deleted", "contact_id", "message_id", "from_number", "to_number", "trial_call", "agent_handoff", "summary",
    "transcript", "translation",
)  # fmt: skip


@pytest.fixture(autouse=True)
def served(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)


def place(at_work: AtWork, **wish: Any) -> PlacedCall:
    return at_work.double.place_call(
        **{"language": "en", "contact": True, "ago": 600, "actions": ["CALL_TRANSFER"], **wish}
    )


def dead(at_work: AtWork, call: PlacedCall, *, cause: str = "not_found") -> None:
    at_work.announce(call)
    at_work.dead_letter(call, cause=cause)


@contextmanager
def answer_held(at_work: AtWork, kind: str) -> Iterator[None]:
    """The next answer of this kind, which shows what is true when the block begins, arrives at its end."""
    fault = at_work.double.fault(kind, "do_then_hold", times=1)
    yield
    at_work.double.release(fault)


def wait_for_request(at_work: AtWork) -> None:
    eventually(at_work.double.under_way, describe="the request to be under way")


def test_a_listed_call_is_stored_as_a_fetched_one_and_owes_the_same(at_work: AtWork) -> None:
    fetched = at_work.fetched(actions=["APPOINTMENT_BOOKING", "CALL_TRANSFER"], ago=600)
    by_fetch = at_work.call(fetched), at_work.follow_ups_of(fetched)
    with at_work.database.transaction() as connection:
        for table in ("follow_ups", "call_actions", "calls"):
            connection.execute(sa.text(f"DELETE FROM {table}"))

    reconcile(at_work)

    by_list = at_work.call(fetched), at_work.follow_ups_of(fetched)
    assert {name: getattr(by_list[0], name) for name in SAME_WHEN_FETCHED} == {
        name: getattr(by_fetch[0], name) for name in SAME_WHEN_FETCHED
    }
    assert {each.follow_up_id for each in by_list[1]} == {each.follow_up_id for each in by_fetch[1]}
    assert all(at_work.follow_up(each.follow_up_id).due_at is not None for each in by_list[1]), "they wait for no fetch"


def test_where_the_agent_extracts_data_a_listed_call_is_read_singly_in_the_lowest_lane(at_work: AtWork) -> None:
    learnt = place(at_work, actions=["DATA_EXTRACTION"])
    agent = {"fields": {"agentId": learnt.agent_id}}
    at_work.announce(learnt)
    at_work.fetch(learnt)
    other = place(at_work, fields={"agentId": "another-agent"})
    by_its_action = place(at_work, actions=["DATA_EXTRACTION"], fields={"agentId": "a-third-agent"})
    by_its_agent = place(at_work, **agent)
    reconcile(at_work)
    assert at_work.call(other).status == "complete"
    for call in (by_its_action, by_its_agent):
        row = at_work.call(call)
        assert (row.status, row.lane, row.extracted_data_from) == ("pending", Lane.BACKFILLED, None)
        assert at_work.fetch(call).status == "complete"
        assert at_work.call(call).extracted_data_from == "fetch"
    reconcile(at_work)
    assert {row["subject"] for row in at_work.rows("work") if row["kind"] == "call"} == set()


def test_a_call_whose_rule_words_extracted_data_is_fetched_before_its_follow_up_is_planned(
    at_work: AtWork, tmp_path: Path
) -> None:
    rule = """
        [[rule]]
        id = "lead"
        action = "DATA_EXTRACTION"
        kind = "note"
        body = "{{ extracted.customerName }}"
    """
    at_work.use_rules(rule, tmp_path)
    call = place(at_work, actions=["DATA_EXTRACTION"])
    reconcile(at_work)
    assert at_work.follow_ups_of(call) == []
    assert at_work.fetch(call).status == "complete"
    [planned] = at_work.follow_ups_of(call)
    assert at_work.send_when_due(planned.follow_up_id).status == "done"
    [note] = at_work.notes(planned.follow_up_id)
    assert note.body.startswith(at_work.call(call).extracted_data["customerName"])


def test_secrets_in_a_listed_log_are_replaced(at_work: AtWork) -> None:
    call = place(at_work, actions=["CUSTOM_ACTION"])
    reconcile(at_work)
    assert "secret-" not in str(at_work.call(call).document)
    assert "redacted" in str(at_work.rows("call_actions"))


def test_a_call_that_waits_for_its_fetch_is_complete_without_it(at_work: AtWork) -> None:
    call = place(at_work)
    at_work.announce(call)
    [window] = reconcile(at_work)
    row = at_work.call(call)
    assert (row.status, row.read_from, row.origin) == ("complete", "list", "notification")
    assert row.announced_at is not None
    assert at_work.requests("fetch") == []
    assert window["unannounced"] == 0


@pytest.mark.parametrize(
    ("cause", "wish", "status"),
    [
        ("not_found", {}, "complete"),
        ("poison", {}, "complete"),
        ("not_found", {"empty_for": 60, "ago": 0}, "pending"),
        ("poison", {"empty_for": 60, "ago": 0}, "dead"),
    ],
)
def test_a_dead_call_that_is_listed_is_stored_and_its_work_goes_or_lives_but_for_poison(
    at_work: AtWork, cause: str, wish: dict[str, Any], status: str
) -> None:
    """A log without its words is to be read again: the work of one that died of poison waits for a person."""
    call = place(at_work, **wish)
    dead(at_work, call, cause=cause)
    reconcile(at_work)
    row = at_work.call(call)
    assert (row.status, row.stored_at is not None) == (status, True)
    assert bool(row.transcript) == (status == "complete")
    if status == "pending":
        at_work.time_passes(61)
        assert at_work.fetch(call).status == "complete"


def test_a_stored_call_whose_work_is_dead_settles_when_it_is_listed_unchanged(at_work: AtWork) -> None:
    call = place(at_work, ago=1.9 * HOUR, fields={"transcript": "", "summary": ""})
    dead(at_work, call)
    reconcile(at_work)
    at_work.time_passes(20)
    at_work.dead_letter(call, cause="broken")
    assert at_work.call(call).status == "dead"
    at_work.time_passes(2 * HOUR)
    was_served_since(at_work, 5 * HOUR)
    reconcile(at_work)
    assert at_work.call(call).status == "complete"


# Listing and fetch of the same call at once


def test_a_fetch_under_way_neither_overwrites_the_newer_listed_log_nor_plans_its_note_again(at_work: AtWork) -> None:
    call = place(at_work, actions=["CALL_TRANSFER"])
    at_work.announce(call)
    with meanwhile(lambda: at_work.fetch(call)), answer_held(at_work, "fetch"):
        wait_for_request(at_work)
        at_work.double.change_call(call.call_id, summary="Newer.")
        reconcile(at_work)
        row = at_work.call(call)
        assert (row.status, row.summary) == ("running", "Newer."), "the page ends no work that is leased"
    row = at_work.call(call)
    assert (row.status, row.summary, row.read_from) == ("complete", "Newer.", "list")
    assert len(at_work.follow_ups_of(call)) == 1
    assert at_work.attempts_of(call.call_id) == ["done"]


def test_a_listing_under_way_neither_overwrites_the_newer_fetched_log_nor_plans_its_note_again(
    at_work: AtWork,
) -> None:
    call = place(at_work, actions=["CALL_TRANSFER"])
    at_work.announce(call)
    with meanwhile(lambda: reconcile(at_work)), answer_held(at_work, "list"):
        wait_for_request(at_work)
        at_work.double.change_call(call.call_id, summary="Newer.")
        assert at_work.fetch(call).status == "complete"
    row = at_work.call(call)
    assert (row.status, row.summary, row.read_from) == ("complete", "Newer.", "fetch")
    assert len(at_work.follow_ups_of(call)) == 1


def test_whoever_comes_first_each_call_is_stored_once_with_its_one_note_and_no_work_is_left(at_work: AtWork) -> None:
    placed = [place(at_work, actions=["CALL_TRANSFER"]) for _ in range(6)]
    for call in placed:
        at_work.announce(call)
    fetches: list[Callable[[], Any]] = [lambda call=call: at_work.fetch(call) for call in placed]  # type: ignore[misc]
    at_once([lambda: reconcile(at_work), *fetches])
    assert [at_work.call(call).status for call in placed] == ["complete"] * 6
    assert [len(at_work.follow_ups_of(call)) for call in placed] == [1] * 6
    assert len(at_work.rows("call_actions")) == 6


@pytest.fixture
def points(tmp_path: Path) -> Iterator[Points]:
    arm_failpoints(tmp_path)
    yield Points(tmp_path)
    arm_failpoints(None)


def test_a_call_that_is_announced_while_the_page_settles_it_is_read_once_more(at_work: AtWork, points: Points) -> None:
    call = place(at_work, ago=60)
    at_work.announce(call)
    points.arm("call_before_commit")
    with meanwhile(lambda: reconcile(at_work)):
        points.wait_until_reached("call_before_commit")
        with meanwhile(lambda: at_work.announce(call)):  # on SQLite it waits for the page's transaction
            points.open("call_before_commit")
    assert at_work.call(call).status == "pending"
    assert at_work.fetch(call).status == "complete"


# News and the lack of it


def test_what_leadway_added_since_is_taken_in_with_the_follow_up_that_it_calls_for(at_work: AtWork) -> None:
    call = at_work.fetched(actions=[], ago=600)
    later = place(at_work, actions=["CALL_TRANSFER"]).versions[-1][1]
    actions = json.loads(later)["executedCallActions"]
    at_work.double.change_call(call.call_id, summary="Written afterwards.", executedCallActions=actions)

    [window] = reconcile(at_work)

    row = at_work.call(call)
    assert row.summary == "Written afterwards."
    assert row.status == "complete"
    assert [each.kind for each in at_work.follow_ups_of(call)] == ["note"]
    assert window["changed"] == 1


def test_an_older_copy_in_the_list_takes_nothing_away(at_work: AtWork) -> None:
    call = place(at_work, empty_for=0.001, actions_late=0.001, actions=["CALL_TRANSFER"])
    at_work.announce(call)
    at_work.fetch(call)
    before, owed = at_work.call(call), at_work.follow_ups_of(call)
    at_work.double.fault("list", "older_copy")

    [window] = reconcile(at_work)

    assert at_work.call(call).row == before.row
    assert at_work.follow_ups_of(call) == owed
    assert window["changed"] == 0


def test_what_only_a_fetch_can_carry_outlives_the_list(at_work: AtWork) -> None:
    call = at_work.fetched(actions=["DATA_EXTRACTION"], ago=600)
    extracted = at_work.call(call).extracted_data
    assert extracted
    at_work.double.change_call(call.call_id, summary="Newer.")
    reconcile(at_work)
    row = at_work.call(call)
    assert row.summary == "Newer."
    assert row.extracted_data == extracted
    assert row.extracted_data_from == "fetch"


def test_a_text_that_the_list_cuts_off_replaces_no_whole_one(at_work: AtWork) -> None:
    call = at_work.fetched(ago=600)
    whole = at_work.call(call).transcript
    at_work.double.change_call(call.call_id, transcript=whole[:20])
    reconcile(at_work)
    assert at_work.call(call).transcript == whole


@pytest.mark.parametrize("is_announced", [False, True])
def test_a_listed_log_without_its_words_is_read_again_until_it_has_them(at_work: AtWork, is_announced: bool) -> None:
    call = place(at_work, empty_for=30, actions=["CALL_TRANSFER"], ago=0)
    if is_announced:
        at_work.announce(call)
    reconcile(at_work)
    row = at_work.call(call)
    assert (row.status, row.stored_at is not None) == ("pending", True)
    assert len(read(at_work.database, call_list.newest, limit=9).calls) == 1, "it is stored, so it is no unread call"
    at_work.time_passes(40)
    assert at_work.fetch(call).status == "complete"


def test_an_old_log_without_its_words_is_settled_as_it_is(at_work: AtWork) -> None:
    call = place(at_work, ago=3 * HOUR, fields={"transcript": "", "summary": ""})
    reconcile(at_work)
    assert at_work.call(call).status == "complete"


def test_what_retention_has_emptied_stays_empty(at_work: AtWork) -> None:
    call = at_work.fetched(ago=31 * DAY)
    at_work.time_passes(31 * DAY)
    assert write(at_work.database, empty_calls, days=30) == 1
    was_served_since(at_work, 40 * DAY)
    [window] = reconcile(at_work)
    assert window["listed"] == 1
    assert at_work.call(call).transcript is None


def test_a_person_who_asked_for_a_fetch_still_gets_it(at_work: AtWork) -> None:
    call = at_work.fetched(ago=600)
    at_work.replay(call)
    at_work.double.change_call(call.call_id, summary="Newer.")
    reconcile(at_work)
    row = at_work.call(call)
    assert (row.status, row.summary) == ("pending", "Newer.")
    assert at_work.fetch(call).status == "complete"


def test_late_calls_within_the_follow_up_age_get_notes_and_older_ones_are_too_old(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * DAY)
    late = place(at_work, actions=["CALL_TRANSFER"], ago=2.9 * DAY)
    too_old = place(at_work, actions=["CALL_TRANSFER"], ago=3.1 * DAY)
    reconcile(at_work)
    [owed] = at_work.follow_ups_of(late)
    [skipped] = at_work.follow_ups_of(too_old)
    assert (owed.status, owed.skip_reason) == ("pending", None)
    assert (skipped.status, skipped.skip_reason) == ("skipped", "too_old")
    assert at_work.send(owed.follow_up_id).status == "done"
    assert len(at_work.notes(owed.follow_up_id)) == 1


def test_a_backfill_owes_nothing_unless_asked_and_may_be_asked_later(at_work: AtWork) -> None:
    call = place(at_work, actions=["CALL_TRANSFER"], ago=6 * HOUR)
    backfill(at_work, days=1)
    assert (at_work.call(call).status, at_work.call(call).origin) == ("complete", "backfill")
    assert at_work.follow_ups_of(call) == []
    backfill(at_work, days=1, follow_ups=True)
    assert [row.status for row in at_work.follow_ups_of(call)] == ["pending"]


def test_an_unread_call_of_a_backfill_gets_its_follow_ups_when_a_regular_window_lists_it(at_work: AtWork) -> None:
    call = place(at_work, actions=["CALL_TRANSFER"])
    at_work.announce(call, origin="backfill", wants_follow_ups=False)
    reconcile(at_work)
    assert at_work.call(call).wants_follow_ups is True
    assert len(at_work.follow_ups_of(call)) == 1


def test_a_backfill_that_touches_it_makes_the_account_complete_from_its_beginning(at_work: AtWork) -> None:
    *_, window = backfill(at_work, days=3)
    assert at_work.account().complete_from == window["window_from"]


def test_with_list_fetch_off_listed_calls_are_requested_and_fetched_one_by_one(at_work: AtWork) -> None:
    at_work.settings.leadway_list_fetch = "off"
    call, known, same = place(at_work), at_work.fetched(ago=500), at_work.fetched(ago=400)
    lost, poison = place(at_work), place(at_work)
    dead(at_work, lost)
    dead(at_work, poison, cause="poison")
    at_work.double.change_call(known.call_id, summary="Newer.")

    [window] = reconcile(at_work)

    assert (window["listed"], window["held"], window["changed"]) == (5, 5, 1)
    row = at_work.call(call)
    assert (row.status, row.stored_at, row.lane, row.origin) == ("pending", None, 3, "reconcile")
    statuses = [at_work.call(each).status for each in (lost, poison, same)]
    assert statuses == ["pending", "dead", "complete"]
    assert at_work.fetch(call).read_from == "fetch"
    assert at_work.fetch(known).summary == "Newer."
    assert write(at_work.database, calls.replay, at_work.location_id, poison.call_id)


def test_what_stands_in_the_list_of_trials_is_one_whatever_it_says_itself(at_work: AtWork) -> None:
    call = place(at_work, trial=True, actions=["CALL_TRANSFER"], fields={"trialCall": None})
    reconcile(at_work)
    assert at_work.call(call).trial_call is True
    assert [row.skip_reason for row in at_work.follow_ups_of(call)] == ["trial_call"]
