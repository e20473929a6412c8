"""`leadway-calls rules try`: a changed file is tried on a stored call, and nothing is written."""

from pathlib import Path

import pytest

from models.calls.calls import calls_table
from models.database import Database
from models.follow_ups.follow_ups import follow_ups_table
from models.work.work_rows import work_table
from tests.support.rows import booked_call, call_log, notify, rows_of, store
from tests.workers.cli.conftest import Commands

FILE = """
[[rule]]
id = "booking-tag"
action = "APPOINTMENT_BOOKING"
kind = "tag"
tags = ["booked by {{ action.name }}"]

[[rule]]
id = "call-back"
action = "APPOINTMENT_BOOKING"
kind = "task"
title = "Call {{ call.number }} back"
body = "{{ call.summary }}"
due_in = "2h"

[[rule]]
id = "transfer-note"
enabled = false
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(FILE)
    return path


def test_a_file_is_tried_on_a_stored_call_and_its_words_are_shown_and_nothing_is_written(
    run: Commands, served: Database, file: Path
) -> None:
    store(served, booked_call("call-1"))
    tables = (calls_table, follow_ups_table, work_table)
    before = [rows_of(served, table) for table in tables]
    result = run("rules", "try", "call-1", "--file", str(file), COLUMNS="200")
    assert result.exit_code == 0, result.output
    for words in (
        "Tag by booking-tag",
        "booked by Book",
        "Task by call-back",
        "Call +34600000000 back",
        "Note by booking-note",
    ):
        assert words in result.output
    assert result.output.count("it would be sent") == 2
    assert "it is planned already (pending)" in result.output, "the built-in one"
    assert "Nothing was written." in result.output
    assert [rows_of(served, table) for table in tables] == before


def test_without_a_call_the_rules_are_shown_and_no_database_is_needed(run: Commands, file: Path) -> None:
    shown = run("rules", "try", DATABASE_URL="sqlite:////nowhere/at/all.db").output
    assert "Rules of the built-in rules" in shown
    assert [line.split()[0] for line in shown.splitlines()[2:]] == ["booking-note", "transfer-note"]
    changed = run("rules", "try", LEADWAY_RULES_FILE=str(file), COLUMNS="200").output
    assert [line.split()[0] for line in changed.splitlines()[2:]] == [
        "booking-note", "transfer-note", "booking-tag", "call-back"
    ]  # fmt: skip
    assert changed.splitlines()[3].split()[-1] == "no"


def test_a_mistake_is_told_with_its_line(run: Commands, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(FILE.replace("{{ call.summary }}", "{{ call.sumary }}"))
    result = run("rules", "try", "--file", str(wrong))
    assert result.exit_code == 2
    told = " ".join(result.output.split())
    assert "line 13, rule 'call-back'" in told
    assert "did you mean 'call.summary'?" in told


def test_a_call_that_asks_for_nothing_one_that_is_not_stored_and_an_unknown_one_are_told(
    run: Commands, served: Database
) -> None:
    store(served, call_log("quiet"))
    notify(served, "unread")
    assert "They ask for nothing. The agent did: nothing." in run("rules", "try", "quiet").output
    for call_id, said in (("unread", "its log is not stored yet"), ("nobody", "no call 'nobody' is known")):
        result = run("rules", "try", call_id)
        assert (result.exit_code, said in " ".join(result.output.split())) == (1, True)
