"""The second of three harnesses: a worker in this process, with its Redis, its Leadway and a clock to be moved."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from models import schema
from models.accounts import accounts
from models.calls import calls
from models.calls.calls import calls_table
from models.database import Database, UtcDateTime, moment
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp
from models.reconciling import schedule, windows
from models.reconciling.windows import WindowKind
from models.settings import Settings
from models.work.work_rows import WorkKey
from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.nouns import Note, PlacedCall, SeenRequest
from tests.support.rows import (
    Standing,
    change,
    dead_letter_call,
    follow_up_row,
    make_due,
    read,
    rows_of,
    seconds_until,
    standing_call,
    write,
)
from workers.app import app
from workers.fetch_call import fetch_call
from workers.process.broker import connect_broker
from workers.process.connections import Connections, open_connections
from workers.read_page import read_to_end
from workers.send_follow_up import send_follow_up

SETTLE_SECONDS = 120.0
RETRY_SECONDS = 5.0
QUICK_LEASE = 1.5
"""For tests in which Leadway hangs: an attempt is given up after 0.9 s."""
HOUR = 3600.0
DAY = 24 * HOUR
TOLERATED = 4.0
"""Seconds by which a due time may differ: the machine may be busy."""
STAYS = {("calls", "started_at")}
"""Leadway's times, not ours."""


class AtWork:
    """One worker process. Nothing waits: `time_passes` moves every time that our rows hold into the past."""

    def __init__(self, settings: Settings, double: LeadwayDouble) -> None:
        self.settings, self.double, self.location_id = settings, double, double.location_id
        self.said: list[Any] = []
        """What was logged."""
        self.this: Connections = open_connections(settings, worker="worker-1")

    @property
    def database(self) -> Database:
        return self.this.database

    def use_rules(self, text: str, folder: Path) -> None:
        self.settings.leadway_rules_file = folder / "rules.toml"
        self.settings.leadway_rules_file.write_text(text)
        self.this.close()
        self.this = open_connections(self.settings, worker="worker-1")

    # Calls

    def announce(self, call: PlacedCall | str, **how: Any) -> None:
        write(self.database, calls.announce, self.location_id, _id(call), **how)

    def fetch(self, call: PlacedCall | str) -> Standing:
        """One attempt; returns the row afterwards."""
        fetch_call(self.location_id, _id(call))
        return self.call(call)

    def fetch_when_due(self, call: PlacedCall | str) -> Standing:
        self._let_come(self.call(call).due_at)
        return self.fetch(call)

    def fetched(self, **wish: Any) -> PlacedCall:
        """A call that was placed, announced and fetched."""
        call = self.double.place_call(**{"language": "en", "contact": True, **wish})
        self.announce(call)
        self.fetch(call)
        return call

    def call(self, call: PlacedCall | str) -> Standing:
        row = self.maybe_call(call)
        assert row is not None
        return row

    def replay(self, call: PlacedCall | str) -> None:
        """A person asks for another reading."""
        assert write(self.database, calls.replay, self.location_id, _id(call))

    def dead_letter(self, call: PlacedCall | str, *, cause: str) -> None:
        dead_letter_call(self.database, _id(call), cause=cause, location_id=self.location_id)

    def maybe_call(self, call: PlacedCall | str) -> Standing | None:
        return standing_call(self.database, _id(call), location_id=self.location_id)

    # Follow-ups

    def owed(self, **wish: Any) -> str:
        """The id of the one follow-up of a new call: by default a note about a transfer."""
        call = self.fetched(**{"actions": ["CALL_TRANSFER"], **wish})
        [row] = self.follow_ups_of(call)
        return row.follow_up_id

    def follow_ups_of(self, call: PlacedCall | str) -> list[FollowUp]:
        return read(self.database, follow_ups.of_call, self.location_id, _id(call))

    def send(self, follow_up_id: str) -> Standing:
        send_follow_up(self.location_id, follow_up_id)
        return self.follow_up(follow_up_id)

    def send_when_due(self, follow_up_id: str) -> Standing:
        self._let_come(self.follow_up(follow_up_id).due_at)
        return self.send(follow_up_id)

    def follow_up(self, follow_up_id: str) -> Standing:
        return follow_up_row(self.database, follow_up_id)

    def notes(self, containing: str) -> list[Note]:
        return self.double.truth.notes(containing=containing)

    def requests(self, *kinds: str) -> list[SeenRequest]:
        return [each for each in self.double.truth.requests() if not kinds or each.kind in kinds]

    # Rows and time

    def account(self) -> accounts.Account:
        return read(self.database, accounts.get, self.location_id)

    def pauses(self) -> set[tuple[str, str]]:
        return {(row["cause"], row["work"]) for row in self.rows("pauses")}

    def rows(self, table: str) -> list[sa.RowMapping]:
        return rows_of(self.database, schema.metadata.tables[table])

    def attempts_of(self, key: str) -> list[str]:
        """The outcomes of a call's or a follow-up's tries, in order."""
        return [row["outcome"] for row in self.rows("attempts") if key == row["subject"]]

    def call_key(self, call: PlacedCall | str) -> WorkKey:
        return calls.work_key(self.location_id, _id(call))

    def follow_up_key(self, follow_up_id: str) -> WorkKey:
        return follow_ups.work_key(self.location_id, follow_up_id)

    def change(self, key: WorkKey, **values: Any) -> None:
        change(self.database, key, **values)

    def change_call(self, call: PlacedCall | str, **values: Any) -> None:
        """Of the stored call."""
        this = sa.and_(calls_table.c.location_id == self.location_id, calls_table.c.call_id == _id(call))
        with self.database.transaction() as connection:
            assert connection.execute(sa.update(calls_table).where(this).values(**values)).rowcount == 1

    def make_due(self, follow_up_id: str) -> None:
        make_due(self.database, self.follow_up_key(follow_up_id))

    def seconds_until(self, then: datetime) -> float:
        return seconds_until(self.database, then)

    def time_passes(self, seconds: float) -> None:
        """For our rows, for the double, and for the budget, which forgets its holds."""
        with self.database.transaction() as connection:
            for name in ("calls", "work", "follow_ups", "accounts", "pauses", "notifications", "lives"):
                _move_back(connection, schema.metadata.tables[name], timedelta(seconds=seconds))
        memory, span = self.this.scan_memory, timedelta(seconds=seconds)
        for name in ("scanned_at", "from_beginning_at", "oldest_at"):
            setattr(memory, name, getattr(memory, name) - span)
        self.double.set_clock(self.double.memory.clock_offset + seconds)
        for key in self.this.redis.scan_iter("leadway:budget:*"):
            self.this.redis.delete(key)

    def _let_come(self, then: datetime | None) -> None:
        assert then is not None, "nothing will happen by itself"
        self.time_passes(max(0.0, self.seconds_until(then)) + 0.002)


def _id(call: PlacedCall | str) -> str:
    return call if isinstance(call, str) else call.call_id


def _move_back(connection: Any, table: sa.Table, span: timedelta) -> None:
    names = [c.name for c in table.c if isinstance(c.type, UtcDateTime) and (table.name, c.name) not in STAYS]
    for row in connection.execute(sa.select(table)).mappings():
        moved = {name: row[name] - span for name in names if row[name] is not None}
        if moved:
            this = sa.and_(*(column == row[column.name] for column in table.primary_key))
            connection.execute(sa.update(table).where(this).values(moved))


def connect_anew(settings: Settings) -> None:
    """As a worker process connects when it starts, whatever this process was connected to before."""
    app.conf.update(task_publish_retry=True, broker_pool_limit=10)
    connect_broker(settings)
    forget_connections()


def forget_connections() -> None:
    """Makes this process connect to Redis anew when it publishes next. Celery offers no public function for it."""
    app._after_fork()


# Reading Leadway's list


def was_served_since(at_work: AtWork, seconds: float) -> None:
    """The account was added `seconds` ago and is complete until then."""
    with at_work.database.transaction() as connection:
        then = moment(-seconds)
        connection.execute(
            sa.update(accounts.accounts_table).values(
                added_at=then, complete_from=then, complete_until=then, next_reconcile_at=None
            )
        )


def reconcile(at_work: AtWork, *, margin_seconds: float = 0.0) -> list[sa.RowMapping]:
    """One regular run until now; returns the ledger."""
    with at_work.database.transaction() as connection:
        now = connection.execute(sa.select(moment(-margin_seconds))).scalar_one()
        schedule.open_regular(connection, at_work.location_id, until=now)
    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    return ledger(at_work)


def backfill(at_work: AtWork, *, days: float, follow_ups: bool = False) -> list[sa.RowMapping]:
    with at_work.database.transaction() as connection:
        now = connection.execute(sa.select(moment())).scalar_one()
        windows.open_run(
            connection, at_work.location_id, kind=WindowKind.BACKFILL, since=now - timedelta(days=days), until=now,
            wants_follow_ups=follow_ups,
        )  # fmt: skip
    read_to_end(at_work.this, at_work.location_id, WindowKind.BACKFILL)
    return ledger(at_work)


def ledger(at_work: AtWork) -> list[sa.RowMapping]:
    return at_work.rows("reconciliations")
