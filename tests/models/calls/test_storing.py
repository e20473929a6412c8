"""Storing: the newest reading wins whoever made it, nothing stored becomes poorer, and no action is lost."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.calls import calls, listed_calls, storing
from models.calls.call_log import SETTLED_AS_IT_IS_AFTER, Action, CallLog, Source
from models.calls.calls import OPTIONAL_PARTS, Call
from models.calls.storing import ReadByClaim, Reading, Stored
from models.database import Database
from models.reconciling import windows
from models.work import lifecycle, open_work
from models.work.lifecycle import Claim
from models.work.work_rows import Lane, Request
from tests.support.rows import (
    LOCATION,
    STARTED_AT,
    announce,
    call_log,
    claim_work,
    claimed_call,
    on_postgresql,
    read,
    store_reading,
    until_somebody_waits,
    write,
)
from tests.support.waiting import meanwhile

KEY = calls.work_key(LOCATION, "call-1")
FULL = call_log(
    contact_id="contact-1",
    agent_id="agent-1",
    agent_deleted=False,
    message_id="message-1",
    from_number="+15550100",
    to_number="+15550199",
    direction="inbound",
    call_status="completed",
    started_at=STARTED_AT,
    duration_seconds=61.5,
    trial_call=False,
    agent_handoff=True,
    summary="Booked.",
    transcript="bot: hello\nhuman: hi, señor 👋",
    translation={"es": "hola"},
    extracted_data={"budget": 12.5, "tags": ["a", None]},
    actions=(
        Action("SMS", "text", "id-a", {"to": "x"}, STARTED_AT, STARTED_AT),
        Action("CALL_TRANSFER", "front desk", "id-b", {}, STARTED_AT + timedelta(seconds=5)),
    ),
    document={"unknown": {"deep": [1, 2]}},
)
UNSETTLED = call_log(started_at=STARTED_AT, duration_seconds=61.5)
OF_A_READING = {"read_at", "read_from", "reading_fence"}


def claim(database: Database) -> Claim:
    """Asks for the call and claims it, whatever it was."""
    write(database, lifecycle.take_from_worker, KEY)
    announce(database, "call-1")
    write(database, lifecycle.request, KEY, lane=Lane.LIVE)
    got = claim_work(database, KEY)
    assert got is not None
    return got


def read_and_store(database: Database, *logs: CallLog, told: CallLog | None = None) -> Stored:
    """Stores readings, each of a claim of its own; returns what is stored then."""
    for log in logs:
        stored = write(database, store_reading, claim(database), log, told=told)
    return stored


def stored_call(database: Database) -> Call:
    call = read(database, calls.get, LOCATION, "call-1")
    assert call is not None
    return call


def keys_of(database: Database) -> list[str]:
    return [each.action_key for each in read(database, calls.actions_of, LOCATION, "call-1")]


# The first reading


def test_a_first_reading_is_stored_with_every_column_and_action(database: Database) -> None:
    at_claim = claim(database)
    stored = write(database, store_reading, at_claim, FULL, time_zone="Asia/Kathmandu")
    call = stored_call(database)
    assert (call.read_at, call.read_from, call.reading_fence) == (at_claim.claimed_at, Source.FETCH, at_claim.fence)
    assert (call.local_day, call.local_hour) == (date(2024, 5, 6), 12)
    assert call.stored_at == call.settled_at
    assert stored.stored_at == at_claim.claimed_at
    assert (stored.is_new, stored.settled, stored.was_settled) == (True, True, False)
    assert at_claim.request == Request(
        call.first_heard_at, call.announced_at, call.origin, wants_follow_ups=call.wants_follow_ups
    )
    assert call.call_log == replace(FULL, actions=())
    actions = read(database, calls.actions_of, LOCATION, "call-1")
    assert [key for key, _ in stored.keyed_actions] == ["id-id-a", "id-id-b"] == [each.action_key for each in actions]
    assert ([each.position for each in actions], [each.action for each in actions]) == ([0, 1], list(FULL.actions))


def test_a_time_zone_that_nobody_knows_counts_as_utc(database: Database) -> None:
    write(database, store_reading, claim(database), FULL, time_zone="Middle-earth/Shire")
    assert (stored_call(database).local_day, stored_call(database).local_hour) == (date(2024, 5, 6), 7)


@pytest.mark.parametrize(
    ("source", "ended_ago", "settled"),
    [(Source.FETCH, 3, False), (Source.LIST, 1, False), (Source.LIST, 3, True)],
)
def test_a_new_call_without_its_words_is_settled_by_a_list_alone_and_long_after_its_end(
    database: Database, source: Source, ended_ago: int, settled: bool
) -> None:
    assert timedelta(hours=1) < SETTLED_AS_IT_IS_AFTER < timedelta(hours=3)
    log = replace(UNSETTLED, source=source, started_at=datetime.now(UTC) - timedelta(hours=ended_ago))
    assert read_and_store(database, log).settled is settled
    assert (stored_call(database).settled_at is not None) is settled


DOCUMENT = {"n": 10**30, "f": 1e-300, "text": "\u2028 é \U0001f600 \\u0000", "": None, "list": [[], {}, True]}


def test_odd_but_storable_documents_come_back_as_they_went_in(database: Database) -> None:
    read_and_store(database, replace(FULL, document=DOCUMENT, transcript="x" * 300_000))
    call = stored_call(database)
    assert call.document == DOCUMENT
    assert len(call.transcript or "") == 300_000


# A newer reading


def test_a_later_reading_replaces_what_it_tells(database: Database) -> None:
    read_and_store(database, UNSETTLED)
    first = stored_call(database)
    stored = read_and_store(database, replace(FULL, summary="Booked for Monday."))
    call = stored_call(database)
    assert (stored.is_new, stored.was_settled, stored.settled) == (False, False, True)
    assert (call.summary, call.stored_at, first.settled_at) == ("Booked for Monday.", first.stored_at, None)
    assert call.settled_at is not None
    assert {getattr(call, name) for name in (*OPTIONAL_PARTS.values(), "actions_from")} == {Source.FETCH}


@pytest.mark.parametrize("source", [Source.FETCH, Source.LIST])
def test_what_is_absent_or_empty_erases_nothing(database: Database, source: Source) -> None:
    read_and_store(database, FULL)
    call, actions = stored_call(database), read(database, calls.actions_of, LOCATION, "call-1")
    read_and_store(database, call_log(source=source, duration_seconds=61.5))
    after = stored_call(database)
    assert {name for name, value in asdict(call).items() if value != asdict(after)[name]} <= OF_A_READING
    assert {getattr(after, name) for name in OPTIONAL_PARTS.values()} == {Source.FETCH}
    assert read(database, calls.actions_of, LOCATION, "call-1") == actions


def test_a_trial_call_stays_one_when_a_reading_does_not_say(database: Database) -> None:
    read_and_store(database, replace(FULL, trial_call=True), FULL)
    assert stored_call(database).trial_call is True


def test_false_and_zero_are_values(database: Database) -> None:
    values = {"agent_handoff": False, "agent_deleted": False, "duration_seconds": 0.0}
    read_and_store(database, replace(FULL, agent_deleted=True), replace(FULL, **values))  # type: ignore[arg-type]
    call = stored_call(database)
    assert (call.agent_handoff, call.agent_deleted, call.duration_seconds) == (False, False, 0.0)


def test_a_reading_from_a_list_keeps_what_a_list_cannot_carry(database: Database) -> None:
    from_list = call_log(source=Source.LIST, summary="Longer summary.", document={"cost": 1})
    read_and_store(database, FULL, from_list)
    call = stored_call(database)
    assert (call.summary, call.extracted_data) == ("Longer summary.", FULL.extracted_data)
    assert call.document == {"unknown": {"deep": [1, 2]}, "cost": 1}
    assert (call.read_from, call.summary_from, call.transcript_from) == (Source.LIST, Source.LIST, Source.LIST)
    assert call.extracted_data_from is Source.FETCH


def test_what_no_source_has_brought_yet_is_told_from_what_is_absent(database: Database) -> None:
    read_and_store(database, replace(FULL, source=Source.LIST, extracted_data=None))
    assert stored_call(database).extracted_data_from is None, "not looked at yet"
    read_and_store(database, replace(FULL, extracted_data=None))
    assert stored_call(database).extracted_data_from is Source.FETCH, "known to be absent"


def test_what_only_a_notification_told_fills_what_the_log_lacks_until_the_log_has_it(database: Database) -> None:
    told = replace(FULL, source=Source.NOTIFICATION, summary="Told.", extracted_data={"email": "a@example.com"})
    lacking = replace(FULL, contact_id=None, summary="", extracted_data=None)
    stored = read_and_store(database, lacking, told=told)
    call = stored_call(database)
    assert (call.contact_id, call.summary, call.extracted_data) == (FULL.contact_id, "Told.", told.extracted_data)
    sources = (call.contact_from, call.summary_from, call.transcript_from, call.extracted_data_from)
    assert sources == (Source.NOTIFICATION, Source.NOTIFICATION, Source.FETCH, Source.NOTIFICATION)
    assert not stored.settled, "the log itself lacks its words"
    read_and_store(database, lacking)
    assert stored_call(database).summary == "Told.", "the notification may be emptied by then"
    assert read_and_store(database, FULL).settled
    call = stored_call(database)
    assert (call.summary, call.summary_from) == (FULL.summary, Source.FETCH)


# Which reading is newer


@pytest.mark.parametrize("first", [Source.FETCH, Source.LIST])
@pytest.mark.parametrize("second", [Source.FETCH, Source.LIST])
@pytest.mark.parametrize("newer", [FULL, UNSETTLED])
def test_an_older_claims_reading_is_not_stored_over_a_newer_one_and_its_work_ends_only_if_that_is_settled(
    database: Database, first: Source, second: Source, newer: CallLog
) -> None:
    older = claim_of(database, first)
    write(database, store_as(second), claim_of(database, second), replace(newer, source=second))
    before, actions = stored_call(database), keys_of(database)
    other = call_log(source=first, summary="old", transcript="old", actions=(Action("KNOWLEDGE_BASE"),))
    stored = write(database, store_as(first), older, other)
    after = replace(stored_call(database), announced_at=before.announced_at)  # what was heard is no reading
    assert (after, keys_of(database)) == (before, actions)
    assert (stored.settled, stored.is_new) == (before.settled_at is not None, False)
    assert sorted(key for key, _ in stored.keyed_actions) == sorted(actions)


def claim_of(database: Database, source: Source) -> Claim:
    """Of the call's own work, or of the window that lists it."""
    if source is Source.FETCH:
        return claim(database)
    key = windows.work_key(LOCATION, "regular")
    write(database, lifecycle.take_from_worker, key)
    write(database, lifecycle.request, key, lane=Lane.RECONCILED)
    got = claim_work(database, key)
    assert got is not None
    return got


def store_as(source: Source) -> Any:
    """A page brings how its calls became known by itself; a claim of a call has it, or the call is stored."""

    def of_list(connection: Any, claim: Claim, log: CallLog) -> Stored:
        heard = Request(claim.claimed_at, None, calls.Origin.RECONCILE, wants_follow_ups=True)
        return store_reading(connection, replace(claim, request=heard), log)

    return of_list if source is Source.LIST else store_reading


def test_the_same_reading_stored_again_after_a_lost_answer_changes_nothing(database: Database) -> None:
    at_claim = claim(database)
    write(database, store_reading, at_claim, FULL)
    before = stored_call(database)
    stored = write(database, store_reading, at_claim, FULL)
    assert (stored_call(database), stored.settled) == (before, True)


@on_postgresql
def test_an_older_reading_that_waits_for_a_newer_one_to_be_stored_sees_it(database: Database) -> None:
    read_and_store(database, UNSETTLED)
    write(database, lifecycle.remove, KEY)  # what is asked for from now on is the reading of a stored call
    older, newer = claim(database), claim(database)
    other = replace(FULL, summary="old", actions=(Action("KNOWLEDGE_BASE"), *FULL.actions))
    with database.transaction() as connection:
        store_reading(connection, newer, FULL)
        with meanwhile(lambda: write(database, store_reading, older, other)):
            until_somebody_waits(database)
            connection.commit()
    call = stored_call(database)
    assert (call.summary, call.reading_fence) == (FULL.summary, newer.fence)
    assert keys_of(database) == ["id-id-a", "id-id-b"]


@on_postgresql
@pytest.mark.parametrize("known", [True, False])
def test_who_store_the_same_calls_wait_for_each_other_and_never_in_a_circle(database: Database, known: bool) -> None:
    """One page lists them newest first, another oldest first."""
    ids = ("call-1", "call-2", "call-3")
    if known:
        write(database, page, claim_of(database, Source.LIST), *ids, known=False)
    one, other = (claim_of(database, Source.LIST) for _ in range(2))
    with database.transaction() as connection:
        page(connection, one, "call-1", known=known)
        with meanwhile(lambda: write(database, page, other, *ids[::-1], known=known)):
            until_somebody_waits(database)
            for call_id in ids[::-1]:
                page(connection, one, call_id, known=known)
            connection.commit()


def page(connection: Any, claim: Claim, *call_ids: str, known: bool) -> Mapping[str, Stored]:
    heard = None if known else Request(claim.claimed_at, None, calls.Origin.RECONCILE, wants_follow_ups=True)
    readings = [Reading(replace(FULL, call_id=call_id), heard) for call_id in call_ids]
    read = ReadByClaim(LOCATION, readings, fence=claim.fence, read_at=claim.claimed_at, time_zone="UTC")
    return storing.store(connection, [read])[0]


# The work of listed calls


@pytest.mark.parametrize("state", ["waiting", "dead", "leased", "requested since", "settled before"])
def test_a_page_ends_the_work_of_what_it_settled_unless_that_is_leased_or_requested_since(
    database: Database, state: str
) -> None:
    if state == "settled before":
        read_and_store(database, FULL)
        write(database, lifecycle.take_from_worker, KEY)  # a person has asked for it
    elif state == "leased":
        claimed_call(database)
    else:
        announce(database, "call-1")
    if state == "dead":
        write(database, lifecycle.dead_letter, claim(database), cause="not_found")
    before = read(database, open_work.of_subjects, calls.CALL, LOCATION, ["call-1"])
    if state == "requested since":
        announce(database, "call-1")
    window_claim = claim_of(database, Source.LIST)
    with database.transaction() as connection:
        stored = page(connection, window_claim, "call-1", known=state == "settled before")
        listed_calls.end_work(connection, LOCATION, stored, before, lane=Lane.RECONCILED, reread_seconds=10)
    ended = state in ("waiting", "dead")
    assert (read(database, open_work.get, KEY) is None) is ended


def test_a_page_gives_work_to_what_it_stored_unsettled(database: Database) -> None:
    stored = {"call-1": read_and_store(database, UNSETTLED)}
    write(database, lifecycle.remove, KEY)
    write(database, listed_calls.end_work, LOCATION, stored, {}, lane=Lane.RECONCILED, reread_seconds=10)
    work = read(database, open_work.get, KEY)
    assert work is not None
    assert (work.lane, work.due_at is not None) == (Lane.RECONCILED, True)


# Actions


def test_actions_that_a_newer_log_lacks_stay_and_those_it_adds_come_to_them(database: Database) -> None:
    newer = replace(FULL, actions=(Action("SMS", "another", "id-c"), FULL.actions[1]))
    stored = read_and_store(database, FULL, newer)
    assert [key for key, _ in stored.keyed_actions] == ["id-id-c", "id-id-b", "id-id-a"] == keys_of(database)


def test_an_action_keeps_what_a_newer_log_does_not_say_of_it(database: Database) -> None:
    read_and_store(database, FULL, replace(FULL, actions=(Action("SMS", "", "id-a", {}, None, None),)))
    kept = dict(read(database, calls.keyed_actions, LOCATION, "call-1"))["id-id-a"]
    assert kept == FULL.actions[0]


def test_alike_actions_keep_their_keys_when_the_log_is_read_again(database: Database) -> None:
    alike, other = Action("SMS", "text"), Action("CALL_TRANSFER", "desk")
    shorter = call_log(actions=(other, other, alike))
    first = read_and_store(database, call_log(actions=(alike, alike)), shorter)
    again = read_and_store(database, shorter)
    keys = [key for key, _ in first.keyed_actions]
    assert [key for key, _ in again.keyed_actions] == keys
    assert keys[2:] == ["sms", "sms-2"]


_actions = st.builds(
    Action,
    action_type=st.sampled_from(["SMS", "CALL_TRANSFER"]),
    name=st.sampled_from(["", "a"]),
    action_id=st.sampled_from([None, "x", "y"]),
    executed_at=st.sampled_from([None, STARTED_AT, STARTED_AT + timedelta(hours=1)]),
)


@given(st.lists(st.lists(_actions, max_size=4), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_readings_no_stored_action_is_lost_and_no_key_is_given_twice(
    database: Database, readings: list[list[Action]]
) -> None:
    with database.transaction() as connection:
        connection.execute(calls.calls_table.delete())
    known: set[str] = set()
    for actions in readings:
        stored = read_and_store(database, call_log(actions=tuple(actions)))
        keys = [key for key, _ in stored.keyed_actions]
        assert len(set(keys)) == len(keys)
        assert known <= set(keys)
        assert keys == keys_of(database)
        known = set(keys)
