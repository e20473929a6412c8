"""The list of calls and the status above it."""

import re
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from models.accounts import accounts, pauses
from models.accounts.pauses import PauseCause
from models.calls.call_log import Action
from models.calls.calls import calls_table
from models.database import Database
from models.reports import call_list as reports_call_list
from models.work import heartbeats
from tests.support.hearts import beating
from tests.support.rows import (
    LOCATION,
    dead_call,
    half_open_breaker,
    open_breaker_by_outages,
    store,
    unclear_follow_up,
    write,
)
from tests.webhook.ops.conftest import Pages, a_call
from webhook.ops import call_list

OTHER = "AnotherLocation00001"
BOOKING = Action("APPOINTMENT_BOOKING", "Book", executed_at=datetime(2024, 1, 15, 10, 31, tzinfo=UTC))


def ids(page: str) -> list[str]:
    return re.findall(r'class="time"><a href="/ops/calls/\w+/([^"]+)"', page)


def test_calls_come_newest_first_with_the_time_in_the_accounts_zone(ops: Pages, database: Database) -> None:
    for number in range(3):
        store(database, a_call(f"call-{number}"))
    page = ops.text("/ops/")
    assert ids(page) == ["call-2", "call-1", "call-0"]
    assert "Mon 15 Jan 2024, 11:30" in page
    assert "+34911234567" in page
    assert "1 min 35 s" in page


def test_actions_and_the_state_of_each_note_are_shown_beside_their_call(ops: Pages, database: Database) -> None:
    store(database, a_call("call-1", actions=(BOOKING, Action("HOLOGRAM_SENT"))))
    store(database, a_call("call-2", actions=(BOOKING,), trial_call=True))
    page = ops.text("/ops/")
    for words in ("booking", "hologram sent", "<b>note</b> waiting", "<b>note</b> skipped: trial call"):
        assert words in page


def test_paging_shows_every_call_once_even_where_many_came_in_one_moment(
    ops: Pages, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_list, "PAGE", 4)
    for number in range(11):
        store(database, a_call(f"call-{number:02d}"))
    with database.transaction() as connection:
        connection.execute(
            sa.update(calls_table)
            .where(calls_table.c.call_id > "call-02")
            .values(first_heard_at=datetime(2024, 1, 1, tzinfo=UTC))
        )
    seen, path = list[str](), "/ops/"
    while path:
        page = ops.text(path)
        seen += ids(page)
        older = re.search(r'<a href="([^"]+)">older', page)
        path = older.group(1).replace("&amp;", "&") if older else ""
    assert sorted(seen) == [f"call-{number:02d}" for number in range(11)]
    assert len(seen) == 11


def test_the_list_is_narrowed_by_account_and_by_status(ops: Pages, database: Database) -> None:
    write(database, accounts.add, OTHER, name="Other")
    store(database, a_call("call-done"))
    store(database, a_call("call-note", actions=(BOOKING,)))
    store(database, a_call("call-other"), location_id=OTHER)
    dead_call(database, "call-dead")
    assert ids(ops.text(f"/ops/?account={OTHER}")) == ["call-other"]
    assert ids(ops.text("/ops/?status=dead")) == ["call-dead"]
    assert ids(ops.text(f"/ops/?status=complete&account={LOCATION}")) == ["call-note", "call-done"]
    assert ids(ops.text("/ops/?status=follow-up-open")) == ["call-note"]
    assert ids(ops.text("/ops/?status=follow-up-unclear")) == []
    assert "dead: not found" in ops.text("/ops/")


def test_the_list_is_narrowed_by_what_the_log_tells_and_by_time(ops: Pages, database: Database) -> None:
    store(database, a_call("call-note", actions=(BOOKING,), agent_id="agent-1", agent_name="Lucía"))
    store(database, a_call("call-out", direction="outbound"))
    store(database, a_call("call-trial", trial_call=True))
    for query, found in (
        ("action=APPOINTMENT_BOOKING", ["call-note"]),
        ("agent=agent-1", ["call-note"]),
        ("agent=Luc%C3%ADa&action=APPOINTMENT_BOOKING", ["call-note"]),
        ("direction=outbound", ["call-out"]),
        ("trial=yes", ["call-trial"]),
        ("trial=no&status=follow-up-none", ["call-out"]),
        ("since=2020-01-01T00:00", ["call-trial", "call-out", "call-note"]),
        ("until=2020-01-01T00:00", []),
        ("since=nonsense&trial=perhaps&status=odd", ["call-trial", "call-out", "call-note"]),
    ):
        assert ids(ops.text(f"/ops/?{query}")) == found, query


def test_a_page_that_looked_through_enough_says_where_to_look_on(
    ops: Pages, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        store(database, a_call(f"call-{number}", summary="Un saludo." if number == 0 else "Nothing."))
    monkeypatch.setattr(reports_call_list, "LOOKED_THROUGH", 2)
    path, looked = "/ops/?find=saludo", 0
    while True:
        page = ops.text(path)
        if ids(page):
            break
        [further] = re.findall(r'<a href="([^"]+)">look further back', page)
        path, looked = further.replace("&amp;", "&"), looked + 1
    assert (ids(page), looked) == (["call-0"], 2)


def test_callers_words_are_shown_as_words(ops: Pages, database: Database) -> None:
    store(database, a_call("call-1", from_number="<img src=x onerror=alert(1)>", actions=(Action("<b>BOLD</b>"),)))
    page = ops.text("/ops/")
    assert "<img" not in page
    assert "<b>bold" not in page.lower()


def test_the_status_names_what_is_dead_paused_or_waits_for_a_person_and_what_to_do(
    ops: Pages, database: Database
) -> None:
    store(database, a_call("call-1", actions=(BOOKING,)))
    unclear_follow_up(database, "call-1")
    dead_call(database, "call-2", cause="poison")
    write(database, pauses.pause, LOCATION, cause=PauseCause.TOKEN, detail="Write a new token with set-token.")
    page = ops.text("/ops/")
    assert "All is well" not in page
    for words in (
        "<bdi>Clínica</bdi>: Everything paused by token since", "Write a new token with set-token.",
        "1 dead call (poison): call-2.", "1 unclear follow-up that only a person can settle (timed_out)",
        "<code>leadway-calls follow-up ID</code> says how to settle it.",
    ):  # fmt: skip
        assert words in page


def test_the_status_says_whether_the_circuit_breaker_is_open_or_half_open(ops: Pages, database: Database) -> None:
    assert "Circuit breaker" not in ops.text("/ops/")
    open_breaker_by_outages(database)
    assert "Circuit breaker open until" in ops.text("/ops/")
    half_open_breaker(database)
    assert "Circuit breaker half-open" in ops.text("/ops/")


def test_the_status_says_which_processes_are_alive_and_which_are_missing(ops: Pages, database: Database) -> None:
    with beating(database, "worker"):
        page = ops.text("/ops/")
    assert "No beat process is alive" in page
    assert "No worker process is alive" not in page
    assert "1 alive, 32 at once" in page
    with beating(database):
        page = ops.text("/ops/")
    assert "All is well" in page
    assert "<b>web</b> 1 alive" in page


def test_the_status_says_which_live_processes_run_another_version(ops: Pages, database: Database) -> None:
    with beating(database):
        assert "different versions" not in ops.text("/ops/")
        write(database, heartbeats.beat, "worker-2@there", process="worker", version="0.0.9+0003")
        assert "0.0.9+0003: worker-2@there; " in ops.text("/ops/")


@pytest.mark.usefixtures("database")
def test_flower_is_linked_only_from_the_machine_that_it_listens_on(ops: Pages) -> None:
    assert 'href="http://localhost:5555/"' in ops.text("/ops/")
    assert ":5555" not in ops.text("/ops/", Host="calls.example.com")


def test_an_empty_system_says_how_to_begin(ops: Pages) -> None:
    page = ops.text("/ops/")
    assert "No account yet" in page
    assert "No call yet" in page
