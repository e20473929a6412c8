"""`leadway-calls call`, `follow-up` and `replay`: what happened, and what a person can do about it."""

from pathlib import Path

import pytest

from models.accounts import accounts
from models.calls import calls
from models.calls.calls import CALL
from models.follow_ups import follow_ups
from models.work import lifecycle
from models.work.work_rows import WorkStatus
from tests.workers.cli.conftest import LOCATION, SECRET, SUMMARY, TOKEN, TRANSCRIPT, Commands, Held

OTHER = "AnotherLocation00001"
EVERY_BOOKING_IS_TAGGED = """
[[rule]]
id = "booking-tag"
action = "APPOINTMENT_BOOKING"
kind = "tag"
tags = ["booked by phone"]
"""


def _in_order(text: str, *parts: str) -> bool:
    place = 0
    for part in parts:
        place = text.find(part, place) + 1
        if place == 0:
            return False
    return True


def test_a_call_is_told_from_its_notification_to_its_note(run: Commands, held: Held) -> None:
    held.store("call-1")
    follow_up_id = held.follow_up_done("call-1")
    result = run("call", "call-1")
    assert result.exit_code == 0
    assert _in_order(
        result.output, "heard of, by notification", "log stored", "fetch: done", "done", "Actions", "APPOINTMENT",
        "Follow-ups", follow_up_id, "note-42",
    )  # fmt: skip
    assert "notification accepted (marketplace, by ed25519)" in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_what_was_said_is_told_only_when_asked_for(run: Commands, held: Held) -> None:
    held.store("call-1")
    silent = run("call", "call-1").output
    assert SUMMARY not in silent
    assert TRANSCRIPT not in silent
    assert "+34600000000" not in silent
    told = run("call", "call-1", "--transcript").output
    assert SUMMARY in told
    assert TRANSCRIPT in told
    assert TOKEN not in run.printed
    assert SECRET not in run.printed


def test_a_dead_call_is_told_with_its_cause_and_the_way_back(run: Commands, held: Held) -> None:
    held.give_up_call("call-1")
    output = run("call", "call-1").output
    assert "dead: not_found" in output
    assert "HTTP 404" in output
    assert "trace trace-7" in output
    assert "leadway-calls replay call call-1" in output


def test_a_call_that_nobody_knows_and_one_that_two_accounts_have(run: Commands, held: Held) -> None:
    assert run("call", "call-1").exit_code == 1
    held.do(accounts.add, OTHER)
    held.announce("call-1")
    held.do(calls.announce, OTHER, "call-1")
    ambiguous = run("call", "call-1")
    assert ambiguous.exit_code == 1
    assert "--location" in ambiguous.output
    assert run("call", "call-1", "--location", OTHER).exit_code == 0
    assert run("replay", "call-1").exit_code == 1


@pytest.mark.parametrize("words", [("replay", "call-1"), ("replay", "call", "call-1")])
def test_a_replayed_call_is_due_whatever_its_status(run: Commands, held: Held, words: tuple[str, ...]) -> None:
    held.store("call-1")
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert held.row("call-1")["status"] == WorkStatus.PENDING
    assert held.claim(CALL, LOCATION, "call-1")
    assert run(*words).exit_code == 0
    assert held.row("call-1")["replayed"]


def test_all_dead_calls_are_replayed_of_one_account_or_of_all(run: Commands, held: Held) -> None:
    for name in ("call-1", "call-2"):
        held.give_up_call(name, cause="poison")
    held.do(accounts.add, OTHER)
    held.do(calls.announce, OTHER, "call-3")
    held.do(lifecycle.dead_letter, held.claim(CALL, OTHER, "call-3"), cause="not_found")
    assert "1 dead call " in run("replay", "call", "--dead", "--location", OTHER).output
    assert held.row("call-1")["status"] == WorkStatus.DEAD
    assert "2 dead calls " in run("replay", "--dead").output
    assert held.row("call-1")["status"] == WorkStatus.PENDING
    assert run("replay", "call", "--dead", "--location", "nobody").exit_code == 1
    assert run("replay", "call").exit_code == 2
    assert run("replay", "call", "call-1", "--dead").exit_code == 2


def test_planning_again_adds_what_todays_rules_ask_for_and_repeats_nothing(
    run: Commands, held: Held, tmp_path: Path
) -> None:
    held.store("call-1")
    note = held.follow_up_done("call-1")
    rules = tmp_path / "rules.toml"
    rules.write_text(EVERY_BOOKING_IS_TAGGED)
    assert "nothing that is not planned already" in run("replay", "plan", "call-1").output
    shown = run("replay", "plan", "call-1", "--dry-run", LEADWAY_RULES_FILE=str(rules))
    assert "booking-tag" in shown.output
    assert len(_follow_ups(held)) == 1
    planned = run("replay", "plan", "call-1", LEADWAY_RULES_FILE=str(rules))
    assert "1 follow-up will be sent now" in planned.output
    assert _follow_ups(held) == {note: "done"} | {each: "pending" for each in _follow_ups(held) if each != note}
    assert len(_follow_ups(held)) == 2
    assert "nothing that is not" in run("replay", "plan", "call-1", LEADWAY_RULES_FILE=str(rules)).output


def test_an_old_call_is_planned_only_when_a_person_insists(run: Commands, held: Held, tmp_path: Path) -> None:
    held.store("call-1")
    held.do(accounts.add, LOCATION, follow_up_age_hours=0)
    rules = tmp_path / "rules.toml"
    rules.write_text(EVERY_BOOKING_IS_TAGGED)
    refused = run("replay", "plan", "call-1", LEADWAY_RULES_FILE=str(rules))
    assert "too_old" in refused.output
    assert len(_follow_ups(held)) == 1
    assert run("replay", "plan", "call-1", "--even-if-old", LEADWAY_RULES_FILE=str(rules)).exit_code == 0
    assert sorted(_follow_ups(held).values()) == ["pending", "pending"]


def test_what_was_skipped_is_sent_when_its_reason_is_gone(run: Commands, held: Held) -> None:
    held.store("call-1", contact_id=None)
    assert list(_follow_ups(held).values()) == ["skipped"]
    assert "no_contact" in run("replay", "plan", "call-1").output
    with held.database.transaction() as connection:
        connection.execute(calls.calls_table.update().values(contact_id="contact-9"))
    assert "1 follow-up will be sent" in run("replay", "plan", "call-1").output
    row = held.follow_up("call-1")
    assert (row["status"], row["contact_id"], row["skip_reason"]) == ("pending", "contact-9", None)


def test_a_call_that_is_not_stored_cannot_be_planned_and_bad_rules_are_told(
    run: Commands, held: Held, tmp_path: Path
) -> None:
    held.announce("call-1")
    assert "not stored yet" in run("replay", "plan", "call-1").output
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]\n")
    result = run("replay", "plan", "call-1", LEADWAY_RULES_FILE=str(rules))
    assert result.exit_code == 2
    assert "line 1" in result.output


def test_a_dead_follow_up_is_sent_again_and_a_done_one_never(run: Commands, held: Held) -> None:
    held.store("call-1")
    dead = held.follow_up_dead("call-1")
    assert f"replay follow-up {dead}" in run("follow-up", dead).output.replace("\n  ", " ").replace("\n", " ")
    assert run("replay", "follow-up", dead).exit_code == 0
    assert held.follow_up("call-1")["status"] == WorkStatus.PENDING
    held.follow_up_done("call-1")
    refused = run("replay", "follow-up", dead)
    assert refused.exit_code == 1
    assert "never written twice" in refused.output
    assert run("replay", "follow-up", "unknown").exit_code == 1


def test_an_unclear_one_is_looked_for_before_it_is_sent_again(run: Commands, held: Held) -> None:
    held.store("call-1")
    follow_up_id = held.follow_up_unclear("call-1")
    assert run("replay", "follow-up", follow_up_id).exit_code == 0
    row = held.follow_up("call-1")
    assert (row["status"], row["intent_at"] is not None) == (WorkStatus.UNCLEAR, True)


@pytest.mark.parametrize(("flag", "status"), [("--is-there", WorkStatus.DONE), ("--send-again", WorkStatus.PENDING)])
def test_a_person_settles_an_unclear_follow_up(run: Commands, held: Held, flag: str, status: WorkStatus) -> None:
    held.store("call-1")
    follow_up_id = held.follow_up_unclear("call-1")
    shown = run("follow-up", follow_up_id).output
    assert "contact-1" in shown
    assert "--is-there" in shown
    assert run("follow-up", follow_up_id, flag).exit_code == 0
    assert held.follow_up("call-1")["status"] == status
    again = run("follow-up", follow_up_id, flag)
    assert again.exit_code == 1
    assert "not unclear" in again.output


def test_both_answers_at_once_or_an_unknown_follow_up_are_refused(run: Commands, held: Held) -> None:
    assert run("follow-up", "x", "--is-there", "--send-again").exit_code == 2
    for words in (("x",), ("x", "--is-there")):
        result = run("follow-up", *words)
        assert result.exit_code == 1
        assert "no follow-up 'x'" in result.output


@pytest.mark.parametrize(
    "words",
    [
        (), ("migrate",), ("accounts",), ("accounts", "add"), ("accounts", "list"), ("accounts", "show"),
        ("accounts", "set-token"), ("accounts", "rotate-secret"), ("accounts", "pause"), ("accounts", "resume"),
        ("accounts", "remove"), ("status",), ("call",), ("follow-up",), ("replay",), ("replay", "call"),
        ("replay", "plan"), ("replay", "follow-up"),
    ],
)  # fmt: skip
def test_every_command_explains_itself_without_a_database(environment: dict[str, str], words: tuple[str, ...]) -> None:
    result = Commands(environment)(*words, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
    assert words in ((), ("accounts",)) or "Example" in result.output


def _follow_ups(held: Held) -> dict[str, str]:
    with held.database.reading() as connection:
        return {row["follow_up_id"]: row["status"] for row in follow_ups.of_call(connection, LOCATION, "call-1")}
