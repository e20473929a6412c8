"""The page of one call."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from models.calls.call_log import Action
from models.database import Database, moment
from models.follow_ups.follow_ups import follow_ups_table
from models.intake import notifications
from models.work import lifecycle
from tests.webhook.ops.conftest import Pages, Store, begun_follow_up
from webhook.ops.one_call import Turn, turns

AT = datetime(2024, 1, 15, 10, 31, tzinfo=UTC)
TRANSFER = Action("CALL_TRANSFER", "To the desk", parameters={"to": "<i>desk</i>"}, executed_at=AT)


def test_the_page_tells_the_whole_story_of_a_call(ops: Pages, database: Database, store: Store) -> None:
    store("call-1", actions=(TRANSFER,), extracted_data={"reason": "a price"})
    with database.transaction() as connection:
        notifications.record(
            connection, "key", location_id="LOC_1", call_id="call-1", dialect="thin", authenticated_by="intake_path",
            status="accepted",
        )  # fmt: skip
    claim = begun_follow_up(database, body="The words of the note.")
    with database.transaction() as connection:
        lifecycle.complete(connection, claim, remote_id="NOTE-7", done_at=moment())
    [reference] = claim.key
    page = ops.text("/ops/calls/LOC_1/call-1")
    for words in (
        "notification accepted (thin, by intake_path)", "fetch: done", "log stored", "A summary.", "Hello.", "transfer",
        "To the desk", "The words of the note.", reference, "NOTE-7", "a price", "CONTACT", "a-rule",
    ):  # fmt: skip
        assert words in page


def test_a_note_that_is_not_there_yet_shows_its_next_attempt_and_last_error(
    ops: Pages, database: Database, store: Store
) -> None:
    store("call-1", actions=(TRANSFER,))
    claim = begun_follow_up(database)
    with database.transaction() as connection:
        lifecycle.reschedule(connection, claim, seconds=20, error="throttled", intent_at=None)
        connection.execute(
            sa.update(follow_ups_table).values(next_attempt_at=datetime(2024, 1, 15, 11, 0, 5, tzinfo=UTC))
        )
    page = ops.text("/ops/calls/LOC_1/call-1")
    assert "15 Jan 12:00:05.000" in page
    assert "throttled" in page


def test_callers_words_stay_words_wherever_they_stand(ops: Pages, database: Database, store: Store) -> None:
    attack = "</pre><script>alert(1)</script>"
    store(
        "call-1",
        summary=attack,
        transcript=f"human:{attack}",
        from_number=attack,
        extracted_data={attack: attack, "list": [attack]},
        actions=(Action("CALL_TRANSFER", attack, parameters={attack: attack}),),
    )
    claim = begun_follow_up(database, body=attack, title=attack)
    with database.transaction() as connection:
        lifecycle.dead_letter(connection, claim, cause="contact_unknown", error=attack, intent_at=None)
    page = ops.text("/ops/calls/LOC_1/call-1")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.usefixtures("database")
def test_a_call_that_nobody_knows_is_a_page_that_says_so(ops: Pages) -> None:
    answer = ops.get("/ops/calls/LOC_1/unknown")
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
