"""A listed log becomes the row that a fetch would have made, whatever state the row is in; nothing older over newer."""

from typing import Any

import pytest
import sqlalchemy as sa

from models.calls.calls import CALL
from models.work.lifecycle import LeaseLost, complete
from models.work.work_rows import WorkStatus
from tests.leadway_double.nouns import PlacedCall
from tests.support.rows import write
from tests.support.worker import DAY, HOUR, AtWork, backfill, reconcile, was_served_since

SAME_WHEN_FETCHED = (
    "status", "started_at", "duration_seconds", "agent_id", "agent_deleted", "contact_id", "message_id", "from_number",
    "trial_call", "transferred", "summary", "transcript", "translation",
)  # fmt: skip


@pytest.fixture(autouse=True)
def served(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * HOUR)


def place(at_work: AtWork, **wish: Any) -> PlacedCall:
    return at_work.double.place_call(**{"language": "en", "contact": True, "ago": 600, **wish})


def claimed(at_work: AtWork, call: PlacedCall) -> Any:
    from models.work.lifecycle import claim

    at_work.announce(call)
    return claim(
        at_work.database, CALL, (at_work.location_id, call.call_id), lease_seconds=60, deadline_seconds=20,
        worker="worker-2",
    )  # fmt: skip


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
    assert all(each.due_at is not None for each in by_list[1]), "they wait for no fetch"


def test_secrets_in_a_listed_log_are_replaced(at_work: AtWork) -> None:
    call = place(at_work, actions=["CUSTOM_ACTION"])
    reconcile(at_work)
    assert "secret-" not in str(at_work.call(call).document)
    assert "redacted" in str(at_work.rows("call_actions"))


def test_a_call_that_waits_for_its_fetch_is_done_without_it(at_work: AtWork) -> None:
    call = place(at_work)
    at_work.announce(call)
    [window] = reconcile(at_work)
    row = at_work.call(call)
    assert (row.status, row.read_from, row.origin) == ("done", "list", "notification")
    assert at_work.requests("fetch") == []
    assert window["unannounced"] == 0


def test_a_fetch_that_is_under_way_writes_nothing_after_the_list_was_stored(at_work: AtWork) -> None:
    call = place(at_work)
    claim = claimed(at_work, call)
    reconcile(at_work)
    assert at_work.call(call).status == WorkStatus.DONE
    with pytest.raises(LeaseLost), at_work.database.transaction() as connection:
        complete(connection, claim)
    assert at_work.call(call).read_from == "list"


def test_a_dead_call_that_is_listed_lives(at_work: AtWork) -> None:
    call = place(at_work)
    at_work.announce(call)
    at_work.dead_letter(call, cause="poison")
    reconcile(at_work)
    row = at_work.call(call)
    assert (row.status, row.dead_cause) == ("done", None)
    assert row.transcript


def test_what_leadway_added_since_is_taken_in_with_the_follow_up_that_it_calls_for(at_work: AtWork) -> None:
    call = at_work.fetched(actions=[], ago=600)
    later = place(at_work, actions=["CALL_TRANSFER"]).versions[-1][1]
    import json

    actions = json.loads(later)["executedCallActions"]
    at_work.double.change_call(call.call_id, summary="Written afterwards.", executedCallActions=actions)

    [window] = reconcile(at_work)

    row = at_work.call(call)
    assert row.summary == "Written afterwards."
    assert row.status == WorkStatus.DONE
    assert [each.kind for each in at_work.follow_ups_of(call)] == ["note"]
    assert window["changed"] == 1


def test_an_older_copy_in_the_list_takes_nothing_away(at_work: AtWork) -> None:
    call = place(at_work, empty_for=0.001, actions_late=0.001, actions=["CALL_TRANSFER"])
    at_work.announce(call)
    at_work.fetch(call)
    before, owed = at_work.call(call), at_work.follow_ups_of(call)
    at_work.double.fault("list", "older_copy")

    [window] = reconcile(at_work)

    assert at_work.call(call) == before
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
    assert row.document["extractedData"] == extracted


def test_a_text_that_the_list_cuts_off_replaces_no_whole_one(at_work: AtWork) -> None:
    call = at_work.fetched(ago=600)
    whole = at_work.call(call).transcript
    at_work.double.change_call(call.call_id, transcript=whole[:20])
    reconcile(at_work)
    assert at_work.call(call).transcript == whole


def test_a_listed_log_without_its_words_is_read_again_until_it_has_them(at_work: AtWork) -> None:
    call = place(at_work, empty_for=30, actions=["CALL_TRANSFER"], ago=0)
    reconcile(at_work)
    row = at_work.call(call)
    assert row.status == WorkStatus.PENDING
    assert row.stored_at is not None
    at_work.time_passes(40)
    assert at_work.fetch(call).status == WorkStatus.DONE


def test_an_old_log_without_its_words_is_settled_as_it_is(at_work: AtWork) -> None:
    call = place(at_work, ago=3 * HOUR, fields={"transcript": "", "summary": ""})
    reconcile(at_work)
    assert at_work.call(call).status == WorkStatus.DONE


def test_what_retention_has_emptied_stays_empty(at_work: AtWork) -> None:
    call = at_work.fetched(ago=600)
    at_work.change_call(call, document=sa.null(), summary=None, transcript=None)
    reconcile(at_work)
    assert at_work.call(call).transcript is None


def test_a_person_who_asked_for_a_fetch_still_gets_it(at_work: AtWork) -> None:
    from models.calls.calls import replay

    call = at_work.fetched(ago=600)
    write(at_work.database, replay, at_work.location_id, call.call_id)
    at_work.double.change_call(call.call_id, summary="Newer.")
    reconcile(at_work)
    row = at_work.call(call)
    assert (row.status, row.summary) == ("pending", "Newer.")
    assert at_work.fetch(call).status == WorkStatus.DONE


def test_late_calls_within_the_follow_up_age_get_notes_and_older_ones_are_too_old(at_work: AtWork) -> None:
    was_served_since(at_work, 5 * DAY)
    late = place(at_work, actions=["CALL_TRANSFER"], ago=2.9 * DAY)
    too_old = place(at_work, actions=["CALL_TRANSFER"], ago=3.1 * DAY)
    reconcile(at_work)
    [owed] = at_work.follow_ups_of(late)
    [skipped] = at_work.follow_ups_of(too_old)
    assert (owed.status, owed.skip_reason) == ("pending", None)
    assert (skipped.status, skipped.skip_reason) == ("skipped", "too_old")
    assert at_work.send(owed.follow_up_id).status == WorkStatus.DONE
    assert len(at_work.notes(owed.follow_up_id)) == 1


def test_a_backfill_owes_nothing_unless_asked_and_may_be_asked_later(at_work: AtWork) -> None:
    call = place(at_work, actions=["CALL_TRANSFER"], ago=6 * HOUR)
    backfill(at_work, days=1)
    assert (at_work.call(call).status, at_work.call(call).origin) == ("done", "backfill")
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


def test_with_list_fetch_off_listed_calls_are_announced_and_fetched_one_by_one(at_work: AtWork) -> None:
    at_work.settings.leadway_list_fetch = "off"
    call, known = place(at_work), at_work.fetched(ago=500)
    dead = place(at_work)
    at_work.announce(dead)
    at_work.dead_letter(dead, cause="not_found")
    at_work.double.change_call(known.call_id, summary="Newer.")

    [window] = reconcile(at_work)

    assert (window["listed"], window["held"], window["changed"]) == (3, 3, 1)
    row = at_work.call(call)
    assert (row.status, row.stored_at, row.lane) == ("pending", None, 3)
    assert at_work.call(dead).status == WorkStatus.PENDING
    assert at_work.fetch(call).read_from == "fetch"
    assert at_work.fetch(known).summary == "Newer."


def test_what_stands_in_the_list_of_trials_is_one_whatever_it_says_itself(at_work: AtWork) -> None:
    call = place(at_work, trial=True, actions=["CALL_TRANSFER"], fields={"trialCall": None})
    reconcile(at_work)
    assert at_work.call(call).trial_call is True
    assert [row.skip_reason for row in at_work.follow_ups_of(call)] == ["trial_call"]
