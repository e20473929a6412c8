"""`leadway-calls call`: what happened to a call, from its notification to its note."""

from models.accounts import accounts
from models.calls import calls
from models.database import Database
from tests.support.rows import (
    SECRET,
    SUMMARY,
    TOKEN,
    TRANSCRIPT,
    booked_call,
    dead_call,
    done_follow_up,
    notify,
    store,
    write,
)
from tests.workers.cli.conftest import Commands

OTHER = "AnotherLocation00001"


def _in_order(text: str, *parts: str) -> bool:
    place = 0
    for part in parts:
        place = text.find(part, place) + 1
        if place == 0:
            return False
    return True


def test_a_call_is_told_from_its_notification_to_its_note(run: Commands, served: Database) -> None:
    store(served, booked_call("call-1"))
    follow_up_id = done_follow_up(served, "call-1")
    result = run("call", "call-1")
    assert result.exit_code == 0
    for what in ("log stored", "fetch: done"):  # at one moment
        assert _in_order(
            result.output, "heard of, by notification", what, "done", "Actions", "APPOINTMENT", "Follow-ups",
            follow_up_id, "note-42",
        )  # fmt: skip
    assert "notification accepted (marketplace, by ed25519)" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_what_was_said_is_told_only_when_asked_for(run: Commands, served: Database) -> None:
    store(served, booked_call("call-1"))
    silent = run("call", "call-1").output
    assert SUMMARY not in silent
    assert TRANSCRIPT not in silent
    assert "+34600000000" not in silent
    told = run("call", "call-1", "--transcript").output
    assert SUMMARY in told
    assert TRANSCRIPT in told
    assert TOKEN not in run.printed
    assert SECRET not in run.printed


def test_a_dead_call_is_told_with_its_cause_and_the_way_back(run: Commands, served: Database) -> None:
    dead_call(served, "call-1")
    output = run("call", "call-1").output
    assert "dead: not_found" in output
    assert "HTTP 404" in output
    assert "trace trace-7" in output
    assert "leadway-calls replay call call-1" in output


def test_a_call_that_nobody_knows_and_one_that_two_accounts_have(run: Commands, served: Database) -> None:
    assert run("call", "call-1").exit_code == 1
    write(served, accounts.add, OTHER)
    notify(served, "call-1")
    write(served, calls.announce, OTHER, "call-1")
    ambiguous = run("call", "call-1")
    assert ambiguous.exit_code == 1
    assert "--location" in ambiguous.output
    assert run("call", "call-1", "--location", OTHER).exit_code == 0
    assert run("replay", "call-1").exit_code == 1
