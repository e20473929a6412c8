"""The upgrade from 5fe07bd: its rows in every state go on, and a process of it that lives on can write nothing."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from migrations import is_current
from migrations.running import StopNeeded
from migrations.upgrading import migrate
from models.accounts.token_encryption import TokenCipher
from models.calls.call_log import Source
from models.calls.calls import CALL, calls_table
from models.database import COMMAND, Database
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState
from models.reconciling.windows import WINDOW
from models.work import dispatch_order, history
from models.work.dispatch_order import ScanMemory
from models.work.fences import next_fence
from models.work.work_rows import IS_DUE, work_table
from tests.leadway_double.double import LeadwayDouble
from tests.migrations.old_database import Made, load, place_everything, read_made
from tests.support.rows import ENCRYPTION_KEY, read, rows_of
from tests.support.worker import AtWork
from workers.fetch_call import fetch_call
from workers.heal_pauses import refresh_grant
from workers.leadway.credentials import GRANT
from workers.leadway.documents import read_call_log
from workers.read_page import read_page
from workers.reconciling.open_windows import open_windows
from workers.send_follow_up import send_follow_up

OF_THE_HOUSE = "loc_demo"
LEASE_SECONDS = 20
UNREAD = {"pending", "retried", "running", "lost-once", "not-found", "poison"}
READ_AGAIN = {"unsettled", "broken", "note-delayed", "kept-words", "replayed", "replayed-while-running"}
DEAD = {"not-found": "not_found", "poison": "poison", "broken": "broken", "note-dead": "contact_unknown"}
LEASED = {"running", "lost-once", "replayed-while-running", "note-running", "note-written", "regular"}
TO_SEND = {"pending", "delayed", "running", "written", "unclear", "absent-once", "throttled", "for-a-person", "dead"}
RENAMED = {
    "next_attempt_at": "due_at", "lost_alone": "lost_isolated", "runs_alone": "isolated", "error": "last_error",
    "created_at": "first_heard_at", "plans_follow_ups": "wants_follow_ups", "transferred": "agent_handoff",
}  # fmt: skip


@pytest.fixture
def made() -> Made:
    return read_made()


@pytest.fixture
def moved(empty_database_url: str) -> timedelta:
    """The old database is filled. By how much its times were moved."""
    return load(empty_database_url)


@pytest.fixture
def database_url(empty_database_url: str, moved: timedelta) -> str:
    """The old database after the upgrade."""
    migrate(empty_database_url, beside_processes=True)
    return empty_database_url


@dataclass(frozen=True)
class Upgraded:
    """The old database after the upgrade, to be read by many tests."""

    database: Database
    moved: timedelta

    def at(self, value: str | None) -> datetime | None:
        """The time of before, as it was loaded."""
        return None if value is None else datetime.fromisoformat(value) + self.moved


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def upgraded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upgraded]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('upgraded') / 'upgraded.db'}"
    else:
        url = request.getfixturevalue("postgres_server").create_database("upgraded")
    moved = load(url)
    migrate(url, beside_processes=True)
    with closing(Database(url, limits=COMMAND)) as database:
        yield Upgraded(database, moved)


def rows(database: Database, table: str) -> list[dict[str, Any]]:
    with database.reading() as connection:
        found = connection.execute(sa.text(f"SELECT * FROM {table}"))
        return [dict(row) for row in found.mappings()]


# What stands in the tables afterwards


def test_every_open_row_is_work_as_it_was_and_nothing_else_is(upgraded: Upgraded, made: Made) -> None:
    call_of = {row["follow_up_id"]: row["call_id"] for row in made.rows["follow_ups"]}
    found = {}
    for row in rows_of(upgraded.database, work_table):
        found[row["kind"], row["location_id"], call_of.get(row["subject"], row["subject"])] = row
    others = ("loc_grant", "loc_refreshing", "loc_paused", "loc_removed")
    assert set(found) == {
        *(("call", OF_THE_HOUSE, name) for name in UNREAD | READ_AGAIN),
        *(("call", location_id, f"of-{location_id}") for location_id in others[1:]),
        *(("follow_up", OF_THE_HOUSE, f"note-{name}") for name in TO_SEND),
        *(("window", OF_THE_HOUSE, slot) for slot in ("regular", "daily", "since", "burst")),
        *(("window", location_id, "regular") for location_id in others[:3]),
        ("backfill", OF_THE_HOUSE, "backfill:2020-01-01/2020-01-02+notes"),
        *(("grant", location_id, "") for location_id in others[:2]),
    }
    assert {name for (_, location_id, name), row in found.items() if row["lease_until"] is not None} == LEASED | {""}
    assert {name: row["dead_cause"] for (_, _, name), row in found.items() if row["dead_cause"]} == DEAD
    without_time = {name for (_, _, name), row in found.items() if row["due_at"] is None}
    assert without_time == {*DEAD, "note-for-a-person"}


def test_work_keeps_its_schedule_counters_and_fence(upgraded: Upgraded, made: Made) -> None:
    before = {
        "call": made.of("calls", "location_id", "call_id"),
        "follow_up": made.of("follow_ups", "location_id", "follow_up_id"),
        "window": {
            f"{row['location_id']} {row['slot']}": row
            for row in made.rows["reconciliations"]
            if "finished_at" not in row
        },
    }
    before["backfill"] = before["window"]
    checked = 0
    for row in rows_of(upgraded.database, work_table):
        if row["kind"] == "grant":
            continue
        old = before[row["kind"]][f"{row['location_id']} {row['subject']}"]
        for name in (
            "lane", "fence", "failures", "lost_leases", "lost_alone", "runs_alone", "attempts", "requested",
            "last_error", "running_on",
        ):  # fmt: skip
            if name in old:
                assert row[RENAMED.get(name, name)] == old[name], name
                checked += 1
        for name in ("next_attempt_at", "lease_until", "claimed_at"):
            assert row[RENAMED.get(name, name)] == upgraded.at(old.get(name)), name
        assert (row["enqueued_at"], row["enqueued_epoch"], row["lease_lost_at"]) == (None, None, None)
        request = [row["first_heard_at"], row["announced_at"], row["origin"], row["wants_follow_ups"]]
        if row["kind"] == "call" and "stored_at" not in old:
            assert request[:2] == [upgraded.at(old["created_at"]), upgraded.at(old.get("announced_at"))]
            assert request[2:] == [old["origin"], old["plans_follow_ups"]]
        else:
            assert request == [None] * 4
    assert checked > 150


def test_a_window_keeps_the_lane_of_its_kind_and_narrow_windows_end(upgraded: Upgraded, made: Made) -> None:
    lanes = {row["subject"].partition(":")[0]: row["lane"] for row in rows_of(upgraded.database, work_table)}
    assert {kind: lanes[kind] for kind in ("regular", "daily", "since", "burst", "backfill")} == {
        "regular": 3, "daily": 4, "since": 3, "burst": 0, "backfill": 4,
    }  # fmt: skip
    narrow = [row for row in rows(upgraded.database, "reconciliations") if row["kind"] == "narrow"]
    assert [(row["finished_at"] is not None, row["error"]) for row in narrow] == [
        (True, "left_to_the_regular_window")
    ] * 2
    listed = {row["reconciliation_id"] for row in rows(upgraded.database, "seen_ids")}
    assert listed == {row["reconciliation_id"] for row in made.rows["listed_calls"]}


def test_grants_are_refreshed_before_their_end_or_when_the_claim_on_them_runs_out(
    upgraded: Upgraded, made: Made
) -> None:
    work = {row["location_id"]: row for row in rows_of(upgraded.database, work_table) if row["kind"] == "grant"}
    expires_at = upgraded.at(made.of("accounts", "location_id")["loc_grant"]["token_expires_at"])
    grants = made.of("oauth_grants", "location_id")
    assert expires_at is not None
    assert work["loc_grant"]["due_at"] == expires_at - timedelta(seconds=60)
    assert work["loc_grant"]["lease_until"] is None
    assert work["loc_refreshing"]["due_at"] == upgraded.at(grants["loc_refreshing"]["refreshing_until"])
    assert work["loc_refreshing"]["lease_until"] == work["loc_refreshing"]["due_at"]
    for location_id, grant in grants.items():
        assert work[location_id]["fence"] == grant["refreshing"]


def test_the_next_fence_is_above_every_fence_of_before(upgraded: Upgraded, made: Made) -> None:
    greatest = max(
        *(row["fence"] for table in ("calls", "follow_ups", "reconciliations") for row in made.rows[table]),
        *(row["refreshing"] for row in made.rows["oauth_grants"]),
    )
    with upgraded.database.reading() as connection:
        assert connection.execute(sa.select(next_fence())).scalar_one() == greatest + 1


def test_stored_calls_keep_everything_and_the_document_only_what_has_no_column(upgraded: Upgraded, made: Made) -> None:
    stored = {row["call_id"]: row for row in rows_of(upgraded.database, calls_table)}
    before = {call_id: row for call_id, row in made.of("calls", "call_id").items() if "stored_at" in row}
    assert set(stored) == set(before)
    key = TokenCipher([ENCRYPTION_KEY]).fingerprint_key
    for call_id, old in before.items():
        row = stored[call_id]
        for name in (
            "location_id", "duration_seconds", "agent_id", "agent_deleted", "contact_id", "message_id", "from_number",
            "trial_call", "transferred", "summary", "transcript", "translation", "extracted_data", "origin",
            "plans_follow_ups", "read_from",
        ):  # fmt: skip
            assert row[RENAMED.get(name, name)] == old.get(name), (call_id, name)
        for name in ("started_at", "created_at", "announced_at", "stored_at", "settled_at", "read_at"):
            assert row[RENAMED.get(name, name)] == upgraded.at(old.get(name)), (call_id, name)
        assert (row["reading_fence"], row["erased_at"]) == (0, None)
        sources = {row[name] for name in ("contact_from", "summary_from", "transcript_from", "translation_from")}
        assert sources == {old["read_from"]}
        assert row["extracted_data_from"] == ("fetch" if old["read_from"] == "fetch" else None)
        if "document" not in old:
            assert call_id == "emptied"
            assert row["document"] is None
            assert row["emptied_at"] is not None
            continue
        read = read_call_log(old["document"], source=Source(old["read_from"]), redaction_key=key)
        told = (row["direction"], row["call_status"], row["to_number"], row["emptied_at"])
        assert told == (read.direction, read.call_status, read.to_number, None)
        document = dict(row["document"])
        if call_id == "wrong-typed":
            assert document.pop("transcript") == ["bot:Hi."], (
                "readable since then, so the column gets it with a reading"
            )
        assert document == read.document, call_id
    empty = {"executedCallActions", "extractedData"}
    assert set(stored["telling"]["document"]) == {"colour", "transcriptWithToolCalls", "", *empty}
    assert (stored["telling"]["direction"], stored["telling"]["to_number"]) == ("outbound", "34600000000")
    kept_words = stored["kept-words"]["document"]
    assert (kept_words["summary"], kept_words["transcript"]) == (123, ""), "the columns have an earlier reading's words"
    assert len(stored["wrong-typed"]["document"]) > 10
    assert set(stored["note-done"]["document"]) == {"translation", "extractedData"}


def test_each_call_has_its_day_and_hour_in_its_accounts_time_zone(upgraded: Upgraded, made: Made) -> None:
    zones = {row["location_id"]: ZoneInfo(row["time_zone"]) for row in made.rows["accounts"]}
    assert len(set(zones.values())) > 1
    for row in rows_of(upgraded.database, calls_table):
        local = row["started_at"] and row["started_at"].astimezone(zones[row["location_id"]])
        assert (row["local_day"], row["local_hour"]) == (local and local.date(), local and local.hour)


def test_follow_ups_keep_their_facts_and_none_runs(upgraded: Upgraded, made: Made) -> None:
    before = made.of("follow_ups", "follow_up_id")
    for row in rows_of(upgraded.database, follow_ups.follow_ups_table):
        old = before.pop(row["follow_up_id"])
        for name, value in row.items():
            if name == "status":
                assert value == ("pending" if old["status"] == "running" else old["status"])
            elif isinstance(value, datetime):
                assert value == upgraded.at(old[name]), name
            elif name == "life":
                assert value == 0
            else:
                assert value == old.get(name), name
    assert before == {}


def test_the_history_is_of_the_work_it_belongs_to(upgraded: Upgraded, made: Made) -> None:
    found = [(row["kind"], row["subject"], row["fence"], row["outcome"]) for row in rows(upgraded.database, "attempts")]
    assert found == [
        (row["work"], row.get("follow_up_id", row["call_id"]), row["fence"], row["outcome"])
        for row in made.rows["attempts"]
    ]
    [follow_up] = read(upgraded.database, follow_ups.of_call, OF_THE_HOUSE, "note-done")
    told = read(upgraded.database, history.of_subjects, OF_THE_HOUSE, ["note-done", follow_up.follow_up_id])
    assert [each.kind for each in told] == ["call", "follow_up"]


def test_no_other_row_is_lost(upgraded: Upgraded, made: Made) -> None:
    tables = {"refusals": "rejection_counts"}
    for table in (
        "accounts", "attempts", "call_actions", "follow_ups", "heartbeats", "notifications", "oauth_grants", "pauses",
        "reconciliations", "refusals",
    ):  # fmt: skip
        assert len(rows(upgraded.database, tables.get(table, table))) == len(made.rows[table]), table


# What the product makes of it


TASKS = {CALL.name: fetch_call, FOLLOW_UP.name: send_follow_up, WINDOW.name: read_page, GRANT.name: refresh_grant}


def work_off(at_work: AtWork, *, rounds: int) -> None:
    """Does all that is due of the accounts that may go on, again and again, 45 s of the rows' time apart."""
    for _ in range(rounds):
        open_windows()
        for _ in range(10):
            with at_work.database.reading() as connection:
                accounts = dispatch_order.due_accounts(connection, ScanMemory())
                due = connection.execute(sa.select(work_table).where(IS_DUE).order_by(work_table.c.lane)).all()
            for row in due:
                if row.kind in TASKS and row.location_id in accounts:
                    TASKS[row.kind](row.location_id, row.subject)
        at_work.time_passes(45)


def test_a_worker_finishes_what_was_open_and_each_note_exists_once(
    at_work: AtWork, made: Made, moved: timedelta, double: LeadwayDouble
) -> None:
    place_everything(double, moved=moved - timedelta(minutes=15))  # none of the calls may grow any more
    work_off(at_work, rounds=15)
    left = {(row["kind"], row["subject"]) for row in at_work.rows("work") if row["kind"] != "grant"}
    of_calls = {row["follow_up_id"]: row["call_id"] for row in made.rows["follow_ups"]}
    assert {(kind, of_calls.get(subject, subject)) for kind, subject in left} == {
        ("call", "not-found"),  # Leadway never had it
        ("call", "of-loc_paused"), ("window", "regular"), ("call", "of-loc_removed"),
        ("backfill", "backfill:2020-01-01/2020-01-02+notes"),
        ("follow_up", "note-for-a-person"), ("follow_up", "note-dead"),
    }  # fmt: skip
    stored = {row["call_id"]: row for row in at_work.rows("calls")}
    assert set(stored) == {row["call_id"] for row in made.rows["calls"]} - {
        "not-found", "of-loc_paused", "of-loc_removed",
    }  # fmt: skip
    assert [call_id for call_id, row in stored.items() if row["settled_at"] is None] == []
    for row in at_work.rows("follow_ups"):
        name = row["call_id"].removeprefix("note-")
        owed = name in TO_SEND - {"for-a-person", "dead"} or name == "done"
        assert (row["status"] == "done") == owed, name
        assert len(at_work.notes(row["follow_up_id"])) == owed, name
    assert at_work.rows("accounts")[0]["complete_until"] > datetime.now(UTC) - timedelta(hours=1)


# An old process that lives on


class OldProcess:
    """Sends statements of 5fe07bd, as its driver got them, on connections that it opened before the upgrade."""

    def __init__(self, database_url: str) -> None:
        self.database = Database(database_url, limits=COMMAND)
        self.dialect = self.database.engine.dialect.name

    def send(self, what: str) -> int:
        """Returns how many rows changed. The transaction is committed."""
        sql, parameters = read_made().statements[f"{self.dialect}: {what}"]
        with self.database.transaction() as connection:
            return connection.exec_driver_sql(sql, parameters).rowcount


@pytest.fixture
def old_process(empty_database_url: str, moved: timedelta) -> Iterator[OldProcess]:
    process = OldProcess(empty_database_url)
    process.send("claim a call")  # it has a connection
    yield process
    process.database.close()


WHAT = ["announce a call", "claim a call", "finish a call", "claim a follow-up", "intend to write",
        "finish a follow-up", "claim a window", "claim a refresh"]  # fmt: skip


def test_an_old_process_that_lives_on_can_neither_claim_nor_finish_nor_announce(
    empty_database_url: str, old_process: OldProcess
) -> None:
    migrate(empty_database_url, beside_processes=True)
    before = everything(empty_database_url)
    for what in WHAT:
        with pytest.raises(sa.exc.DBAPIError, match="column"):
            old_process.send(what)
    assert everything(empty_database_url) == before


def test_a_worker_frozen_after_its_post_writes_nothing_when_it_thaws_and_its_note_is_found(
    empty_database_url: str, old_process: OldProcess, database_url: str, at_work: AtWork, made: Made, moved: timedelta
) -> None:
    place_everything(at_work.double, moved=moved)
    [follow_up] = read(at_work.database, follow_ups.of_call, OF_THE_HOUSE, "note-written")
    reference = follow_up.follow_up_id
    assert at_work.send(reference).status == "running", "the lease of the frozen worker holds"
    with pytest.raises(sa.exc.DBAPIError, match="column"):
        old_process.send("finish a follow-up")
    at_work.time_passes(LEASE_SECONDS + 1)
    row = at_work.send(reference)
    assert (row.status, row.lost_leases) == (FollowUpState.UNCLEAR, 0)
    assert at_work.attempts_of(reference) == ["lease_lost"]
    row = at_work.send_when_due(reference)
    [note] = at_work.notes(reference)
    assert (row.status, row.remote_id) == ("done", note.note_id)
    assert at_work.requests("create_note") == []


# The stop, and a crash


def test_the_upgrade_is_refused_beside_a_live_process_and_changes_nothing(
    empty_database_url: str, moved: timedelta
) -> None:
    migrate(empty_database_url, revision="0006", beside_processes=True)
    before = everything(empty_database_url)
    with pytest.raises(StopNeeded, match=r"0007 .*worker-1@there"):
        migrate(empty_database_url)
    assert everything(empty_database_url) == before


@pytest.mark.parametrize("dies_before", ["INSERT INTO work", "DROP TABLE calls", "UPDATE alembic_version"])
def test_an_upgrade_that_is_killed_changes_nothing_and_can_be_repeated(
    empty_database_url: str, moved: timedelta, dies_before: str
) -> None:
    migrate(empty_database_url, revision="0006", beside_processes=True)
    before = everything(empty_database_url)
    process = multiprocessing.get_context("spawn").Process(target=migrate_until, args=(empty_database_url, dies_before))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert everything(empty_database_url) == before
    migrate(empty_database_url, beside_processes=True)
    with closing(Database(empty_database_url, limits=COMMAND)) as database:
        assert is_current(database)


def migrate_until(database_url: str, beginning: str) -> None:
    """In a process of its own, which is killed just before it sends such a statement."""

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def die(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith(beginning):
            os.kill(os.getpid(), signal.SIGKILL)

    migrate(database_url, beside_processes=True)


def everything(database_url: str) -> dict[str, list[Any]]:
    """Every row of every table."""
    with closing(Database(database_url, limits=COMMAND)) as database:
        names = sa.inspect(database.engine).get_table_names()
        return {name: sorted(map(repr, rows(database, name))) for name in names}
