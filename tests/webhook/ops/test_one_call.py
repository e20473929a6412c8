"""The page of one call."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from models import retention
from models.calls import calls
from models.calls.call_log import Action
from models.database import Database
from models.follow_ups import follow_ups
from models.work import lifecycle
from tests.support.rows import (
    LOCATION,
    change,
    claimed_call,
    claimed_follow_up,
    dead_call,
    done_follow_up,
    notify,
    only_follow_up,
    store,
    write,
)
from tests.webhook.ops.conftest import Pages, a_call
from webhook.ops.one_call import Turn, turns

AT = datetime(2024, 1, 15, 10, 31, tzinfo=UTC)
TRANSFER = Action("CALL_TRANSFER", "To the desk", parameters={"to": "<i>desk</i>"}, executed_at=AT)


def test_the_page_tells_the_whole_story_of_a_call(ops: Pages, database: Database) -> None:
    store(
        database,
        a_call("call-1", actions=(TRANSFER,), extracted_data={"reason": "a price"}),
        dialect="thin",
        proof="intake_path",
    )
    reference = done_follow_up(database, body="The words of the note.")
    page = ops.text(f"/ops/calls/{LOCATION}/call-1")
    for words in (
        "notification accepted (thin, by intake_path)", "fetch: done", "log stored", "A summary.", "Hello.", "transfer",
        "To the desk", "The words of the note.", reference, "note-42", "a price", "CONTACT", "transfer-note",
    ):  # fmt: skip
        assert words in page


def test_a_note_that_is_not_there_yet_shows_its_next_attempt_and_last_error(ops: Pages, database: Database) -> None:
    store(database, a_call("call-1", actions=(TRANSFER,)))
    claim = claimed_follow_up(database, str(only_follow_up(database).follow_up_id))
    write(database, lifecycle.reschedule, claim, seconds=5, error="throttled")
    change(database, claim.key, due_at=datetime(2024, 1, 15, 11, 0, 5, tzinfo=UTC))
    page = ops.text(f"/ops/calls/{LOCATION}/call-1")
    assert "15 Jan 12:00:05.000" in page
    assert "throttled" in page
    claimed_follow_up(database, claim.key.subject)
    for path in ("/ops/", f"/ops/calls/{LOCATION}/call-1"):
        assert "being written" in ops.text(path)


def _unsettled(database: Database) -> None:
    store(database, a_call("call-1", transcript=""))


def _read_again(database: Database) -> None:
    store(database, a_call("call-1"))
    write(database, calls.replay, LOCATION, "call-1")


def _emptied(database: Database) -> None:
    store(database, a_call("call-1"))
    write(database, retention.empty_calls, days=0)


@pytest.mark.parametrize(
    ("come_about", "state", "more"),
    [
        (lambda database: notify(database, "call-1"), "waiting", "the log comes first"),
        (claimed_call, "being fetched", "Not there yet"),
        (_unsettled, "stored, log not settled", "next reading"),
        (_read_again, "stored, read again", "next reading"),
        (lambda database: dead_call(database, "call-1"), "dead: not found", "A new notification, a listing or"),
        (lambda database: dead_call(database, "call-1", cause="poison"), "dead: poison", "Only a person revives it"),
        (_emptied, "stored", "Deleted after the retention time."),
    ],
)
def test_the_page_and_the_list_say_how_a_call_stands(
    ops: Pages, database: Database, come_about: Callable[[Database], object], state: str, more: str
) -> None:
    come_about(database)
    page = ops.text(f"/ops/calls/{LOCATION}/call-1")
    assert f">{state}</span>" in page
    assert more in page
    assert f">{state}</span>" in ops.text("/ops/")


def test_callers_words_stay_words_wherever_they_stand(ops: Pages, database: Database) -> None:
    attack = "</pre><script>alert(1)</script>"
    store(
        database,
        a_call(
            "call-1",
            summary=attack,
            transcript=f"human:{attack}",
            from_number=attack,
            extracted_data={attack: attack, "list": [attack]},
            actions=(Action("CALL_TRANSFER", attack, parameters={attack: attack}),),
        ),
    )
    claim = claimed_follow_up(database, str(only_follow_up(database).follow_up_id))
    follow_up = only_follow_up(database)
    assert write(database, follow_ups.intend, claim, follow_up, seconds=1, body=attack, title=attack)
    write(database, follow_ups.dead_letter, claim, cause="contact_unknown", error=attack)
    page = ops.text(f"/ops/calls/{LOCATION}/call-1")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.usefixtures("database")
def test_a_call_that_nobody_knows_is_a_page_that_says_so(ops: Pages) -> None:
    answer = ops.get(f"/ops/calls/{LOCATION}/unknown")
    assert answer.status_code == 404
    assert "No such call" in answer.text


def test_a_transcript_becomes_turns_and_loses_no_line() -> None:
    assert turns("bot:Hello: you there?\nhuman: Yes.\nStill me.\n\nBOT:Good.") == [
        Turn("agent", "Hello: you there?"),
        Turn("caller", "Yes.\nStill me.\n"),
        Turn("agent", "Good."),
    ]
    assert turns("no speaker: at all") == [Turn("", "no speaker: at all")]
    assert turns("") == []
