"""The filter of calls, which pages and commands share: what each part means, and pages that miss and repeat nothing."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from models.accounts import accounts
from models.calls.call_log import Action
from models.calls.calls import calls_table
from models.database import Database
from models.reports import call_list, search
from models.reports.call_filter import CallFilter, CallState, FollowUpFilter
from models.reports.call_list import Cursor, Key
from tests.support.rows import (
    LOCATION,
    booked_call,
    call_log,
    claimed_call,
    dead_call,
    dead_follow_up,
    done_follow_up,
    notify,
    only_follow_up,
    read,
    store,
    unclear_follow_up,
    write,
)

OTHER = "AnotherLocation00001"
SINCE = datetime(2024, 3, 1, tzinfo=UTC)


@pytest.fixture
def known(database: Database) -> Database:
    """One call of each kind, named after what it is."""
    for call_id, come_about in (
        ("written", done_follow_up),
        ("unclear", unclear_follow_up),
        ("given-up", dead_follow_up),
    ):
        store(database, booked_call(call_id))
        come_about(database, call_id)
    store(database, booked_call("owed"))
    store(database, call_log("trial", trial_call=True, actions=(Action("APPOINTMENT_BOOKING"),), contact_id="c"))
    lucia = {"agent_id": "agent-9", "agent_name": "Lucía"}
    store(database, call_log("plain", **lucia, direction="outbound", summary="Un Saludo breve"))
    notify(database, "waiting")
    claimed_call(database, "running")
    dead_call(database, "dead")
    write(database, accounts.add, OTHER)
    store(database, call_log("elsewhere"), location_id=OTHER)
    _became_known(database, "plain", SINCE)
    return database


STORED_HERE = {"written", "unclear", "given-up", "owed", "trial", "plain"}
UNREAD = {"waiting", "running", "dead"}


MEANT: list[tuple[CallFilter, set[str]]] = [
    (CallFilter(), STORED_HERE | UNREAD | {"elsewhere"}),
    (CallFilter(location_id=LOCATION), STORED_HERE | UNREAD),
    (CallFilter(location_id=OTHER), {"elsewhere"}),
    (CallFilter(state=CallState.COMPLETE), STORED_HERE | {"elsewhere"}),
    (CallFilter(state=CallState.PENDING), {"waiting"}),
    (CallFilter(state=CallState.RUNNING), {"running"}),
    (CallFilter(state=CallState.DEAD), {"dead"}),
    (CallFilter(state=CallState.DEAD, location_id=OTHER), set()),
    (CallFilter(follow_up=FollowUpFilter.ANY), {"written", "unclear", "given-up", "owed", "trial"}),
    (CallFilter(follow_up=FollowUpFilter.NONE), UNREAD | {"plain", "elsewhere"}),
    (CallFilter(follow_up=FollowUpFilter.NONE, state=CallState.COMPLETE), {"plain", "elsewhere"}),
    (CallFilter(follow_up=FollowUpFilter.OPEN), {"unclear", "owed"}),
    (CallFilter(follow_up=FollowUpFilter.PENDING), {"owed"}),
    (CallFilter(follow_up=FollowUpFilter.UNCLEAR), {"unclear"}),
    (CallFilter(follow_up=FollowUpFilter.DONE), {"written"}),
    (CallFilter(follow_up=FollowUpFilter.DEAD), {"given-up"}),
    (CallFilter(follow_up=FollowUpFilter.SKIPPED), {"trial"}),
    (CallFilter(follow_up=FollowUpFilter.DEAD, state=CallState.DEAD), set()),
    (CallFilter(action="APPOINTMENT_BOOKING"), {"written", "unclear", "given-up", "owed", "trial"}),
    (CallFilter(action="CALL_TRANSFER"), set()),
    (CallFilter(agent="agent-9"), {"plain"}),
    (CallFilter(agent="Lucía"), {"plain"}),
    (CallFilter(direction="outbound"), {"plain"}),
    (CallFilter(trial=True), {"trial"}),
    (CallFilter(trial=False, follow_up=FollowUpFilter.ANY), {"written", "unclear", "given-up", "owed"}),
    (CallFilter(since=SINCE, until=SINCE + timedelta(days=1)), {"plain"}),
    (CallFilter(until=SINCE), set()),
    (CallFilter(words="BREVE saludo"), {"plain"}),
    (CallFilter(words="saludo largo"), set()),
    (CallFilter(words="%"), set()),
]


def test_a_filter_lets_through_the_calls_for_which_all_of_it_holds(known: Database) -> None:
    for wanted, found in MEANT:
        assert {each.call_id for each in read(known, call_list.newest, wanted, limit=50).calls} == found, wanted


def test_the_pages_of_a_filter_miss_nothing_and_repeat_nothing_however_few_calls_are_looked_through(
    known: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with known.transaction() as connection:  # many became known in one moment
        connection.execute(sa.update(calls_table).where(calls_table.c.call_id > "p").values(first_heard_at=SINCE))
    for wanted, _ in MEANT:
        monkeypatch.setattr(call_list, "LOOKED_THROUGH", 100)
        whole = [each.key for each in read(known, call_list.newest, wanted, limit=50).calls]
        for looked_through, limit in ((1, 2), (1, 50), (3, 2), (3, 50)):
            monkeypatch.setattr(call_list, "LOOKED_THROUGH", looked_through)
            assert _keys_by_pages(known, wanted, limit=limit) == whole, (wanted, looked_through, limit)
            assert [each.key for each in read(known, call_list.read_on, wanted, limit=50).calls] == whole, wanted


def _keys_by_pages(database: Database, wanted: CallFilter, *, limit: int) -> list[Key]:
    seen: list[Key] = []
    page = read(database, call_list.newest, wanted, limit=limit)
    while True:
        assert len(page.calls) <= limit
        seen += [each.key for each in page.calls]
        if page.following is None:
            return seen
        assert Cursor.read(str(page.following)) == page.following
        page = read(database, call_list.newest, wanted, limit=limit, after=page.following)


def test_a_page_looks_no_further_than_it_may_and_says_where_to_go_on(
    known: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_list, "LOOKED_THROUGH", 3)
    page = read(known, call_list.newest, CallFilter(agent="agent-9"), limit=50)  # the oldest of them all
    assert (page.calls, page.following is None) == ([], False)


def test_an_id_is_found_by_its_beginning_where_it_is_long_enough(known: Database) -> None:
    reference = only_follow_up(known, "written").follow_up_id
    assert read(known, search.matching, reference[:6]) == [(LOCATION, "written")]
    assert read(known, search.matching, reference[:5]) == []
    assert read(known, search.matching, "elsewh") == [(OTHER, "elsewhere")]
    assert read(known, search.matching, "runnin") == [(LOCATION, "running")]
    assert read(known, search.matching, "RUNNIN") == []
    notify(known, "running-too")
    assert read(known, search.of_call_id, "running") == [(LOCATION, "running")], "a whole id is meant as it is"
    assert {call_id for _, call_id in read(known, search.of_call_id, "runnin")} == {"running", "running-too"}


def test_what_is_no_id_and_no_number_is_looked_for_among_the_words_of_summaries(known: Database) -> None:
    assert [each.call_id for each in read(known, search.calls, "saludo", CallFilter(), limit=9).calls] == ["plain"]
    assert read(known, search.calls, "saludo", CallFilter(location_id=OTHER), limit=9).calls == []
    assert read(known, search.calls, "no such words", CallFilter(), limit=9).calls == []
    assert read(known, search.calls, "   ", CallFilter(), limit=9).calls == []


def _became_known(database: Database, call_id: str, at: datetime) -> None:
    """As a backfill would have it."""
    with database.transaction() as connection:
        connection.execute(sa.update(calls_table).where(calls_table.c.call_id == call_id).values(first_heard_at=at))
