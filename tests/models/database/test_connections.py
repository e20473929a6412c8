"""The database: its clock, its times, and what a transaction survives."""

import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from models.accounts import accounts, circuit_breaker
from models.calls import calls
from models.database import WEB, WORKER, Database, UtcDateTime, earlier_of, moment
from models.intake import notifications
from models.work import heartbeats as beats
from models.work import history, lifecycle
from models.work.heartbeats import heartbeats_table
from models.work.lifecycle import LeaseLost, claim
from models.work.work_rows import NEW, work_table
from tests.support.rows import LOCATION, announce, claimed_call, receive, rows_of, write
from tests.support.waiting import eventually
from workers.take_in import take_in

INSTANTS = [
    datetime(2000, 1, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2024, 5, 6, 7, 8, 9, 1, tzinfo=timezone(timedelta(hours=5, minutes=45))),
    datetime(2024, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1))),
    datetime(2199, 12, 31, 12, 0, tzinfo=timezone(-timedelta(hours=9))),
]


def put(database: Database, name: str, instant: Any) -> None:
    with database.transaction() as connection:
        values = {"name": name, "process": "web", "slots": 0, "started_at": instant, "beat_at": instant}
        connection.execute(sa.insert(heartbeats_table).values(values))


def ask(database: Database, *what: Any) -> sa.Row[Any]:
    with database.reading() as connection:
        return connection.execute(sa.select(*what)).one()


def test_an_instant_comes_back_as_the_same_instant_in_utc(database: Database) -> None:
    for number, instant in enumerate(INSTANTS):
        put(database, str(number), instant)
    for number, row in enumerate(rows_of(database, heartbeats_table)):
        assert row["beat_at"] == INSTANTS[number]
        assert row["beat_at"].tzinfo is UTC


def test_instants_are_compared_and_ordered_as_instants(database: Database) -> None:
    for number, instant in enumerate(INSTANTS):
        put(database, str(number), instant)
    column = heartbeats_table.c.beat_at
    with database.reading() as connection:
        assert list(connection.execute(sa.select(column).order_by(column)).scalars()) == sorted(INSTANTS)
        for instant in INSTANTS:
            earlier = connection.execute(sa.select(sa.func.count()).where(column < instant)).scalar_one()
            assert earlier == sum(each < instant for each in INSTANTS)
            same = connection.execute(sa.select(heartbeats_table.c.name).where(column == instant)).scalars().all()
            assert same == [str(INSTANTS.index(instant))]
        past = connection.execute(sa.select(sa.func.count()).where(column <= moment())).scalar_one()
        assert past == len(INSTANTS) - 1


def test_an_instant_without_a_zone_is_refused(database: Database) -> None:
    with pytest.raises(sa.exc.StatementError, match="time zone"):
        put(database, "naive", datetime(2024, 1, 1))  # noqa: DTZ001


def test_no_instant_is_no_instant(database: Database) -> None:
    assert ask(database, sa.null().cast(UtcDateTime))[0] is None


def test_the_clock_agrees_with_itself(database: Database) -> None:
    now, later, earlier, far = ask(database, moment(), moment(60), moment(-0.25), moment(86_400 * 400))
    assert now.tzinfo is UTC
    assert later - now == timedelta(seconds=60)
    assert now - earlier == timedelta(seconds=0.25)
    assert far - now == timedelta(days=400)
    assert abs(datetime.now(UTC) - now) < timedelta(seconds=30)


def test_seconds_may_come_from_a_column(database: Database) -> None:
    put(database, "one", moment())
    with database.transaction() as connection:
        seconds = sa.case((heartbeats_table.c.slots == 0, 90), else_=30.5)
        connection.execute(sa.update(heartbeats_table).values(beat_at=moment(seconds)))
    (row,) = rows_of(database, heartbeats_table)
    assert 80 < (row["beat_at"] - row["started_at"]).total_seconds() < 120


def test_the_clock_goes_on_within_a_transaction(database: Database) -> None:
    with database.transaction() as connection:
        first = connection.execute(sa.select(moment())).scalar_one()
        time.sleep(0.01)
        assert connection.execute(sa.select(moment())).scalar_one() > first


def test_what_the_clock_wrote_is_read_compared_and_written_again_without_change(database: Database) -> None:
    put(database, "one", moment())
    (row,) = rows_of(database, heartbeats_table)
    put(database, "two", row["beat_at"])
    with database.reading() as connection:
        same = connection.execute(
            sa.select(sa.func.count()).where(heartbeats_table.c.beat_at == row["beat_at"])
        ).scalar_one()
    assert same == 2


def test_the_earlier_of_two_times_is_the_other_where_one_is_missing(database: Database) -> None:
    with database.reading() as connection:
        both = (INSTANTS[0], sa.null())
        early, late = (sa.literal(each, UtcDateTime) for each in INSTANTS[:2])
        assert connection.execute(sa.select(earlier_of(connection, early, late))).scalar_one() == both[0]
        assert connection.execute(sa.select(earlier_of(connection, late, early))).scalar_one() == both[0]
        nothing = sa.null().cast(UtcDateTime)
        assert connection.execute(sa.select(earlier_of(connection, nothing, late))).scalar_one() == INSTANTS[1]


def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    def work(connection: sa.Connection) -> None:
        accounts.add(connection, "loc-two")
        raise KeyError

    with pytest.raises(KeyError):
        database.transact(work)
    assert [row["location_id"] for row in rows_of(database, accounts.accounts_table)] == [LOCATION]


def test_a_bug_or_a_broken_rule_of_the_schema_is_not_repeated(database: Database) -> None:
    runs = []

    def work(connection: sa.Connection) -> None:
        runs.append(1)
        connection.execute(sa.insert(accounts.accounts_table).values(location_id=LOCATION, added_at=moment()))

    with pytest.raises(IntegrityError):
        database.transact(work)
    assert len(runs) == 1


def test_a_transaction_that_goes_on_failing_raises_at_last(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.database.connections.RETRY_PAUSE_SECONDS", 0)
    runs = []

    def work(_: sa.Connection) -> None:
        runs.append(1)
        raise OperationalError("", {}, Exception("down"))

    with pytest.raises(OperationalError):
        database.transact(work)
    assert len(runs) == WORKER.retries + 1


def test_a_transaction_whose_connection_postgresql_ends_is_repeated_whole(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    runs = []

    def work(connection: sa.Connection) -> int:
        runs.append(1)
        accounts.add(connection, f"loc-{len(runs)}")
        if len(runs) == 1:
            pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
            with psycopg.connect(postgresql_url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        return connection.execute(sa.select(sa.func.count()).select_from(accounts.accounts_table)).scalar_one()

    assert database.transact(work) == 1, "what the first run wrote is gone"
    assert len(runs) == 2
    assert [row["location_id"] for row in rows_of(database, accounts.accounts_table)] == ["loc-2"]
    database.close()


def test_a_restart_of_postgresql_while_idle_is_not_noticed(postgresql_url: str) -> None:
    database = Database(postgresql_url, limits=WEB)
    ask(database, moment())
    with psycopg.connect(postgresql_url, autocommit=True) as other:
        ours = "FROM pg_stat_activity WHERE application_name = 'leadway-calls'"
        other.execute(f"SELECT pg_terminate_backend(pid) {ours}")
        eventually(lambda: other.execute(f"SELECT count(*) {ours}").fetchone() == (0,), describe="connections to end")
    with database.transaction() as connection:  # the web process repeats nothing, so it must not need to
        accounts.add(connection, LOCATION)
    database.close()


def lose_the_answer_to_the_next_commit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    dialect = database.engine.dialect
    commit = dialect.do_commit

    def commit_and_lose(connection: Any) -> None:
        monkeypatch.undo()
        commit(connection)
        raise dialect.dbapi.OperationalError("server closed the connection unexpectedly")  # type: ignore[union-attr]

    monkeypatch.setattr(dialect, "do_commit", commit_and_lose)


def test_a_commit_whose_answer_was_lost_is_harmless_when_it_is_run_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive(database, "one", call_id="1")
    lose_the_answer_to_the_next_commit(database, monkeypatch)
    take_in(database)
    assert [row["repeats"] for row in rows_of(database, notifications.notifications_table)] == [0]
    assert [(row["subject"], row["requested"]) for row in rows_of(database, work_table)] == [("1", 1)]


def test_a_completion_whose_answer_was_lost_is_completed_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = claimed_call(database)
    lose_the_answer_to_the_next_commit(database, monkeypatch)
    with pytest.raises(LeaseLost):
        database.transact(lambda connection: lifecycle.complete(connection, claim))
    assert rows_of(database, work_table) == []
    assert len(rows_of(database, history.attempts_table)) == 1


def held_open(database: Database, until: threading.Event) -> threading.Thread:
    """Another writer that holds the account's row, and on SQLite everything."""
    holds = threading.Event()

    def hold() -> None:
        with database.transaction() as connection:
            connection.execute(sa.update(accounts.accounts_table).values(name="held"))
            holds.set()
            until.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert holds.wait(10)
    return thread


def test_the_web_process_gives_up_on_a_lock_while_it_is_still_held(database: Database, database_url: str) -> None:
    until = threading.Event()
    thread = held_open(database, until)
    web = Database(database_url, limits=WEB)
    try:
        with pytest.raises(OperationalError, match="lock"), web.transaction() as connection:
            connection.execute(sa.update(accounts.accounts_table).values(name="web"))
        assert thread.is_alive()
    finally:
        until.set()
        thread.join()
        web.close()
    assert rows_of(database, accounts.accounts_table)[0]["name"] == "held"


def test_a_worker_waits_for_a_lock(database: Database) -> None:
    until = threading.Event()
    thread = held_open(database, until)
    threading.Timer(0.3, until.set).start()
    database.transact(lambda connection: circuit_breaker.record_outage(connection, LOCATION, first_seconds=5))
    thread.join()
    assert rows_of(database, accounts.accounts_table)[0]["outages_in_a_row"] == 1


def test_a_reader_waits_for_no_writer_and_no_writer_for_a_reader(database: Database) -> None:
    until = threading.Event()
    with database.reading() as connection:
        assert connection.execute(sa.select(accounts.accounts_table.c.name)).scalar_one() == ""
        thread = held_open(database, until)
        assert connection.execute(sa.select(accounts.accounts_table.c.name)).scalar_one() == "", "not committed yet"
        until.set()
        thread.join()
        assert connection.execute(sa.select(accounts.accounts_table.c.name)).scalar_one() == "held"


def test_after_reading_a_connection_still_begins_with_the_write_lock(sqlite_url: str) -> None:
    database = Database(sqlite_url, limits=WEB)
    with database.reading() as connection:
        connection.execute(sa.select(accounts.accounts_table)).all()
    with database.transaction() as connection:
        connection.execute(sa.select(accounts.accounts_table)).all()
        other = Database(sqlite_url, limits=WEB)
        with pytest.raises(OperationalError, match="locked"), other.transaction() as second:
            second.execute(sa.select(accounts.accounts_table)).all()
        other.close()
    database.close()


def test_sqlite_is_set_up_to_lose_nothing(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    with database.reading() as connection:
        found = [
            connection.execute(sa.text(f"PRAGMA {name}")).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]
    database.close()


def test_a_statement_that_takes_longer_than_the_web_process_waits_is_cancelled(postgresql_url: str) -> None:
    database = Database(postgresql_url, limits=WEB)
    with database.reading() as connection, pytest.raises(OperationalError, match="statement timeout"):
        connection.execute(sa.text("SELECT pg_sleep(20)"))
    database.close()


def test_times_are_told_in_utc_whatever_zone_the_server_has(postgresql_url: str) -> None:
    with psycopg.connect(postgresql_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE postgres SET timezone = 'Asia/Kathmandu'")
    database = Database(postgresql_url)
    with closing(database), psycopg.connect(postgresql_url, autocommit=True) as other, database.reading() as connection:
        assert other.execute("SHOW timezone").fetchone() == ("Asia/Kathmandu",)
        other.execute("ALTER ROLE postgres RESET timezone")
        assert connection.execute(sa.text("SELECT now()")).scalar_one().utcoffset() == timedelta()


SECRET_WORDS = "the caller said something private"


WORK_VALUES = {**NEW, "kind": "call", "location_id": LOCATION, "subject": SECRET_WORDS, "lane": 0}
ACTION_VALUES = {
    "location_id": LOCATION, "call_id": SECRET_WORDS, "action_key": "x", "action_type": "x", "action_name": "x",
    "position": 0, "parameters": {},
}  # fmt: skip
BREAKING = {
    "a key that is taken": sa.insert(work_table).values(WORK_VALUES),
    "a missing value": sa.insert(work_table).values(
        {**WORK_VALUES, "subject": "call-2", "lane": None, "last_error": SECRET_WORDS}
    ),
    "a key of nothing": sa.insert(calls.call_actions_table).values({**ACTION_VALUES, "location_id": "loc-two"}),
    "a wrong column": sa.text("SELECT * FROM calls WHERE nothing = :words").bindparams(words=SECRET_WORDS),
}


@pytest.mark.parametrize("statement", BREAKING.values(), ids=list(BREAKING))
def test_no_error_text_quotes_what_was_written(database: Database, statement: sa.Executable) -> None:
    announce(database, SECRET_WORDS)
    with database.engine.connect() as connection, pytest.raises(DBAPIError) as raised:
        connection.execute(statement)
    error: BaseException | None = raised.value
    while error is not None:
        assert SECRET_WORDS not in str(error)
        assert SECRET_WORDS not in repr(error)
        error = error.__cause__ or error.__context__


def test_a_new_sqlite_file_is_opened_though_somebody_is_writing_to_it(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "new.db", isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE a (b)")
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.2, other.execute, ("COMMIT",)).start()
    with closing(Database(f"sqlite:///{tmp_path / 'new.db'}")) as database, database.reading() as connection:
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar_one() == "wal"
    other.close()


# Processes of their own: what ours do to the database all day


def be_web(url: str, name: str, seconds: float) -> list[str]:
    """Writes notifications down; returns the errors it saw.

    It waits for the lock no longer than the sender of a notification does; then it is asked again.
    """
    return _be_busy(Database(url, limits=WEB), _receive, name, seconds)


def be_worker(url: str, name: str, seconds: float) -> list[str]:
    """Takes in, claims and finishes calls; returns the errors it saw."""
    return _be_busy(Database(url, limits=WORKER), _work, name, seconds)


def _be_busy(database: Database, act: Callable[[Database, str, int], None], name: str, seconds: float) -> list[str]:
    errors: list[str] = []
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline:
        number += 1
        started = time.monotonic()
        try:
            act(database, name, number)
        except DBAPIError as error:
            if database.limits is WORKER or time.monotonic() - started < WEB.lock:
                errors.append(str(error.orig))
        time.sleep(0.02)
    database.close()
    return errors


def _receive(database: Database, name: str, number: int) -> None:
    receive(database, f"{name}-{number}", call_id=f"{name}-{number}")


def _work(database: Database, name: str, number: int) -> None:
    database.transact(lambda connection: beats.beat(connection, name, process="worker"))
    take_in(database)
    with database.reading() as connection:
        subjects = connection.execute(sa.select(work_table.c.subject).limit(3)).scalars().all()
    for subject in subjects:
        key = calls.work_key(LOCATION, subject)
        got = claim(database.transact, key, lease_seconds=60, deadline_seconds=20, worker=name)
        if got is not None:
            database.transact(lambda connection, mine=got: lifecycle.complete(connection, mine))  # type: ignore[misc]


def test_two_web_and_four_worker_processes_write_to_one_sqlite_file_and_none_finds_it_locked(sqlite_url: str) -> None:
    """None without having waited for it: a lock that cannot be waited for (SQLITE_BUSY at once) would be a bug."""
    database = Database(sqlite_url)
    write(database, accounts.add, LOCATION)
    with ProcessPoolExecutor(6, mp_context=multiprocessing.get_context("spawn")) as processes:
        running = [processes.submit(be_web, sqlite_url, f"web-{n}", 3.0) for n in range(2)]
        running += [processes.submit(be_worker, sqlite_url, f"worker-{n}", 3.0) for n in range(4)]
        assert [error for each in running for error in each.result(60)] == []
    take_in(database)
    heard_of = {row["call_id"] for row in rows_of(database, notifications.notifications_table)}
    attempts = rows_of(database, history.attempts_table)
    completed = [row["subject"] for row in attempts]
    assert len(completed) == len(set(completed)) > 0, "each was completed once"
    assert heard_of == {*completed, *(row["subject"] for row in rows_of(database, work_table))}
    assert len({row["fence"] for row in attempts}) == len(attempts)
    assert Path(sqlite_url.removeprefix("sqlite:///")).exists()
    database.close()
