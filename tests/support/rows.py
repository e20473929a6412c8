"""The first of three harnesses: rows in a database, each written by the function of the product that writes it.

Functions take the database first and stand alone; `LOCATION` is the account that the fixture `database` serves.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4

import pytest
import sqlalchemy as sa

from models.accounts import accounts, circuit_breaker
from models.accounts.token_encryption import TokenCipher
from models.calls import calls, storing
from models.calls.call_log import Action, CallLog, Source
from models.calls.calls import Call
from models.calls.storing import ReadByClaim, Reading, Stored
from models.database import Database, moment
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp, FollowUpState
from models.follow_ups.rules import FollowUpKind, PlannedFollowUp, SkipReason, follow_ups_for
from models.follow_ups.rules_file import load_rules
from models.intake import inbox
from models.intake.notifications import Arrival, NotificationStatus
from models.work import lifecycle, open_work
from models.work.history import Outcome
from models.work.lifecycle import Claim, claim
from models.work.open_work import OpenWork
from models.work.work_rows import IS_THIS_ROW, WorkKey, WorkStatus, work_table
from tests.support.waiting import eventually
from workers.take_in import take_in

T = TypeVar("T")

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what cannot differ between databases, as the table of answers."""
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
"""For locks of rows: SQLite has one writer at a time."""

LOCATION = "ve9EPM428h8vShlRW1KT"
ENCRYPTION_KEY = "yOOLGmZm2jPvkVC9FjV3pT0vU6T4nJX3XcD5xZ2s0bQ="
TOKEN = "pit-0c7a9e9e-1111-4222-8333-944455566677"
SECRET = "a-secret-that-nobody-else-has-0123456789"
STARTED_AT = datetime(2024, 5, 6, 7, 8, 9, 123000, tzinfo=UTC)
SUMMARY = "The caller booked a cleaning."
TRANSCRIPT = "bot:Hello.\nhuman:My name is Jane Roe"


# Accounts


def write(database: Database, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Calls a function of the models in a transaction of its own."""
    with database.transaction() as connection:
        return function(connection, *arguments, **named)


def read(database: Database, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Calls a function of the models that only reads."""
    with database.reading() as connection:
        return function(connection, *arguments, **named)


def add_account(database: Database, location_id: str = LOCATION, **values: Any) -> None:
    """A served account with TOKEN and SECRET."""
    with database.transaction() as connection:
        accounts.add(connection, location_id, **values)
        accounts.set_token(connection, location_id, TOKEN, cipher=TokenCipher([ENCRYPTION_KEY]))
        accounts.set_secret(connection, location_id, SECRET)


def open_breaker_by_outages(database: Database) -> None:
    """Records outages of LOCATION until its circuit breaker is open."""
    for _ in range(circuit_breaker.OUTAGES_BEFORE_OPEN):
        write(database, circuit_breaker.record_outage, LOCATION, first_seconds=30.0)


def half_open_breaker(database: Database) -> None:
    """The circuit breaker of LOCATION has been open for long enough."""
    open_breaker_by_outages(database)
    with database.transaction() as connection:
        connection.execute(sa.update(accounts.accounts_table).values(open_until=moment(-1)))


# Calls


def announce(database: Database, *call_ids: str, location_id: str = LOCATION, **how: Any) -> None:
    with database.transaction() as connection:
        for call_id in call_ids:
            calls.announce(connection, location_id, call_id, **how)


def notify(
    database: Database,
    call_id: str,
    *,
    location_id: str = LOCATION,
    dialect: str = "marketplace",
    proof: str = "ed25519",
) -> None:
    """A notification of the call comes, or comes again, and is taken in."""
    arrive(
        database, f"webhook:{call_id}", location_id=location_id, call_id=call_id, dialect=dialect,
        authenticated_by=proof,
    )  # fmt: skip


def arrive(database: Database, dedupe_key: str, **values: Any) -> None:
    """A notification comes and is taken in. `values`: of `Arrival`."""
    receive(database, dedupe_key, **values)
    take_in(database)


def receive(database: Database, dedupe_key: str, **values: Any) -> None:
    """A notification is written into the inbox, as the web process does."""
    usual = {
        "location_id": LOCATION, "dialect": "marketplace", "authenticated_by": "ed25519",
        "status": NotificationStatus.ACCEPTED,
    }  # fmt: skip
    arrival = Arrival(**{"arrival_id": str(uuid4()), "dedupe_key": dedupe_key, **usual, **values})
    write(database.inbox, inbox.put_all, [arrival])


def claim_call(
    database: Database, call_id: str, *, worker: str = "worker-1", isolated: bool = False, location_id: str = LOCATION
) -> Claim | None:
    return claim_work(database, calls.work_key(location_id, call_id), worker=worker, isolated=isolated)


def claim_work(
    database: Database, key: WorkKey, *, worker: str = "worker-1", isolated: bool = False, **how: Any
) -> Claim | None:
    return claim(database.transact, key, lease_seconds=60, deadline_seconds=20, worker=worker, isolated=isolated, **how)


def claimed_call(database: Database, call_id: str = "call-1", **how: Any) -> Claim:
    """Announced, if it was not yet, and claimed."""
    announce(database, call_id)
    got = claim_call(database, call_id, **how)
    assert got is not None
    return got


def call_log(call_id: str = "call-1", *, source: Source = Source.FETCH, **values: Any) -> CallLog:
    """A log with its words, unless a length is given: then as it is."""
    words = {} if "duration_seconds" in values else {"summary": SUMMARY, "transcript": TRANSCRIPT}
    return CallLog(call_id=call_id, source=source, **{**words, **values})


def booked_call(call_id: str) -> CallLog:
    """A log that is complete, of a call an hour ago; the built-in rules ask for one note."""
    started_at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    booking = Action(
        action_type="APPOINTMENT_BOOKING", name="Book", action_id="a1", executed_at=started_at + timedelta(seconds=40),
        parameters={"calendarId": "cal"},
    )  # fmt: skip
    return call_log(
        call_id, contact_id="contact-1", agent_id="agent-1", from_number="+34600000000", started_at=started_at,
        duration_seconds=75.0, summary=SUMMARY, transcript=TRANSCRIPT, actions=(booking,), document={"id": call_id},
    )  # fmt: skip


def store(database: Database, log: CallLog, *, location_id: str = LOCATION, **notified: Any) -> None:
    """Announces the call of `log` by a notification, then fetches it."""
    notify(database, log.call_id, location_id=location_id, **notified)
    fetch(database, log, location_id=location_id)


def fetch(database: Database, log: CallLog, *, location_id: str = LOCATION) -> None:
    """Claims an announced call, stores `log` and plans the follow-ups of the built-in rules."""
    claim = claim_call(database, log.call_id, location_id=location_id)
    assert claim is not None
    with database.transaction() as connection:
        stored = store_reading(connection, claim, log)
        planned = follow_ups_for(log, stored.keyed_actions, load_rules(None), location_id=location_id)
        follow_ups.plan(connection, location_id, log.call_id, planned)
        if stored.settled:
            lifecycle.complete(connection, claim)
        else:
            lifecycle.reschedule(connection, claim, seconds=10, outcome=Outcome.UNSETTLED, stored=True)


def store_reading(
    connection: sa.Connection, claim: Claim, log: CallLog, *, time_zone: str = "UTC", told: CallLog | None = None
) -> Stored:
    """Stores what a claim has read, as a fetch does; its work goes on."""
    read = ReadByClaim(
        claim.key.location_id, [Reading(log, claim.request, told)], fence=claim.fence, read_at=claim.claimed_at,
        time_zone=time_zone,
    )  # fmt: skip
    [stored] = storing.store(connection, [read])
    return stored[log.call_id]


def dead_call(database: Database, call_id: str, *, cause: str = "not_found", location_id: str = LOCATION) -> None:
    notify(database, call_id, location_id=location_id)
    dead_letter_call(database, call_id, cause=cause, location_id=location_id)


def dead_letter_call(
    database: Database, call_id: str, *, cause: str = "not_found", location_id: str = LOCATION
) -> None:
    """Claims an announced call and dead-letters it."""
    claim = claim_call(database, call_id, location_id=location_id)
    assert claim is not None
    write(database, lifecycle.dead_letter, claim, cause=cause, http_status=404, trace_id="trace-7")


# Follow-ups


def plan(database: Database, call_id: str = "call-1", *, action_key: str = "id-1", **how: Any) -> str:
    """A planned follow-up of a stored call; returns its id."""
    if read(database, calls.get, LOCATION, call_id) is None:
        store(database, call_log(call_id))
    with database.transaction() as connection:
        follow_ups.plan(connection, LOCATION, call_id, [planned(action_key=action_key)], **how)
        rows = follow_ups.of_call(connection, LOCATION, call_id)
    return str(next(row.follow_up_id for row in rows if row.action_key == action_key))


def planned(
    *,
    rule_id: str = "rule",
    action_key: str = "id-1",
    contact_id: str | None = "contact-1",
    skip_reason: SkipReason | None = None,
) -> PlannedFollowUp:
    return PlannedFollowUp(rule_id, action_key, FollowUpKind.NOTE, contact_id, skip_reason)


def claim_follow_up(database: Database, follow_up_id: str, *, isolated: bool = False) -> Claim | None:
    key = follow_ups.work_key(LOCATION, follow_up_id)
    return claim_work(database, key, isolated=isolated, at_claim=follow_ups.begin)


def claimed_follow_up(database: Database, follow_up_id: str, **how: Any) -> Claim:
    got = claim_follow_up(database, follow_up_id, **how)
    assert got is not None
    return got


def only_follow_up(database: Database, call_id: str = "call-1", *, location_id: str = LOCATION) -> FollowUp:
    [row] = read(database, follow_ups.of_call, location_id, call_id)
    return row


def done_follow_up(database: Database, call_id: str = "call-1", *, body: str = "words") -> str:
    """Claims, intends and completes the only follow-up of a call; returns its id."""
    claim = _intended_only_follow_up(database, call_id, body=body)
    write(database, follow_ups.finish, claim, remote_id="note-42")
    return claim.key.subject


def dead_follow_up(database: Database, call_id: str = "call-1") -> str:
    """Claims the only follow-up of a call, which cannot be worded. Returns its id."""
    claim = claimed_follow_up(database, only_follow_up(database, call_id).follow_up_id)
    write(database, follow_ups.dead_letter, claim, cause="cannot_be_worded", error="no rule")
    return claim.key.subject


def unclear_follow_up(database: Database, call_id: str = "call-1", *, seconds: float | None = None) -> str:
    """Makes the only follow-up of a call unclear; returns its id. Due after `seconds`; None: it waits for a person."""
    claim = _intended_only_follow_up(database, call_id, body="words")
    facts = {"status": FollowUpState.UNCLEAR, "unclear_since": moment()}
    write(database, follow_ups.reschedule, claim, seconds=seconds, facts=facts, counted=True, error="timed_out")
    return claim.key.subject


def _intended_only_follow_up(database: Database, call_id: str, *, body: str) -> Claim:
    follow_up = only_follow_up(database, call_id)
    claim = claimed_follow_up(database, follow_up.follow_up_id)
    assert write(database, follow_ups.intend, claim, follow_up, seconds=1, body=body)
    return claim


# What is stored, and time


class Standing:
    """A call or a follow-up as a test sees it: the attributes of its row and of its open work, None where it has none.

    `status`: complete without open work, a follow-up's own, or that of its work.
    """

    def __init__(self, row: Call | FollowUp | None, work: OpenWork | None) -> None:
        self.row, self.work = row, work

    @property
    def status(self) -> str:
        if self.work is not None and self.work.status is WorkStatus.RUNNING:
            return "running"
        if isinstance(self.row, FollowUp):
            return str(self.row.status)
        return str(self.work.status) if self.work is not None else "complete"

    @property
    def attempts(self) -> int:
        return self.work.attempts if self.work is not None else 0

    def __getattr__(self, name: str) -> Any:
        for part in (self.row, self.work, self.work and self.work.request):
            if part is not None and hasattr(part, name):
                return getattr(part, name)
        if name in {*Call.__dataclass_fields__, *FollowUp.__dataclass_fields__, *OpenWork.__dataclass_fields__}:
            return None
        raise AttributeError(name)


def standing_call(database: Database, call_id: str = "call-1", *, location_id: str = LOCATION) -> Standing | None:
    """The call, stored or not; None: it is not known."""
    row = read(database, calls.get, location_id, call_id)
    work = read(database, open_work.get, calls.work_key(location_id, call_id))
    return None if row is None and work is None else Standing(row, work)


def call_row(database: Database, call_id: str = "call-1", *, location_id: str = LOCATION) -> Standing:
    row = standing_call(database, call_id, location_id=location_id)
    assert row is not None
    return row


def follow_up_row(database: Database, follow_up_id: str) -> Standing:
    row = read(database, follow_ups.get, follow_up_id)
    assert row is not None
    return Standing(row, read(database, open_work.get, row.key))


def rows_of(database: Database, table: sa.Table) -> list[sa.RowMapping]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(table).order_by(*table.primary_key)).mappings())


def run_out(database: Database, key: WorkKey) -> None:
    """The lease of a running row ends."""
    change(database, key, lease_until=moment(-1), due_at=moment(-1))


def make_due(database: Database, key: WorkKey) -> None:
    change(database, key, due_at=moment(-1))


def change(database: Database, key: WorkKey, **values: Any) -> None:
    """Moves the clock of a row of work, or what else only time changes."""
    with database.transaction() as connection:
        changed = connection.execute(sa.update(work_table).where(IS_THIS_ROW).values(**values), key.parameters)
        assert changed.rowcount == 1


def seconds_until(database: Database, then: datetime) -> float:
    """By the database's clock."""
    with database.reading() as connection:
        now = connection.execute(sa.select(moment())).scalar_one()
    return (then - now).total_seconds()


def until_somebody_waits(database: Database) -> None:
    """Until another connection to PostgreSQL waits for a lock."""
    waiting = sa.text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    with database.reading() as connection:
        eventually(lambda: connection.execute(waiting).first(), describe="somebody to wait for a lock")
