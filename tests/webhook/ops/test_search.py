"""Finding a call by what a customer knows: a number, an id, the reference in a note."""

from datetime import UTC, datetime

import pytest

from models.accounts import accounts
from models.database import Database
from models.reports import search
from tests.support.rows import (
    LOCATION,
    booked_call,
    call_log,
    notify,
    only_follow_up,
    read,
    store,
    write,
)
from tests.webhook.ops.conftest import Pages


@pytest.fixture
def known(database: Database) -> Database:
    store(
        database, call_log("call-1", from_number="+34600111222", contact_id="contact-1", started_at=datetime.now(UTC))
    )
    store(database, call_log("call-2", from_number="+34600111222", started_at=datetime.now(UTC)))
    store(database, booked_call("booked"))
    write(database, accounts.add, "other")
    store(database, call_log("call-1", from_number="+4930123456"), location_id="other")
    notify(database, "not-stored-yet")
    return database


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("+34600111222", {"call-1", "call-2"}),
        (" +34 600 111 222 ", {"call-1", "call-2"}),
        ("0034600111222", {"call-1", "call-2"}),
        ("34600111222", {"call-1", "call-2"}),
        ("(+34) 600-111-222", {"call-1", "call-2"}),
        ("+4930123456", {"call-1"}),
        ("call-2", {"call-2"}),
        ("not-stored-yet", {"not-stored-yet"}),
        ("contact-1", {"call-1", "booked"}),
        ("600111", set()),
        ("%", set()),
        ("", set()),
        ("x" * 5000, set()),
        ("\x00", set()),
    ],
)
def test_what_is_typed_finds_its_calls(known: Database, typed: str, found: set[str]) -> None:
    assert {call_id for _, call_id in read(known, search.matching, typed)} == found


def test_a_call_id_of_two_accounts_finds_both(known: Database) -> None:
    assert set(read(known, search.matching, "call-1")) == {(LOCATION, "call-1"), ("other", "call-1")}


def test_a_reference_is_found_in_the_line_that_stands_in_the_note(known: Database) -> None:
    reference = only_follow_up(known, "booked").follow_up_id
    assert read(known, search.matching, f"Ref: {reference.upper()} (do not delete)") == [(LOCATION, "booked")]


def test_one_call_that_is_found_is_shown_several_are_listed_and_none_is_said(ops: Pages, known: Database) -> None:
    answer = ops.get("/ops/?find=call-2")
    assert (answer.status_code, answer.headers["Location"]) == (303, f"/ops/calls/{LOCATION}/call-2")
    listed = ops.text("/ops/?find=%2B34600111222")
    assert listed.count('<td class="time"><a') == 2
    assert 'value="+34600111222"' in listed
    assert "No call is known by that." in ops.text("/ops/?find=nobody")
