"""The read contract: the same rows on both databases and in every session's time zone, and columns that only grow."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from migrations import views
from models.accounts import accounts
from models.accounts.accounts import accounts_table
from models.calls import calls
from models.calls.call_log import Action
from models.database import Database
from models.reconciling import local_days, quarantined_rows
from models.reconciling.windows import WindowKind, get_open, open_run
from models.retention import WORDS
from models.work.work_rows import work_table
from tests.migrations.dictionary import DATASETTE, FILE, datasette, dictionary
from tests.support import rows
from tests.support.rows import LOCATION, booked_call, call_log, on_postgresql, store, write

SNAPSHOT = Path(__file__).parent / "leadway_v1.json"
"""The columns of each view, in their order. A column may be added behind the others, and nothing else may change."""
ZONES = ("UTC", "America/New_York", "Asia/Tokyo")


def named(database: Database, view: str) -> str:
    on_postgresql = database.engine.dialect.name == "postgresql"
    return f"{views.SCHEMA}.{view}" if on_postgresql else f"{views.SQLITE_PREFIX}{view}"


def asked(database: Database, view: str, where: str = "1 = 1", *, zone: str = "UTC") -> list[dict[str, Any]]:
    with database.reading() as connection:
        if database.engine.dialect.name == "postgresql":
            connection.execute(sa.text(f"SET timezone TO '{zone}'"))
        try:
            found = connection.execute(sa.text(f"SELECT * FROM {named(database, view)} WHERE {where}"))
            return [{name: _instant(value) for name, value in row._mapping.items()} for row in found]
        finally:
            if database.engine.dialect.name == "postgresql":
                connection.execute(sa.text("SET timezone TO 'UTC'"))


def _instant(value: Any) -> Any:
    """The driver tells instants in the session's zone; the same instant is the same value."""
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def columns(database: Database, view: str) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(sa.text(f"SELECT * FROM {named(database, view)} WHERE 1 = 0")).keys())


def prove(database: Database, *, since: datetime, until: datetime) -> None:
    """The account's list is proven from `since` to `until`, and its days are written."""
    with database.transaction() as connection:
        times = {"complete_from": since, "complete_until": until}
        connection.execute(sa.update(accounts_table).values(**times))
        local_days.write(connection, accounts.get(connection, LOCATION), until=until)


def covered(database: Database, day: str) -> dict[str, Any]:
    [row] = asked(database, "coverage", f"location_id = '{LOCATION}' AND day = '{day}'")
    return row


def test_columns_are_only_added_and_each_is_described(database: Database) -> None:
    kept = json.loads(SNAPSHOT.read_text())
    assert set(kept) == set(views.NAMES)
    for view, before in kept.items():
        described = views.described(view)
        assert columns(database, view)[: len(before)] == before
        assert [each.name for each in described.columns] == columns(database, view), "each has its comment"
        assert all(each.meaning for each in described.columns)
        assert described.meaning
        assert columns(database, view) == before, f"{view} has new columns: write them into {SNAPSHOT.name}"


def test_a_column_that_retention_empties_is_marked_as_words() -> None:
    emptied = {column for columns in WORDS.values() for column in columns} - {"document", "translation", "raw"}
    for view in map(views.described, views.NAMES):
        for column in view.columns:
            assert column.has_words or column.name not in emptied, f"{view.name}.{column.name}"
    assert any(each.has_words for each in views.described("call_turns").columns)
    assert any(each.has_words for each in views.described("call_fields").columns)


def test_the_dictionary_tells_the_views_comments() -> None:
    assert FILE.read_text() == dictionary(), "write it anew: python -m tests.migrations.dictionary"
    assert DATASETTE.read_text() == datasette(), "write it anew: python -m tests.migrations.dictionary"


@on_postgresql
def test_every_view_and_column_has_its_comment_in_the_database(database: Database) -> None:
    query = """SELECT count(*), count(col_description(c.oid, a.attnum)), count(obj_description(c.oid))
               FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
               WHERE c.relnamespace = 'leadway_v1'::regnamespace AND a.attnum > 0"""
    with database.reading() as connection:
        number, of_columns, of_views = connection.execute(sa.text(query)).one()
    assert number == of_columns == of_views > 50


def test_stored_open_and_dead_calls_are_one_table(database: Database) -> None:
    store(database, booked_call("stored"))
    rows.announce(database, "open")
    rows.dead_call(database, "dead", cause="refused")
    rows.announce(database, "stored-and-read-again")
    rows.fetch(database, call_log("stored-and-read-again", duration_seconds=5.0))
    found = {row["call_id"]: row for row in asked(database, "calls")}
    assert {call_id: row["state"] for call_id, row in found.items()} == {
        "stored": "complete", "open": "pending", "dead": "dead", "stored-and-read-again": "pending",
    }  # fmt: skip
    assert found["dead"]["dead_cause"] == "refused"
    assert found["open"]["started_at"] is None
    assert found["open"]["is_transferred"] is None, "nobody looked yet"
    assert found["stored"]["bookings"] == 1
    assert found["stored"]["minutes_billed"] == 2, "75 seconds"


@pytest.mark.parametrize(("seconds", "minutes"), [(0.0, 0), (0.4, 1), (59.0, 1), (60.0, 1), (60.5, 2), (61.0, 2)])
def test_each_begun_minute_is_billed(database: Database, seconds: float, minutes: int) -> None:
    store(database, call_log("call", duration_seconds=seconds, summary="s", transcript="bot:t"))
    assert [row["minutes_billed"] for row in asked(database, "calls")] == [minutes]


@pytest.mark.parametrize(
    ("transcript", "turns"),
    [
        ("bot:Hello.\nhuman:Jane: Roe", [("bot", "Hello."), ("human", "Jane: Roe")]),
        ("bot: Hello.\r\nHuman : Hi\r\n", [("bot", "Hello."), ("human", "Hi")]),
        ("bot: Hello. human: Hi. bot: Bye", [("bot", "Hello."), ("human", "Hi."), ("bot", "Bye")]),
        ("bot:Hello.\nand welcome at 10:30", [("bot", "Hello."), (None, "and welcome at 10:30")]),
        ("agent:a\ncaller:b\nnurse:c", [("bot", "a"), ("human", "b"), (None, "nurse:c")]),
        ('bot:"C:\\new"\thi, \\" ünï 😀\n\nhuman:{[', [("bot", '"C:\\new"\thi, \\" ünï 😀'), ("human", "{[")]),
        ("just words", [(None, "just words")]),
    ],
)
def test_turns_are_told_from_every_form_of_a_transcript(
    database: Database, transcript: str, turns: list[tuple[str | None, str]]
) -> None:
    store(database, call_log("call", transcript=transcript, summary="s"))
    found = sorted(asked(database, "call_turns"), key=lambda row: row["position"])
    assert [(row["speaker"], row["text"]) for row in found] == turns


def test_a_field_is_told_with_its_type_and_an_empty_one_is_null(database: Database) -> None:
    data = {"budget": 1200, "share": 0.5, "agreed": True, "refused": False, "name": "Roe", "note": "", "none": None,
            "list": [1]}  # fmt: skip
    store(database, call_log("call", extracted_data=data))
    found = {row["field"]: row for row in asked(database, "call_fields")}
    told = {name: (row["json_type"], row["text"], row["number"], row["boolean"]) for name, row in found.items()}
    assert told == {
        "budget": ("number", "1200", 1200, None), "share": ("number", "0.5", 0.5, None),
        "agreed": ("boolean", "true", None, 1), "refused": ("boolean", "false", None, 0),
        "name": ("string", "Roe", None, None), "note": ("string", None, None, None),
        "none": ("null", None, None, None), "list": ("array", "[1]", None, None),
    }  # fmt: skip


def test_a_session_in_any_time_zone_reads_the_same_rows(database: Database) -> None:
    day = datetime(2024, 5, 6, tzinfo=UTC)
    transfer = Action("CALL_TRANSFER", action_id="t", executed_at=day)
    for hour in range(0, 48, 3):
        log = call_log(f"call-{hour:02}", started_at=day + timedelta(hours=hour), duration_seconds=70.0 + hour,
                       agent_id="agent", agent_name=f"name {hour:02}", actions=(transfer,) if hour % 2 else (),
                       trial_call=hour == 3, summary="s", transcript="bot:t", extracted_data={"a": 1})  # fmt: skip
        store(database, log)
    prove(database, since=day - timedelta(days=1), until=day + timedelta(days=3))
    for view in views.NAMES:
        answers = [sorted(map(str, asked(database, view, zone=zone))) for zone in ZONES]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0]
    per_day = asked(database, "usage", "day = '2024-05-06'")
    assert [(row["calls"], row["trial_calls"], row["minutes_billed"]) for row in per_day] == [(7, 1, 14)]
    assert [row["name"] for row in asked(database, "agents")] == ["name 45"]
    on_day = asked(database, "calls", "started_on = '2024-05-07' AND started_hour < 12", zone="Asia/Tokyo")
    assert len(on_day) == 4


# Coverage


DAY = datetime(2024, 5, 6, tzinfo=UTC)
PROVEN = {"since": DAY - timedelta(days=2), "until": DAY + timedelta(days=2)}


def stored_on(database: Database, call_id: str, at: datetime) -> None:
    store(database, call_log(call_id, started_at=at, summary="s", transcript="bot:t"))


def test_a_day_is_complete_only_where_the_list_proves_all_of_it(database: Database) -> None:
    stored_on(database, "call", DAY + timedelta(hours=23, minutes=59))
    assert not covered(database, "2024-05-06")["is_complete"], "nothing is proven"
    prove(database, since=DAY, until=DAY + timedelta(days=1, minutes=24, seconds=59))
    assert not covered(database, "2024-05-06")["is_complete"], "a call that began late may not be listed yet"
    prove(database, since=DAY, until=DAY + timedelta(days=1, minutes=25))
    told = covered(database, "2024-05-06")
    assert told["is_complete"]
    assert (told["calls"], told["open"], told["dead"], told["unannounced"], told["quarantined"]) == (1, 0, 0, 0, 0)
    prove(database, since=DAY + timedelta(seconds=1), until=DAY + timedelta(days=2))
    assert not covered(database, "2024-05-06")["is_complete"], "it is proven from a second after midnight on"


def test_a_call_without_a_start_counts_against_every_day_since_it_was_heard_of(database: Database) -> None:
    rows.announce(database, "open")
    with database.transaction() as connection:
        connection.execute(sa.update(work_table).values(first_heard_at=DAY + timedelta(hours=12)))
    prove(database, **PROVEN)
    told = {str(row["day"]): (row["open"], bool(row["is_complete"])) for row in asked(database, "coverage")}
    assert told["2024-05-05"] == (0, True), "that day was listed before anybody heard of the call"
    assert told["2024-05-06"] == (1, False)
    assert told["2024-05-07"] == (1, False)


def test_a_call_that_was_heard_of_after_midnight_counts_against_the_day_before(database: Database) -> None:
    rows.announce(database, "open")
    with database.transaction() as connection:
        connection.execute(sa.update(work_table).values(first_heard_at=DAY + timedelta(days=1, minutes=5)))
    prove(database, **PROVEN)
    assert covered(database, "2024-05-06")["open"] == 1


def test_dead_calls_count_and_one_that_leadway_does_not_know_only_on_its_day(database: Database) -> None:
    rows.dead_call(database, "refused", cause="refused")
    rows.dead_call(database, "not-there", cause="not_found")
    with database.transaction() as connection:
        connection.execute(sa.update(work_table).values(first_heard_at=DAY + timedelta(hours=12)))
    prove(database, **PROVEN)
    told = {str(row["day"]): row["dead"] for row in asked(database, "coverage")}
    assert [told[f"2024-05-0{day}"] for day in (5, 6, 7)] == [0, 2, 1]


def test_a_stored_call_that_is_read_again_keeps_its_day_open(database: Database) -> None:
    rows.announce(database, "young")
    rows.fetch(database, call_log("young", started_at=DAY, duration_seconds=60.0))
    prove(database, **PROVEN)
    told = covered(database, "2024-05-06")
    assert (told["calls"], told["open"], bool(told["is_complete"])) == (1, 1, False)
    assert covered(database, "2024-05-05")["is_complete"]


def test_a_quarantined_row_keeps_its_day_open(database: Database) -> None:
    with database.transaction() as connection:
        span = {"since": DAY + timedelta(hours=1), "until": DAY + timedelta(hours=2)}
        open_run(connection, LOCATION, kind=WindowKind.SINCE, **span)
        window = get_open(connection, LOCATION, WindowKind.SINCE)
        assert window is not None
        quarantined_rows.record(connection, window, [quarantined_rows.RefusedRow("key", "no_call_id")])
    prove(database, **PROVEN)
    assert (covered(database, "2024-05-06")["quarantined"], covered(database, "2024-05-06")["is_complete"]) == (1, 0)
    assert covered(database, "2024-05-05")["is_complete"]


def test_days_are_those_of_the_accounts_zone_with_its_clock_changes(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(sa.update(accounts_table).values(time_zone="America/New_York"))
    spring = datetime(2026, 3, 8, 12, tzinfo=UTC)
    prove(database, since=spring - timedelta(days=2), until=spring + timedelta(days=2))
    [day] = asked(database, "coverage", "day = '2026-03-08'")
    hours = [datetime.fromisoformat(str(day[name])) for name in ("starts_at", "ends_at")]
    assert hours[1] - hours[0] == timedelta(hours=23)


def test_a_month_is_closed_when_coverage_proves_each_of_its_days(database: Database) -> None:
    stored_on(database, "call", DAY)
    first, end = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)
    prove(database, since=first, until=end)
    assert not asked(database, "usage")[0]["is_month_closed"], "the last day may still get a call"
    prove(database, since=first, until=end + timedelta(hours=1))
    assert asked(database, "usage")[0]["is_month_closed"]
    rows.announce(database, "open")
    with database.transaction() as connection:
        connection.execute(sa.update(work_table).values(first_heard_at=first))
    assert not asked(database, "usage")[0]["is_month_closed"]


# What others build on the views


@on_postgresql
def test_the_views_are_made_anew_below_an_analysts_view(database: Database, database_url: str) -> None:
    stored_on(database, "call", DAY)
    with psycopg.connect(database_url, autocommit=True) as analyst:
        for name in views.NAMES:
            analyst.execute(f"CREATE VIEW of_{name} AS SELECT * FROM leadway_v1.{name}".encode())
        try:
            write(database, views.make, by=views.MADE_BY)
            assert analyst.execute("SELECT call_id FROM of_calls").fetchall() == [("call",)]
        finally:
            for name in views.NAMES:
                analyst.execute(f"DROP VIEW of_{name}".encode())


def test_calls_of_the_product_are_not_in_the_way(database: Database) -> None:
    """Every column of `calls` that is not internal or a document has its place in the contract."""
    promised = {each.name for name in ("calls", "call_turns", "call_fields") for each in views.described(name).columns}
    renamed = {"local_day", "local_hour", "trial_call", "agent_handoff", "extracted_data", "extracted_data_from",
               "transcript"}  # fmt: skip
    left_out = {"agent_deleted", "call_status", "call_type", "workflow_name", "translation", "translation_from",
                "document", "wants_follow_ups", "read_at", "read_from", "reading_fence"}  # fmt: skip
    assert {column.name for column in calls.calls_table.c} == promised & {
        column.name for column in calls.calls_table.c
    } | renamed | left_out
