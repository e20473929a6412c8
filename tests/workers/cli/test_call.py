"""`leadway-calls call`: what happened to a call, from its notification to its note."""

from collections.abc import Callable

import pytest

from models.accounts import accounts, pauses
from models.accounts.pauses import PauseCause
from models.calls import calls
from models.database import Database
from tests.support.rows import (
    LOCATION,
    SECRET,
    SUMMARY,
    TOKEN,
    TRANSCRIPT,
    booked_call,
    call_log,
    claimed_call,
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


def _replayed(served: Database) -> None:
    store(served, booked_call("call-1"))
    write(served, calls.replay, LOCATION, "call-1")


@pytest.mark.parametrize(
    ("come_about", "status", "next_"),
    [
        (lambda served: notify(served, "call-1"), "pending", "read at 20"),
        (claimed_call, "running", "it is being read; should that break off, again at 20"),
        (lambda served: store(served, booked_call("call-1")), "complete", "nothing is to be read"),
        (lambda served: store(served, call_log("call-1", duration_seconds=9.0)), "pending", "the log is not settled"),
        (_replayed, "pending", "because it was asked for again"),
        (lambda served: dead_call(served, "call-1"), "dead: not_found", "nothing, unless it is notified of or listed"),
        (lambda served: dead_call(served, "call-1", cause="poison"), "dead: poison", "nothing; `leadway-calls replay"),
    ],
)
def test_how_a_call_stands_and_what_is_next(
    run: Commands, served: Database, come_about: Callable[[Database], object], status: str, next_: str
) -> None:
    come_about(served)
    output = run("call", "call-1", COLUMNS="400").output
    assert f" {status}\n" in output
    assert next_ in output


def test_a_dead_call_is_told_with_the_answer_that_ended_it_and_the_way_back(run: Commands, served: Database) -> None:
    dead_call(served, "call-1")
    output = run("call", "call-1").output
    assert "(not_found, HTTP 404, " in output
    assert "trace trace-7" in output
    assert "replay call call-1" in output


@pytest.mark.parametrize(("work", "told"), [("all", 2), ("call", 1), ("follow_up", 1)])
def test_work_that_a_pause_holds_back_says_so(run: Commands, served: Database, work: str, told: int) -> None:
    _replayed(served)
    write(served, pauses.pause, LOCATION, cause=PauseCause.SCOPE, detail="Add it.", work=work)
    assert run("call", "call-1", COLUMNS="400").output.count("but the account is paused by scope") == told


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
