"""`leadway-calls calls`, `follow-ups`, `notifications` and `rejections`: what is there, for people and for programs."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from models.accounts import accounts
from models.database import Database
from models.intake import rejection_counts
from models.intake.notifications import NotificationStatus
from models.intake.reasons import Reason
from models.reports import call_list
from tests.support.rows import (
    LOCATION,
    SUMMARY,
    TRANSCRIPT,
    arrive,
    booked_call,
    call_log,
    dead_call,
    dead_follow_up,
    done_follow_up,
    notify,
    only_follow_up,
    store,
    write,
)
from tests.workers.cli.conftest import Commands

OTHER = "AnotherLocation00001"
ALL = {"call-written", "call-given-up", "call-dead", "call-elsewhere"}
NUMBER = "+34600000000"
"""Of `booked_call`."""


@pytest.fixture
def known(served: Database) -> Database:
    store(served, booked_call("call-written"))
    done_follow_up(served, "call-written")
    store(served, booked_call("call-given-up"))
    dead_follow_up(served, "call-given-up")
    dead_call(served, "call-dead")
    write(served, accounts.add, OTHER)
    store(served, call_log("call-elsewhere", summary="Una limpieza dental"), location_id=OTHER)
    return served


def told(run: Commands, *words: str) -> Any:
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ("", ALL),
        (f"--location {OTHER}", {"call-elsewhere"}),
        ("--location AnotherLo", {"call-elsewhere"}),
        ("--state dead", {"call-dead"}),
        ("--follow-up done", {"call-written"}),
        ("--action APPOINTMENT_BOOKING --follow-up dead", {"call-given-up"}),
        ("--agent agent-1 --no-trial", {"call-written", "call-given-up"}),
        ("--trial", set()),
        ("--direction outbound", set()),
        ("--since 2024-01-01", ALL),
        ("--until 2024-01-01", set()),
    ],
)
def test_calls_are_listed_by_filters(run: Commands, known: Database, filters: str, found: set[str]) -> None:
    words = ("calls", "list", *filters.split())
    assert {each["call_id"] for each in told(run, *words)["calls"]} == found
    printed = run(*words, COLUMNS="300").output
    assert {
        name for name in ("call-written", "call-given-up", "call-dead", "call-elsewhere") if name in printed
    } == found


def test_a_list_tells_how_each_call_and_each_follow_up_stands(run: Commands, known: Database) -> None:
    printed = run("calls", "list", COLUMNS="300").output
    assert re.search(r"call-dead .* dead: not_found", printed)
    assert re.search(r"call-given-up .* complete +APPOINTMENT_BOOKING +note dead: cannot_be_worded", printed)
    assert re.search(r"call-written .* note done", printed)
    [given_up] = told(run, "calls", "list", "--follow-up", "dead")["calls"]
    [owed] = given_up["follow_ups"]
    assert (owed["state"], owed["dead_cause"], owed["last_error"]) == ("dead", "cannot_be_worded", "no rule")


@pytest.mark.parametrize(
    "words",
    [
        ("calls", "list"), ("calls", "search", "call-written"), ("calls", "show", "call-written"),
        ("call", "call-written"), ("follow-ups", "list"), ("notifications", "list"), ("rejections",),
    ],
)  # fmt: skip
def test_what_people_said_is_told_only_when_asked_for(run: Commands, known: Database, words: tuple[str, ...]) -> None:
    for spoken in (SUMMARY, TRANSCRIPT, NUMBER, "Jane Roe"):
        assert spoken not in run(*words, COLUMNS="300").output
        assert spoken not in run(*words, "--json").output
    if words[0] in ("calls", "call"):
        assert SUMMARY in run(*words, "--words", COLUMNS="300").output
        assert NUMBER in run(*words, "--words", COLUMNS="300").output
        assert SUMMARY in run(*words, "--words", "--json").output


def test_pages_are_turned_by_the_cursor_that_a_page_ends_with(
    run: Commands, known: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_list, "LOOKED_THROUGH", 1)
    seen, more = list[str](), list[str]()
    for _ in range(5):
        result = run("calls", "list", "--limit", "2", *more, COLUMNS="300")
        seen += re.findall(r"call-[\w-]+", result.stdout)
        found = re.search(r"--after '([^']+)'", result.output)
        if found is None:
            break
        more = ["--after", found.group(1)]
    assert seen == ["call-elsewhere", "call-dead", "call-given-up", "call-written"]
    assert told(run, "calls", "list", "--limit", "2")["next"] is not None
    assert told(run, "calls", "list", "--limit", "4")["next"] is None
    assert [each["call_id"] for each in told(run, "calls", "list", "--follow-up", "done")["calls"]] == ["call-written"]
    assert run("calls", "list", "--after", "nonsense").exit_code == 2


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ([NUMBER], {"call-written", "call-given-up"}),
        (["0034", "600", "000", "000"], {"call-written", "call-given-up"}),
        (["contact-1"], {"call-written", "call-given-up"}),
        (["call-written"], {"call-written"}),
        (["call-g"], {"call-given-up"}),
        (["dental", "LIMPIEZA"], {"call-elsewhere"}),
        (["nobody"], set()),
    ],
)
def test_calls_are_found_by_what_a_customer_knows(
    run: Commands, known: Database, typed: list[str], found: set[str]
) -> None:
    assert {each["call_id"] for each in told(run, "calls", "search", *typed)["calls"]} == found
    if not found:
        assert "No call is known by that." in run("calls", "search", *typed).output


def test_a_call_is_found_by_the_reference_in_its_note(run: Commands, known: Database) -> None:
    reference = only_follow_up(known, "call-written").follow_up_id
    for typed in (f"Ref: {reference}", reference[:8]):
        assert [each["call_id"] for each in told(run, "calls", "search", typed)["calls"]] == ["call-written"]


def test_ids_may_be_short_where_they_are_unique(run: Commands, known: Database) -> None:
    assert "Call call-written" in run("calls", "show", "call-w").output
    ambiguous = run("calls", "show", "call-d")
    assert ambiguous.exit_code == 0, "one call's alone begins so"
    notify(known, "call-dead-too")
    assert run("calls", "show", "call-dead").exit_code == 0, "a whole id is meant as it is"
    ambiguous = run("calls", "show", "call-de")
    assert ambiguous.exit_code == 1
    assert "call-dead, call-dead-too" in " ".join(ambiguous.output.split())
    assert run("calls", "show", "call-").exit_code == 1, "too short to mean one"
    reference = only_follow_up(known, "call-given-up").follow_up_id
    assert f"Follow-up {reference}" in run("follow-up", reference[:8]).output


def test_a_call_tells_programs_everything_about_itself(run: Commands, known: Database) -> None:
    found = told(run, "calls", "show", "call-given-up")
    assert (found["state"], found["location_id"], found["why_no_follow_up"]) == ("complete", LOCATION, None)
    [owed] = found["follow_ups"]
    assert owed["why"] == "It could not be worded: a rule or a template is not as it should be."
    assert f"replay follow-up {owed['follow_up_id']}" in owed["what_to_do"]
    assert [each["outcome"] for each in found["attempts_ended"]] == ["done", "dead"]
    assert [each["status"] for each in found["notifications"]] == ["accepted"]
    dead = told(run, "calls", "show", "call-dead")
    assert (dead["why"], dead["dead_cause"]) == ("Leadway does not find it.", "not_found")
    assert [(each["http_status"], each["trace_id"]) for each in dead["attempts_ended"]] == [(404, "trace-7")]


@pytest.mark.parametrize(
    ("come_about", "why"),
    [
        (lambda database: notify(database, "call-1"), "none yet: the log comes first"),
        (
            lambda database: store(database, call_log("call-1", duration_seconds=9.0)),
            "the log is not settled",
        ),
        (lambda database: store(database, call_log("call-1")), "none: the agent carried out no action, and no rule"),
    ],
)
def test_a_call_without_a_note_says_why(
    run: Commands, served: Database, come_about: Callable[[Database], object], why: str
) -> None:
    come_about(served)
    assert why in run("calls", "show", "call-1", COLUMNS="300").output
    assert why in told(run, "calls", "show", "call-1")["why_no_follow_up"]


def test_follow_ups_are_listed_by_their_state_with_the_call_that_asked_for_them(run: Commands, known: Database) -> None:
    listed = told(run, "follow-ups", "list")["follow_ups"]
    assert {each["call_id"] for each in listed} == {"call-written", "call-given-up"}
    [dead] = told(run, "follow-ups", "list", "--follow-up", "dead")["follow_ups"]
    assert (dead["call_id"], dead["state"], dead["dead_cause"]) == ("call-given-up", "dead", "cannot_be_worded")
    printed = run("follow-ups", "list", "--follow-up", "done", COLUMNS="300").output
    assert re.search(r"note done +call-written", printed)
    assert "call-given-up" not in printed
    assert "No follow-up is like that." in run("follow-ups", "list", "--follow-up", "unclear").output
    assert run("follow-ups", "list", "--follow-up", "none").exit_code == 2


def test_notifications_are_listed_with_what_became_of_them(run: Commands, known: Database) -> None:
    lost = {"status": NotificationStatus.UNRESOLVED, "reason": "call_id_missing", "contact_id": "c", "call_id": None}
    arrive(known, "webhook:lost", **lost)
    notify(known, "call-written")
    [unresolved] = told(run, "notifications", "list", "--status", "unresolved")["notifications"]
    assert unresolved["why"].startswith("It holds no call id.")
    [of_call] = told(run, "notifications", "list", "--call", "call-w")["notifications"]
    assert (of_call["repeats"], of_call["found_by"]) == (1, "id")
    assert "It holds no call id." in run("notifications", "list", COLUMNS="300").output
    for words in ([], ["--location", LOCATION]):
        whole = told(run, "notifications", "list", *words)["notifications"]
        seen, more = [], list[str]()
        for _ in range(len(whole)):
            page = told(run, "notifications", "list", *words, "--limit", "2", *more)
            seen += page["notifications"]
            if page["next"] is None:
                break
            more = ["--after", page["next"]]
        assert seen == whole
    assert told(run, "notifications", "list", "--location", LOCATION, "--until", "2024-01-01")["notifications"] == []


def test_what_was_refused_at_the_door_is_told_by_reason_in_words(run: Commands, served: Database) -> None:
    assert "Nothing was refused or ignored since" in run("rejections").output
    trace = {"at": "now", "bytes": 3, "content_type": "", "credentials": []}
    write(served, rejection_counts.count, Reason.INTAKE_SECRET_UNKNOWN, number=3, trace=trace)
    write(served, rejection_counts.count, Reason.EVENT_TYPE_NOT_WANTED, number=1, trace=trace)
    printed = run("rejections", COLUMNS="300").output
    assert re.search(r"intake_secret_unknown +refused +3 .* mistyped, or replaced by a newer one", printed)
    assert re.search(r"event_type_not_wanted +ignored +1 ", printed)
    found = told(run, "rejections", "--since", f"{datetime.now(UTC):%Y-%m-%d}")
    assert {each["reason"]: each["number"] for each in found["rejections"]} == {
        "intake_secret_unknown": 3, "event_type_not_wanted": 1,
    }  # fmt: skip
