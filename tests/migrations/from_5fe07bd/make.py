"""Makes `made.jsonl`: rows in every state, each written by the code of 5fe07bd, and statements that this code sends.

Runs in a checkout of 5fe07bd with that checkout's own modules, never in this one (see README.md here). The rows come
from SQLite, the statements from both databases.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from models.attempts import Claim, Work
from models.reconciliations import Kind
from pydantic import SecretStr
from tests.workers.conftest import ENCRYPTION_KEY, AtWork, connect_anew
from workers.read_window import read_page

from migrations import migrate
from models import (
    accounts,
    attempts,
    calls,
    follow_ups,
    heartbeats,
    notifications,
    oauth_grants,
    pauses,
    reconcile_schedule,
    reconciliations,
    refusals,
    schema,
)
from models.calls import CALL
from models.database import moment
from models.follow_ups import FOLLOW_UP, UNCLEAR_FROM_THE_LEASE
from models.settings import Settings
from tests.leadway_double.double import LeadwayDouble
from tests.leadway_double.nouns import PlacedCall
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.workers.reconciling import DAY, backfill, reconcile, was_served_since
from workers import send_follow_up as sending
from workers.fetch_call import fetch_call
from workers.prune_expired import empty_calls

WORDS = {"transcript": "bot:Hi.\nhuman:Bye.", "summary": "They talked."}
LEASE_SECONDS = 20


class Frozen(BaseException):
    """The process stops here and is never heard of again."""


def main() -> None:
    with ExitStack() as stack:
        redis = stack.enter_context(EmbeddedRedis(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        server = stack.enter_context(PostgresServer())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        lines: list[Any] = []
        for url in (server.create_database("base"), f"sqlite:///{folder / 'base.db'}"):
            migrate(url)
            with LeadwayDouble() as double:
                double.set_rate_limit(per_window=None, announced=3000)
                at_work = open_worker(url, redis.url, double)
                statements = Statements(at_work)
                make_rows(at_work, statements)
                rows = everything_in(at_work)
                lines += statements.kept
                at_work.this.close()
    written = (json.dumps(line, ensure_ascii=False, default=plain) for line in [*rows, *lines])
    Path(sys.argv[1]).write_text("".join(f"{line}\n" for line in written))


def open_worker(url: str, redis_url: str, double: LeadwayDouble) -> AtWork:
    settings = Settings(
        database_url=url, redis_url=redis_url, leadway_api_url=double.url, leadway_location_id=double.location_id,
        leadway_api_token=SecretStr(double.token), leadway_time_zone="America/New_York", leadway_settle_seconds=120,
        leadway_retry_seconds=5, leadway_lease_seconds=LEASE_SECONDS, leadway_requests_per_10_seconds=3000,
        token_encryption_keys=(SecretStr(ENCRYPTION_KEY),),
    )  # fmt: skip
    connect_anew(settings)
    at_work = AtWork(settings, double)
    at_work.database.transact(
        lambda connection: accounts.upsert_from_settings(connection, settings, cipher=at_work.this.cipher)
    )
    return at_work


class Statements:
    """Keeps the first change that is sent in a block, as the database's driver gets it."""

    def __init__(self, at_work: AtWork) -> None:
        self.kept: list[Any] = []
        self._sent: list[Any] = []
        self._dialect = at_work.database.engine.dialect.name
        sa.event.listen(at_work.database.engine, "before_cursor_execute", self._note)

    def _note(self, _connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("UPDATE", "INSERT", "DELETE")):
            self._sent.append([statement, parameters])

    @contextmanager
    def keeping(self, name: str) -> Iterator[None]:
        self._sent.clear()
        yield
        assert self._sent
        self.kept.append([f"{self._dialect}: {name}", *self._sent[0]])


def make_rows(at_work: AtWork, statements: Statements) -> None:
    """What needs time to pass comes first: the leases are taken last."""
    was_served_since(at_work, DAY)
    finished_windows(at_work)
    other_accounts(at_work)
    days_old(at_work)
    minutes_old(at_work)
    was_served_since(at_work, DAY)  # again: the account's times have passed too
    stored_calls(at_work)
    unread_calls(at_work)
    follow_ups_of_stored_calls(at_work)
    told_notifications(at_work)
    open_windows(at_work)
    leased(at_work, statements)
    with at_work.database.transaction() as connection:
        heartbeats.beat(connection, "worker-1@there", process="worker", slots=32)


def place(at_work: AtWork, call_id: str, *, fields: dict[str, Any] | None = None, **wish: Any) -> PlacedCall:
    """A short call with a contact of its own, which asks for nothing."""
    usual = {"language": "en", "contact": f"of-{call_id}", "actions": [], "duration": 30}
    words = {} if "empty_for" in wish else WORDS
    return at_work.double.place_call(call_id=call_id, fields={**words, **(fields or {})}, **{**usual, **wish})


def announce(at_work: AtWork, call_id: str, **wish: Any) -> None:
    at_work.announce(place(at_work, call_id, **wish))


def fetched(at_work: AtWork, call_id: str, **wish: Any) -> None:
    announce(at_work, call_id, **wish)
    fetch_call(at_work.location_id, call_id)


def owed(at_work: AtWork, call_id: str, **wish: Any) -> str:
    """The id of the note that the call asks for."""
    fetched(at_work, call_id, **{"actions": ["CALL_TRANSFER"], **wish})
    [row] = at_work.follow_ups_of(call_id)
    return str(row["follow_up_id"])


def become_unclear(at_work: AtWork, follow_up_id: str, what: str, **how: Any) -> None:
    at_work.double.fault("create_note", what, times=1, **how)
    assert at_work.send(follow_up_id)["status"] == "unclear"


def claim_of(at_work: AtWork, work: Work, *key: str, **how: Any) -> Claim | None:
    return attempts.claim(
        at_work.database, work, key, lease_seconds=LEASE_SECONDS, deadline_seconds=12, worker="worker-1@there", **how
    )


def claimed(at_work: AtWork, work: Work, *key: str, **how: Any) -> Claim:
    claim = claim_of(at_work, work, *key, **how)
    assert claim is not None
    return claim


def replay(at_work: AtWork, call_id: str) -> None:
    with at_work.database.transaction() as connection:
        assert calls.replay(connection, at_work.location_id, call_id)


def record(at_work: AtWork, dedupe_key: str, **values: Any) -> None:
    told = {"location_id": at_work.location_id, "dialect": "marketplace", "authenticated_by": "ed25519"}
    with at_work.database.transaction() as connection:
        notifications.record(connection, dedupe_key, **{**told, **values})


def finished_windows(at_work: AtWork) -> None:
    place(at_work, "listed", ago=600)
    place(at_work, "backfilled", ago=2 * DAY, actions=["CALL_TRANSFER"])
    backfill(at_work, days=3)
    reconcile(at_work)


def other_accounts(at_work: AtWork) -> None:
    this = at_work.this
    for location_id in ("loc_grant", "loc_refreshing", "loc_paused", "loc_removed"):
        at_work.double.add_location(location_id)
        at_work.double.place_call(location_id, call_id=f"of-{location_id}", language="en", actions=[], fields=WORDS)
        with at_work.database.transaction() as connection:
            accounts.add(connection, location_id)
            calls.announce(connection, location_id, f"of-{location_id}")
    for location_id in ("loc_grant", "loc_refreshing"):
        app = at_work.double.install_app(location_id, client_id=f"app-of-{location_id}", life_seconds=3600)
        with at_work.database.transaction() as connection:
            oauth_grants.connect(
                connection, location_id, client_id=app.client_id, client_secret=app.client_secret,
                refresh_token=app.refresh_token, cipher=this.cipher,
            )  # fmt: skip
    fetch_call("loc_grant", "of-loc_grant")
    with at_work.database.transaction() as connection:
        pauses.pause(connection, "loc_paused", cause=pauses.Cause.PERSON, detail="By hand.")
        accounts.remove(connection, "loc_removed")


def days_old(at_work: AtWork) -> None:
    fetched(at_work, "emptied", ago=20 * DAY, actions=["CALL_TRANSFER"])
    announce(at_work, "not-found", late=1e9)
    at_work.time_passes(10 * DAY)
    with at_work.database.transaction() as connection:
        empty_calls(connection, days=7)
    fetch_call(at_work.location_id, "not-found")
    at_work.double.set_clock(0)


def minutes_old(at_work: AtWork) -> None:
    become_unclear(at_work, absent := owed(at_work, "note-absent-once"), "status", status=500)
    become_unclear(at_work, for_person := owed(at_work, "note-for-a-person"), "status", status=500)
    at_work.time_passes(121)
    at_work.send(absent)
    at_work.double.fault("list_notes", "status", status=404, times=1, body={"message": "Contact not found"})
    at_work.send(for_person)
    at_work.double.set_clock(0)


def stored_calls(at_work: AtWork) -> None:
    fetched(at_work, "done")
    fetched(at_work, "unsettled", empty_for=1e9)
    fetched(at_work, "trial", trial=True, actions=["CALL_TRANSFER"])
    fetched(at_work, "timeless", fields={"createdAt": None, "duration": None})
    fetched(at_work, "extracted", actions=["DATA_EXTRACTION"])
    telling = {
        "direction": " Outbound", "callStatus": "completed", "toNumber": 34600000000, "transcriptWithToolCalls": "{}",
        "colour": {"of": "unknown"}, "translation": {"enabled": True, "language": "es"}, "": "a field without a name",
    }  # fmt: skip
    fetched(at_work, "telling", fields=telling)
    wrong = {
        "summary": 123, "transcript": ["bot:Hi."], "contactId": 1.5, "createdAt": "yesterday",
        "duration": "long", "isAgentDeleted": "maybe", "translation": "es", "extractedData": [1], "messageId": False,
        "direction": {"in": 1}, "callStatus": ["completed"], "toNumber": 1.5, "agentId": None, "fromNumber": "",
        "executedCallActions": [{"actionType": "SMS", "colour": "red"}, "nothing"],
    }  # fmt: skip
    fetched(at_work, "wrong-typed", fields=wrong)
    fetched(at_work, "kept-words")
    at_work.double.change_call("kept-words", summary=123, transcript="")
    replay(at_work, "kept-words")
    fetch_call(at_work.location_id, "kept-words")
    fetched(at_work, "replayed")
    replay(at_work, "replayed")
    fetched(at_work, "broken", empty_for=1e9)
    for _ in range(attempts.FAILURES_ALLOWED):
        at_work.change(CALL, at_work.location_id, "broken", next_attempt_at=moment(-1))
        claim = claimed(at_work, CALL, at_work.location_id, "broken")
        with at_work.database.transaction() as connection:
            attempts.break_off(connection, claim, error="ValueError", first_seconds=5)


def unread_calls(at_work: AtWork) -> None:
    announce(at_work, "pending")
    at_work.double.fault("fetch", "status", times=1, status=500)
    fetched(at_work, "retried")
    at_work.double.fault("fetch", "status", times=1, status=422, body={"message": "id is invalid"})
    record(at_work, "of no call", call_id="no-call", status="accepted")
    fetched(at_work, "no-call")
    announce(at_work, "poison")
    key = (at_work.location_id, "poison")
    for alone in (False, False, True, True):
        claimed(at_work, CALL, *key, alone=alone)
        run_out(at_work, CALL, *key)
    assert claim_of(at_work, CALL, *key, alone=True) is None


def run_out(at_work: AtWork, work: Work, *key: str) -> None:
    at_work.change(work, *key, lease_until=moment(-1), next_attempt_at=moment(-1))


def follow_ups_of_stored_calls(at_work: AtWork) -> None:
    owed(at_work, "note-pending")
    owed(at_work, "note-delayed", empty_for=1e9)
    owed(at_work, "note-too-old", ago=80 * 3600)
    owed(at_work, "note-without-contact", contact=False)
    at_work.send(owed(at_work, "note-done"))
    dead = owed(at_work, "note-dead")
    at_work.double.fault("create_note", "status", status=400, times=1, body={"message": "Contact not found"})
    at_work.send(dead)
    become_unclear(at_work, owed(at_work, "note-unclear"), "do_then_reset")


def told_notifications(at_work: AtWork) -> None:
    for _ in range(2):
        record(at_work, "accepted", call_id="done", status="accepted", document={"id": "done"})
    record(at_work, "ignored", location_id=None, status="ignored", reason="event_type")
    record(at_work, "unresolved", status="unresolved", reason="no_call_id", contact_id="nobody")
    with at_work.database.transaction() as connection:
        refusals.count(connection, "not_authenticated", number=2, trace={"size": 10})


def open_windows(at_work: AtWork) -> None:
    """A narrow one that was read once, a regular one in the middle, one that failed, and three that nobody read."""
    location_id = at_work.location_id
    with at_work.database.transaction() as connection:
        reconcile_schedule.open_due(connection, list_fetch=True)
        now = connection.execute(sa.select(moment())).scalar_one()
        for kind in (Kind.DAILY, Kind.SINCE, Kind.BURST, Kind.BACKFILL):
            slot = "backfill:2020-01-01/2020-01-02+notes" if kind is Kind.BACKFILL else None
            since, until = (now - timedelta(days=days) for days in (60, 50))
            reconciliations.open_run(connection, location_id, kind=kind, since=since, until=until, slot=slot)
        narrow, regular, failing = (
            reconciliations.get_open(connection, location_id, slot).reconciliation_id
            for slot in (slot_of(connection, Kind.NARROW), Kind.REGULAR, Kind.SINCE)
        )
    at_work.double.fault("list", "status", times=1, status=500)
    read_page(at_work.this, failing)
    with at_work.database.transaction() as connection:
        make_due = sa.update(reconciliations.reconciliations).values(next_attempt_at=moment(-1))
        connection.execute(make_due.where(reconciliations.reconciliations.c.reconciliation_id == narrow))
    read_page(at_work.this, narrow)
    read_page(at_work.this, regular)


def slot_of(connection: sa.Connection, kind: Kind) -> str:
    c = reconciliations.reconciliations.c
    return str(connection.execute(sa.select(c.slot).where(c.kind == kind).order_by(c.slot.desc())).scalars().first())


def leased(at_work: AtWork, statements: Statements) -> None:
    database, location_id = at_work.database, at_work.location_id
    announce(at_work, "running")
    with statements.keeping("announce a call"):
        at_work.announce("running")
    announce(at_work, "lost-once")
    claimed(at_work, CALL, location_id, "lost-once")
    run_out(at_work, CALL, location_id, "lost-once")
    claimed(at_work, CALL, location_id, "lost-once")
    fetched(at_work, "replayed-while-running")
    replay(at_work, "replayed-while-running")
    claimed(at_work, CALL, location_id, "replayed-while-running")
    replay(at_work, "replayed-while-running")
    with statements.keeping("claim a call"):
        claim = claimed(at_work, CALL, location_id, "running")
    with statements.keeping("finish a call"):
        sent_but_not_committed(at_work, lambda connection: attempts.finish(connection, claim))
    running = owed(at_work, "note-running")
    with statements.keeping("claim a follow-up"):
        claim = claimed(at_work, FOLLOW_UP, running, extra=UNCLEAR_FROM_THE_LEASE)
    with statements.keeping("intend to write"):
        sent_but_not_committed(
            at_work, lambda connection: follow_ups.intend(connection, claim, seconds=1, body="words")
        )
    frozen_after_its_post(at_work, statements)
    with database.transaction() as connection:
        regular = reconciliations.get_open(connection, location_id, Kind.REGULAR)
        assert regular is not None
        with statements.keeping("claim a window"):
            reconciliations.claim(connection, regular.reconciliation_id, lease_seconds=LEASE_SECONDS)
        seen = oauth_grants.present(connection, "loc_refreshing")
        with statements.keeping("claim a refresh"):
            assert oauth_grants.hold(connection, "loc_refreshing", seen=seen, seconds=12)
    throttled = owed(at_work, "note-throttled")  # last, for the account waits from here on
    at_work.double.fault("create_note", "status", status=429, retry_after=40, times=1)
    at_work.send(throttled)


def frozen_after_its_post(at_work: AtWork, statements: Statements) -> None:
    """The note is in the CRM, and the row of its follow-up runs, with an intent."""
    follow_up_id = owed(at_work, "note-written")

    def stop(point: str) -> None:
        if point == "note_answered":
            raise Frozen

    sending.reach, reach = stop, sending.reach
    with suppress(Frozen):
        at_work.send(follow_up_id)
    sending.reach = reach
    row = at_work.follow_up(follow_up_id)
    [note] = at_work.notes(follow_up_id)
    assert (row["status"], row["remote_id"]) == ("running", None)
    claim = Claim(FOLLOW_UP, (follow_up_id,), row["fence"], row["attempts"], 0, row["claimed_at"], 0.0, dict(row))
    with statements.keeping("finish a follow-up"):
        sent_but_not_committed(
            at_work,
            lambda connection: attempts.finish(
                connection, claim, remote_id=note.note_id, done_at=moment(), unclear_since=None
            ),
        )


def sent_but_not_committed(at_work: AtWork, write: Callable[[sa.Connection], Any]) -> None:
    with suppress(Frozen), at_work.database.transaction() as connection:
        write(connection)
        raise Frozen


def everything_in(at_work: AtWork) -> list[Any]:
    """Pairs: the name of a table and a row of it, without what is null; then what Leadway has."""
    with at_work.database.reading() as connection:
        lines = [["made_at", connection.execute(sa.select(moment())).scalar_one()]]
        for table in schema.metadata.sorted_tables:
            for row in connection.execute(sa.select(table).order_by(*table.primary_key)):
                lines += [[table.name, {name: value for name, value in row._mapping.items() if value is not None}]]
    truth = at_work.double.truth
    lines += [["note", {"contact_id": note.contact_id, "body": note.body}] for note in truth.notes()]
    return lines + [["call that Leadway does not have", each.call_id] for each in truth.calls() if each.readable_at]


def plain(value: datetime) -> str:
    return value.isoformat()


if __name__ == "__main__":
    main()
