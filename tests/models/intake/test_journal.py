"""The journal: what the database could not take is there in a file, and then in the inbox, once."""

import shutil
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from models.accounts import accounts
from models.database import Database, moment
from models.intake import inbox, journal, quarantine, taken_arrivals
from models.intake.inbox import inbox_table
from models.intake.journal import Drain, Journal, JournalFull
from models.intake.notifications import Arrival, NotificationStatus, notifications_table
from tests.support.refusing import refusing_call
from tests.support.rows import LOCATION, on_postgresql, rows_of, write
from workers.take_in import take_in

pytestmark = on_postgresql
"""On SQLite the inbox is such a file itself."""


def arrival(name: str, *, call_id: str | None = None) -> Arrival:
    return Arrival(
        arrival_id=name, dedupe_key=f"key of {name}", dialect="thin", authenticated_by="intake_path",
        status=NotificationStatus.ACCEPTED, location_id=LOCATION, call_id=call_id or f"call of {name}",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def own(folder: Path) -> Iterator[Journal]:
    opened = Journal(folder)
    yield opened
    opened.close()


@pytest.fixture
def drain(folder: Path, database: Database) -> Iterator[Drain]:
    opened = Drain(folder, database)
    yield opened
    opened.close()


def arrival_ids(database: Database) -> list[str]:
    return [row["arrival_id"] for row in rows_of(database, inbox_table)]


def test_what_is_written_down_is_counted_with_its_age_and_nobody_else_may_read_it(
    database: Database, own: Journal, folder: Path
) -> None:
    assert journal.waiting(folder).number == 0
    own.put_all([arrival("one"), arrival("two")])
    waiting = journal.waiting(folder)
    assert (waiting.number, 0 <= waiting.oldest_seconds < 30) == (2, True)
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_it_goes_into_the_inbox_in_its_order_and_leaves_the_file(
    own: Journal, drain: Drain, database: Database
) -> None:
    numbers = range(inbox.ARRIVALS_AT_ONCE + 3)
    own.put_all([arrival(f"{number:03}") for number in numbers])
    assert drain.drain() == len(numbers)
    assert arrival_ids(database) == [f"{number:03}" for number in numbers]
    assert journal.waiting(own.file.parent).number == 0
    assert rows_of(database, taken_arrivals.taken_arrivals_table) == []
    assert drain.drain() == 0


def test_each_process_has_a_file_of_its_own_and_that_of_a_dead_one_is_emptied_and_used_again(
    own: Journal, folder: Path, drain: Drain, database: Database
) -> None:
    other = Journal(folder)
    assert other.file != own.file
    other.put_all([arrival("of a process that dies")])
    other.close()
    assert drain.drain() == 1
    assert arrival_ids(database) == ["of a process that dies"]
    third = Journal(folder)
    assert third.file == other.file
    third.close()


def test_a_crash_before_the_deletion_takes_nothing_in_twice(
    own: Journal, drain: Drain, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    own.put_all([arrival("one"), replace(arrival("two"), dedupe_key="key of one")])
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(inbox, "delete", crash)
            with pytest.raises(Crash):
                drain.drain()
        take_in(database)
    drain.drain()
    take_in(database)
    assert [row["repeats"] for row in rows_of(database, notifications_table)] == [1]
    assert journal.waiting(own.file.parent).number == 0


def test_while_the_database_is_away_it_all_stays(database: Database, own: Journal, folder: Path) -> None:
    own.put_all([arrival("one")])
    away = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    drain = Drain(folder, away)
    with pytest.raises(sa.exc.SQLAlchemyError):
        drain.drain()
    assert journal.waiting(folder).number == 1
    drain.close()
    away.close()


def test_a_row_that_the_database_refuses_stops_no_other(own: Journal, drain: Drain, database: Database) -> None:
    own.put_all([arrival("one"), arrival("two", call_id="bad"), arrival("three")])
    with refusing_call(database, "inbox", "bad"):
        assert drain.drain() == 3
    assert arrival_ids(database) == ["one", "three"]
    [aside] = rows_of(database, quarantine.quarantine_table)
    assert (aside["arrival_id"], aside["error"], b"bad" in aside["raw"]) == ("two", "IntegrityError", True)
    assert journal.waiting(own.file.parent).number == 0


def test_a_file_that_cannot_be_read_stops_no_other(
    folder: Path, own: Journal, drain: Drain, database: Database
) -> None:
    own.put_all([arrival("one")])
    (folder / "journal--1.db").write_bytes(b"not a database, whatever its name says" * 100)
    (folder / "journal-7.db").write_bytes(b"no more than this" * 100)
    assert drain.drain() == 1
    assert arrival_ids(database) == ["one"]


def test_times_are_the_databases_although_the_host_has_another_clock(
    own: Journal, drain: Drain, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after two minutes in the journal of a host whose clock is an hour behind."""
    own.put_all([arrival("one")])
    with own._database.transaction() as connection:
        connection.execute(sa.update(inbox_table).values(received_at=moment(-3600 - 120)))
    real_now = journal.now

    def now(connection: sa.Connection) -> datetime:
        is_of_host = connection.engine.url.database == str(own.file)
        return real_now(connection) - timedelta(hours=1 if is_of_host else 0)

    monkeypatch.setattr(journal, "now", now)
    drain.drain()
    with database.reading() as connection:
        assert 115 < inbox.waiting(connection).oldest_seconds < 180


def test_it_has_a_bound_and_leaves_room_on_the_disk(
    database: Database, own: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(journal, "LARGEST_BYTES", 100_000)
        own.put_all([replace(arrival(str(number)), document={"x": "x" * 10_000}) for number in range(20)])
        with pytest.raises(JournalFull, match="bound"):
            own.put_all([arrival("one too many")])
    usage = shutil.disk_usage(own.file.parent)
    monkeypatch.setattr(journal.shutil, "disk_usage", lambda _: usage._replace(free=journal.SPARE_BYTES - 1))
    with pytest.raises(JournalFull, match="disk"):
        own.put_all([arrival("one more")])


def test_an_account_that_was_removed_meanwhile_is_ignored_when_its_row_is_taken_in(
    own: Journal, drain: Drain, database: Database
) -> None:
    own.put_all([arrival("one")])
    write(database, accounts.remove, LOCATION)
    drain.drain()
    take_in(database)
    assert [row["status"] for row in rows_of(database, notifications_table)] == ["ignored"]
