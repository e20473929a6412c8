"""`leadway-calls replay`: what a person sends round again, and what is never repeated."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from models.accounts import accounts
from models.calls import calls
from models.database import Database
from models.follow_ups import follow_ups
from models.work import lifecycle
from models.work.work_rows import Lane
from tests.support.rows import (
    LOCATION,
    booked_call,
    call_row,
    claim_call,
    dead_call,
    dead_follow_up,
    done_follow_up,
    follow_up_row,
    notify,
    only_follow_up,
    store,
    unclear_follow_up,
    write,
)
from tests.workers.cli.conftest import Commands

OTHER = "AnotherLocation00001"
EVERY_BOOKING_IS_TAGGED = """
[[rule]]
id = "booking-tag"
action = "APPOINTMENT_BOOKING"
kind = "tag"
tags = ["booked by phone"]
"""


def store_booked(database: Database, call_id: str) -> None:
    store(database, booked_call(call_id))


@pytest.mark.parametrize("words", [("replay", "call-1"), ("replay", "call", "call-1")])
@pytest.mark.parametrize("come_about", [store_booked, notify, dead_call])
def test_a_replayed_call_is_due_whatever_its_status(
    run: Commands, served: Database, words: tuple[str, ...], come_about: Callable[[Database, str], None]
) -> None:
    come_about(served, "call-1")
    assert "Call call-1 will be fetched now." in run(*words).output
    assert call_row(served).status == "pending"
    claim = claim_call(served, "call-1")
    assert claim is not None
    assert "fetched again when the present attempt ends" in run(*words).output
    write(served, lifecycle.complete, claim)
    assert call_row(served).status == "pending"


def test_all_dead_calls_are_replayed_of_one_account_or_of_all(run: Commands, served: Database) -> None:
    for name in ("call-1", "call-2"):
        dead_call(served, name, cause="poison")
    write(served, accounts.add, OTHER)
    write(served, calls.announce, OTHER, "call-3")
    write(served, lifecycle.dead_letter, claim_call(served, "call-3", location_id=OTHER), cause="not_found")
    assert "1 dead call " in run("replay", "call", "--dead", "--location", OTHER).output
    assert call_row(served).status == "dead"
    assert "2 dead calls " in run("replay", "--dead").output
    assert call_row(served).status == "pending"
    assert run("replay", "call", "--dead", "--location", "nobody").exit_code == 1
    assert run("replay", "call").exit_code == 2
    assert run("replay", "call", "call-1", "--dead").exit_code == 2


def test_planning_again_adds_what_todays_rules_ask_for_and_repeats_nothing(
    run: Commands, served: Database, tmp_path: Path
) -> None:
    store(served, booked_call("call-1"))
    note = done_follow_up(served, "call-1")
    rules = tmp_path / "rules.toml"
    rules.write_text(EVERY_BOOKING_IS_TAGGED)
    assert "nothing that is not planned already" in run("replay", "plan", "call-1").output
    shown = run("replay", "plan", "call-1", "--dry-run", LEADWAY_RULES_FILE=str(rules))
    assert "booking-tag" in shown.output
    assert len(_follow_ups(served)) == 1
    planned = run("replay", "plan", "call-1", LEADWAY_RULES_FILE=str(rules))
    assert "1 follow-up will be sent now" in planned.output
    assert _follow_ups(served) == {note: "done"} | {each: "pending" for each in _follow_ups(served) if each != note}
    assert len(_follow_ups(served)) == 2
    assert "nothing that is not" in run("replay", "plan", "call-1", LEADWAY_RULES_FILE=str(rules)).output


def test_an_old_call_is_planned_only_when_a_person_insists(run: Commands, served: Database, tmp_path: Path) -> None:
    store(served, booked_call("call-1"))
    write(served, accounts.add, LOCATION, follow_up_age_hours=0)
    rules = tmp_path / "rules.toml"
    rules.write_text(EVERY_BOOKING_IS_TAGGED)
    refused = run("replay", "plan", "call-1", LEADWAY_RULES_FILE=str(rules))
    assert "too_old" in refused.output
    assert len(_follow_ups(served)) == 1
    assert run("replay", "plan", "call-1", "--even-if-old", LEADWAY_RULES_FILE=str(rules)).exit_code == 0
    assert sorted(_follow_ups(served).values()) == ["pending", "pending"]


def test_what_was_skipped_is_sent_when_its_reason_is_gone(run: Commands, served: Database) -> None:
    store(served, replace(booked_call("call-1"), contact_id=None))
    assert list(_follow_ups(served).values()) == ["skipped"]
    assert "no_contact" in run("replay", "plan", "call-1").output
    with served.transaction() as connection:
        connection.execute(calls.calls_table.update().values(contact_id="contact-9"))
    assert "1 follow-up will be sent" in run("replay", "plan", "call-1").output
    row = only_follow_up(served, "call-1")
    assert (row.status, row.contact_id, row.skip_reason) == ("pending", "contact-9", None)


def test_a_call_that_is_not_stored_cannot_be_planned_and_bad_rules_are_told(
    run: Commands, served: Database, tmp_path: Path
) -> None:
    notify(served, "call-1")
    assert "not stored yet" in run("replay", "plan", "call-1").output
    rules = tmp_path / "rules.toml"
    rules.write_text("[[rule]\n")
    result = run("replay", "plan", "call-1", LEADWAY_RULES_FILE=str(rules))
    assert result.exit_code == 2
    assert "line 1" in result.output


def test_a_dead_follow_up_is_sent_again_and_a_done_one_never(run: Commands, served: Database) -> None:
    store(served, booked_call("call-1"))
    dead = dead_follow_up(served, "call-1")
    assert f"replay follow-up {dead}" in run("follow-up", dead).output.replace("\n  ", " ").replace("\n", " ")
    assert run("replay", "follow-up", dead).exit_code == 0
    assert only_follow_up(served).status == "pending"
    done_follow_up(served, "call-1")
    refused = run("replay", "follow-up", dead)
    assert refused.exit_code == 1
    assert "never written twice" in refused.output
    assert run("replay", "follow-up", "unknown").exit_code == 1


def test_an_unclear_one_is_looked_for_before_it_is_sent_again(run: Commands, served: Database) -> None:
    store(served, booked_call("call-1"))
    follow_up_id = unclear_follow_up(served, "call-1")
    assert "looked for now" in run("replay", "follow-up", follow_up_id).output
    row = follow_up_row(served, follow_up_id)
    assert (row.status, row.intent_at is None, row.due_at is None) == ("unclear", False, False)


def _follow_ups(served: Database) -> dict[str, str]:
    with served.reading() as connection:
        return {row.follow_up_id: row.status for row in follow_ups.of_call(connection, LOCATION, "call-1")}


def test_many_are_asked_for_again_by_a_filter_after_a_question(run: Commands, served: Database) -> None:
    for name in ("call-1", "call-2"):
        dead_call(served, name)
    store_booked(served, "call-3")
    asked = ("replay", "refetch", "--state", "dead")
    shown = run(*asked, "--dry-run")
    assert "2 dead calls would be fetched." in shown.output
    assert ("call-1" in shown.output, "call-3" in shown.output) == (True, False)
    assert run(*asked, stdin="n\n").exit_code == 1
    assert "--yes answers in advance" in run(*asked, stdin="").output
    assert call_row(served, "call-1").status == "dead", "until somebody agrees"
    assert "2 dead calls will be fetched." in run(*asked, stdin="y\n").output
    assert {call_row(served, each).lane for each in ("call-1", "call-2")} == {Lane.RETRY}, "behind live calls"
    assert call_row(served, "call-3").status == "complete"
    told = json.loads(run("replay", "refetch", "call-1", "call-3", "--yes", "--json").stdout)
    assert [each["call_id"] for each in told["calls"]] == ["call-1", "call-3"]
    assert call_row(served, "call-3").status == "pending"


@pytest.mark.parametrize("verb", ["refetch", "plan", "send"])
def test_nothing_is_asked_for_again_by_oversight(run: Commands, served: Database, verb: str) -> None:
    store_booked(served, "call-1")
    assert run("replay", verb).exit_code == 2
    assert run("replay", verb, "call-1", "--state", "dead").exit_code == 2
    assert run("replay", verb, "nothing-like-it").exit_code == 1


def test_dead_follow_ups_are_sent_again_by_a_filter_by_their_calls_and_by_short_ids(
    run: Commands, served: Database
) -> None:
    ids = {}
    for name in ("call-1", "call-2", "call-3"):
        store_booked(served, name)
        ids[name] = dead_follow_up(served, name)
    assert run("replay", "send", ids["call-1"][:8]).exit_code == 0
    assert only_follow_up(served, "call-1").status == "pending"
    assert run("replay", "send", "call-2").exit_code == 0
    assert only_follow_up(served, "call-2").status == "pending"
    refused = run("replay", "send", "call-2")
    assert refused.exit_code == 1
    assert "pending, and goes on by itself" in " ".join(refused.output.split())
    shown = json.loads(run("replay", "send", "--location", LOCATION, "--dry-run", "--json").stdout)
    assert [(each["follow_up_id"], each["was"]) for each in shown["follow_ups"]] == [(ids["call-3"], "dead")]
    assert only_follow_up(served, "call-3").status == "dead"
    assert run("replay", "send", "--follow-up", "dead").exit_code == 0, "one alone is not asked about"
    assert only_follow_up(served, "call-3").status == "pending"
    assert run("replay", "send", "--follow-up", "done").exit_code == 2


def test_several_unclear_ones_are_looked_for_first(run: Commands, served: Database) -> None:
    for name in ("call-1", "call-2"):
        store_booked(served, name)
        unclear_follow_up(served, name)
    assert "0 follow-ups" in run("replay", "send", "--location", LOCATION).output, "only dead ones, unless asked for"
    sent = run("replay", "send", "--follow-up", "unclear", "--yes")
    assert "2 of them are unclear, and looked for first." in sent.output
    for name in ("call-1", "call-2"):
        row = follow_up_row(served, only_follow_up(served, name).follow_up_id)
        assert (row.status, row.due_at is None) == ("unclear", False)


def test_many_are_planned_with_todays_rules_and_what_cannot_be_is_counted(
    run: Commands, served: Database, tmp_path: Path
) -> None:
    for name in ("call-1", "call-2"):
        store_booked(served, name)
    notify(served, "call-3")
    rules = tmp_path / "rules.toml"
    rules.write_text(EVERY_BOOKING_IS_TAGGED)
    asked = ("replay", "plan", "--location", LOCATION)
    shown = run(*asked, "--dry-run", LEADWAY_RULES_FILE=str(rules), COLUMNS="200").output
    assert "1 call left out" in shown
    assert "2 follow-ups would be sent." in shown
    assert run(*asked, stdin="n\n", LEADWAY_RULES_FILE=str(rules)).exit_code == 1
    assert len(_follow_ups(served)) == 1
    planned = json.loads(run(*asked, "--yes", "--json", LEADWAY_RULES_FILE=str(rules)).stdout)
    assert (planned["number"], planned["left_out"], len(planned["follow_ups"])) == (2, 1, 2)
    assert len(_follow_ups(served)) == 2


def test_a_person_sees_what_settling_would_do_before_it_is_done(run: Commands, served: Database) -> None:
    store_booked(served, "call-1")
    follow_up_id = unclear_follow_up(served, "call-1")
    assert "nothing was changed" in run("follow-up", follow_up_id, "--is-there", "--dry-run").output
    assert only_follow_up(served).status == "unclear"
    assert json.loads(run("follow-up", follow_up_id, "--json").stdout)["needs_a_person"] is True
    assert run("follow-up", follow_up_id[:8], "--is-there").exit_code == 0
    assert only_follow_up(served).status == "done"
