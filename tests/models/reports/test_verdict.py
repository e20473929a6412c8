"""The verdict: each rule finds its fault, says what to do, and is silent again when the fault is gone."""

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from models.accounts import accounts, circuit_breaker, pauses
from models.accounts.pauses import PauseCause
from models.accounts.token_encryption import TokenCipher
from models.calls import calls
from models.calls.calls import calls_table
from models.database import Database, moment
from models.follow_ups import follow_ups
from models.intake import inbox, journal, quarantine, rejection_counts
from models.intake.journal import Drain, Journal
from models.intake.notifications import Arrival, NotificationStatus
from models.reconciling import webhook_coverage, windows
from models.reconciling.webhook_coverage import AlarmCause
from models.reconciling.windows import WindowKind
from models.reports.verdict import judging
from models.reports.verdict.findings import Around, Finding, RedisSeen, Severity, State, SystemVerdict
from models.reports.verdict.rules import ALWAYS, DATABASE_UNUSABLE, RULES
from models.work import heartbeats
from models.work.work_rows import Lane
from tests.support.hearts import beating
from tests.support.refusing import refusing_call
from tests.support.rows import (
    ENCRYPTION_KEY,
    LOCATION,
    TOKEN,
    add_account,
    announce,
    booked_call,
    change,
    claim_follow_up,
    claim_work,
    dead_call,
    dead_follow_up,
    done_follow_up,
    fetch,
    notify,
    on_postgresql,
    only_follow_up,
    open_breaker_by_outages,
    read,
    receive,
    rows_of,
    store,
    unclear_follow_up,
    write,
)
from tests.support.worker import AtWork, reconcile, was_served_since
from workers.cli.standing import EXIT_CODES
from workers.process.heartbeat import version_of_this_process
from workers.take_in import take_in

End = dict[str, Callable[[], None]]
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
OTHER = "AnotherLocation00001"


@pytest.fixture
def end(unserved: Database) -> Iterator[End]:
    """Ends the heartbeat of a process."""
    with beating(unserved) as end:
        yield end


@pytest.fixture
def well(unserved: Database, end: End) -> Database:
    """Every process beats, and one account is served."""
    add_account(unserved)
    assert verdict(unserved).findings == []
    return unserved


def verdict(database: Database, **around: Any) -> SystemVerdict:
    return read(database, judging.judge, Around(**around))


def found(database: Database, **around: Any) -> dict[str, Finding]:
    """By rule."""
    return {each.rule: each for each in verdict(database, **around).findings}


def only(database: Database, rule: str, **around: Any) -> Finding:
    """The one finding, which is this rule's."""
    [finding] = verdict(database, **around).findings
    assert finding.rule == rule
    assert finding.do
    return finding


def age(database: Database, table: sa.Table, seconds: float, *columns: str) -> None:
    """Moves these times of every row that has them into the past."""
    with database.transaction() as connection:
        for column in columns:
            this = sa.update(table).where(table.c[column].is_not(None))
            connection.execute(this.values({column: moment(-seconds)}))


def beat(database: Database, name: str, **more: Any) -> None:
    """One heartbeat of a worker of this release."""
    write(database, heartbeats.beat, name, process="worker", version=version_of_this_process(), **more)


def add_another(database: Database) -> None:
    write(database, accounts.add, OTHER)
    write(database, accounts.set_token, OTHER, TOKEN, cipher=TokenCipher([ENCRYPTION_KEY]))


def change_account(database: Database, **values: Any) -> None:
    with database.transaction() as connection:
        connection.execute(sa.update(accounts.accounts_table).values(**values))


def test_where_all_is_well_every_rule_was_asked_and_nothing_is_found(well: Database) -> None:
    store(well, booked_call("call-1"))
    done_follow_up(well, "call-1")
    around = Around(RedisSeen(policy="noeviction", queued={"calls": 0}), journal.waiting(None))
    told = read(well, judging.judge, around)
    assert (told.state, told.findings) == (State.FINE, [])
    assert list(told.asked) == [DATABASE_UNUSABLE, *(rule.name for rule in (*ALWAYS, *RULES))]
    assert len(set(told.asked)) == len(told.asked)


def test_without_its_database_the_verdict_is_that_it_cannot_tell_and_what_else_is_seen() -> None:
    seen = Around(redis=RedisSeen(trouble="does not answer (TimeoutError)"))
    told = judging.without_database(seen, told="the database does not answer", do="look")
    assert told.state is State.CANNOT_TELL
    assert [each.rule for each in told.findings] == [DATABASE_UNUSABLE, "redis_unreachable"]
    assert "worker_missing" not in told.asked, "who was not asked has not said no"


def test_the_worst_comes_first_and_what_needs_nobody_changes_no_verdict(well: Database) -> None:
    write(well, pauses.pause, LOCATION, cause=PauseCause.PERSON, detail="Until Monday.")
    assert only(well, "paused_by_person").severity is Severity.INFO
    assert verdict(well).state is State.FINE
    change_account(well, api_token_encrypted=None)
    receive(well, "two")
    with well.inbox.transaction() as connection:
        connection.execute(sa.update(inbox.inbox_table).values(received_at=moment(-MINUTE)))
    told = verdict(well)
    assert [each.severity for each in told.findings] == [Severity.CRITICAL, Severity.WARNING, Severity.INFO]
    assert told.state is State.NEEDS_A_PERSON
    assert [each.rule for each in told.for_a_person(least=Severity.CRITICAL)] == ["notifications_not_taken_in"]
    assert set(EXIT_CODES) == set(State)


# Redis, journals, processes


def test_redis_that_does_not_answer_or_forgets_is_told_until_it_is_well(well: Database) -> None:
    told = only(well, "redis_unreachable", redis=RedisSeen(trouble="does not answer (TimeoutError)"))
    assert (told.severity, "everything else waits" in told.told) == (Severity.CRITICAL, True)
    told = only(well, "redis_evicts", redis=RedisSeen(policy="allkeys-lru"))
    assert (told.severity, "allkeys-lru" in told.told) == (Severity.WARNING, True)
    assert found(well, redis=RedisSeen(policy="noeviction")) == {}
    assert found(well, redis=RedisSeen()) == {}, "whoever may not ask knows nothing"


@on_postgresql
def test_a_journal_that_nobody_drains_is_told_until_it_is_drained(well: Database, tmp_path: Path) -> None:
    arrival = Arrival(
        arrival_id="one", dedupe_key="one", dialect="thin", authenticated_by="intake_path",
        status=NotificationStatus.ACCEPTED, location_id=LOCATION, call_id="call-1",
    )  # fmt: skip
    with closing(Journal(tmp_path)) as own, closing(Drain(tmp_path, well)) as drain:
        own.put_all([arrival])
        assert found(well, journals=journal.waiting(tmp_path)) == {}
        with closing(Database(f"sqlite:///{own.file}")) as file:
            age(file, inbox.inbox_table, 10 * MINUTE, "received_at")
        told = only(well, "journal_not_drained", journals=journal.waiting(tmp_path))
        assert "1 notification in the journals of this host, the oldest for 10 min" in told.told
        drain.drain()
        assert "journal_not_drained" not in found(well, journals=journal.waiting(tmp_path))


def test_a_journal_that_cannot_be_read_is_named(well: Database, tmp_path: Path) -> None:
    (tmp_path / "journal-7.db").write_bytes(b"no database" * 1000)
    assert "journal-7.db" in only(well, "journal_unreadable", journals=journal.waiting(tmp_path)).told
    (tmp_path / "journal-7.db").unlink()
    assert found(well, journals=journal.waiting(tmp_path)) == {}


@pytest.mark.parametrize(
    ("process", "severity"),
    [("web", Severity.CRITICAL), ("worker", Severity.CRITICAL), ("beat", Severity.WARNING)],
)
def test_a_kind_of_process_of_which_none_is_alive_is_told_until_one_is(
    well: Database, end: End, process: str, severity: Severity
) -> None:
    end[process]()
    told = only(well, f"{process}_missing")
    assert told.severity is severity
    assert "python -m" in told.do
    with beating(well, process):
        assert found(well) == {}


def test_a_process_that_fell_silent_is_told_until_another_was_started_in_its_place(well: Database) -> None:
    beat(well, "worker-2@there")
    assert found(well) == {}
    with well.transaction() as connection:
        this = heartbeats.heartbeats_table.c.name == "worker-2@there"
        moved = {"started_at": moment(-HOUR), "beat_at": moment(-MINUTE)}
        connection.execute(sa.update(heartbeats.heartbeats_table).where(this).values(moved))
        older = heartbeats.heartbeats_table.c.name == "worker-1@here"
        connection.execute(sa.update(heartbeats.heartbeats_table).where(older).values(started_at=moment(-HOUR)))
    told = only(well, "process_silent")
    assert "worker-2@there for 1 min without a heartbeat" in told.told
    beat(well, "worker-3@there")
    assert found(well) == {}


def test_a_clock_that_differs_is_told_until_it_agrees(well: Database) -> None:
    beat(well, "worker-2@there")
    table = heartbeats.heartbeats_table
    with well.transaction() as connection:
        connection.execute(sa.update(table).where(table.c.name == "worker-2@there").values(clock_offset=5.0))
    assert "worker-2@there is 5.0 s ahead" in only(well, "clock_skewed").told
    beat(well, "worker-2@there")
    assert found(well) == {}


def test_workers_with_different_redis_are_told_until_they_share_one(well: Database, end: End) -> None:
    beat(well, "worker-2@there", redis_epoch="one")
    beat(well, "worker-3@there", redis_epoch="another")
    assert "two deployments share this database" in only(well, "two_deployments").told
    beat(well, "worker-3@there", redis_epoch="one")
    assert found(well) == {}


def test_different_versions_are_told_and_need_nobody(well: Database) -> None:
    write(well, heartbeats.beat, "worker-2@there", process="worker", version="0.0.9+0003")
    assert only(well, "versions_mixed").severity is Severity.INFO
    write(well, heartbeats.leave, "worker-2@there")
    assert found(well) == {}


def test_a_queue_that_no_live_worker_takes_from_is_told_until_one_does(well: Database, end: End) -> None:
    end["worker"]()
    beat(well, "worker-2@there", queues="calls,housekeeping")
    told = only(well, "queue_not_consumed", redis=RedisSeen(queued={"calls": 0, "follow_ups": 7}))
    assert "take nothing from follow_ups, where 7 messages wait" in told.told
    beat(well, "worker-2@there", queues="calls,follow_ups,housekeeping")
    assert found(well) == {}


# What waits


def test_a_notification_that_nobody_takes_in_is_told_until_it_is_taken_in(well: Database) -> None:
    receive(well, "one", call_id="call-1")
    assert found(well) == {}
    with well.inbox.transaction() as connection:
        connection.execute(sa.update(inbox.inbox_table).values(received_at=moment(-MINUTE)))
    assert "1 notification waits to be taken in, the oldest for 1 min" in only(well, "notifications_not_taken_in").told
    take_in(well)
    assert found(well) == {}


def test_work_that_is_due_while_no_attempt_ends_is_told_until_one_does(well: Database) -> None:
    notify(well, "call-1")
    assert found(well) == {}
    change(well, calls.work_key(LOCATION, "call-1"), due_at=moment(-2 * MINUTE))
    told = only(well, "work_stands_still")
    assert told.told == "work has been due for 2 min, and the last attempt ended never"
    write(well, pauses.pause, LOCATION, cause=PauseCause.PERSON, detail="Until Monday.")
    assert "work_stands_still" not in found(well)
    write(well, pauses.resume, LOCATION)
    open_breaker_by_outages(well)
    assert "work_stands_still" not in found(well), "nothing is dispatched while the breaker is open"
    write(well, circuit_breaker.record_success, LOCATION)
    notify(well, "call-2")
    fetch(well, booked_call("call-2"))
    done_follow_up(well, "call-2")
    assert found(well) == {}, "it moves"


def test_a_call_that_waits_long_is_told_by_its_id_until_it_is_fetched(well: Database) -> None:
    notify(well, "call-1")
    notify(well, "call-2")
    key = calls.work_key(LOCATION, "call-1")
    change(well, key, created_at=moment(-21 * MINUTE), first_heard_at=moment(-21 * MINUTE))
    told = only(well, "calls_late")
    assert (told.severity, told.location_id) == (Severity.CRITICAL, LOCATION)
    assert told.told == "2 calls wait to be fetched, the oldest for 21 min: call-1"
    write(well, pauses.pause, LOCATION, cause=PauseCause.PERSON, detail="Until Monday.")
    assert set(found(well)) == {"paused_by_person"}, "the pause says it"
    write(well, pauses.resume, LOCATION)
    fetch(well, booked_call("call-1"))
    assert found(well) == {}


def test_an_unsettled_log_and_a_backfilled_call_do_not_wait(at_work: AtWork) -> None:
    unsettled = at_work.double.place_call(empty_for=HOUR)
    at_work.announce(unsettled)
    at_work.fetch(unsettled)
    at_work.announce("call-of-old", lane=Lane.BACKFILLED)
    for call_id in (unsettled.call_id, "call-of-old"):
        at_work.change(at_work.call_key(call_id), created_at=moment(-HOUR))
    with beating(at_work.database):
        assert found(at_work.database) == {}


def test_a_follow_up_that_waits_long_is_told_until_it_is_sent(well: Database) -> None:
    store(well, booked_call("call-1"))
    follow_up_id = only_follow_up(well, "call-1").follow_up_id
    change(well, follow_ups.work_key(LOCATION, follow_up_id), created_at=moment(-21 * MINUTE))
    told = only(well, "follow_ups_late")
    assert told.told == "1 follow-up waits to be sent, the oldest for 21 min"
    done_follow_up(well, "call-1")
    assert found(well) == {}


def test_notes_that_take_long_are_told_until_newer_calls_have_theirs_soon(well: Database) -> None:
    for number in range(5):
        store(well, booked_call(f"call-{number}"))
        done_follow_up(well, f"call-{number}")
    assert found(well) == {}
    age(well, calls_table, 8.5 * MINUTE, "announced_at", "first_heard_at")
    assert "half took 8 min" in only(well, "notes_slow").told
    age(well, calls_table, 16 * MINUTE, "announced_at", "first_heard_at")
    assert found(well) == {}, "there was time to do better since"


def test_a_backlog_that_grows_is_told_until_it_drains(well: Database) -> None:
    announce(well, *(f"call-{number:03d}" for number in range(120)))
    assert found(well) == {}, "it is a burst so far"
    for number in range(120):
        change(well, calls.work_key(LOCATION, f"call-{number:03d}"), first_heard_at=moment(-3 * MINUTE))
    assert "120 came to wait and 0 of those that waited were stored" in only(well, "backlog_grows").told
    for number in range(120):
        change(well, calls.work_key(LOCATION, f"call-{number:03d}"), first_heard_at=moment(-6 * MINUTE))
    for number in range(4):
        fetch(well, booked_call(f"call-{number:03d}"))
    announce(well, "new-1", "new-2")
    assert found(well) == {}, "four went, two came"
    announce(well, "new-3", "new-4", "new-5")
    assert "5 came to wait and 4" in only(well, "backlog_grows").told
    for number in range(4, 30):
        fetch(well, booked_call(f"call-{number:03d}"))
    assert found(well) == {}


# What was given up, set aside, or is unclear


def test_dead_calls_are_told_by_cause_with_their_oldest_ids_until_they_are_revived(well: Database) -> None:
    for number in range(5):
        dead_call(well, f"call-{number}")
    dead_call(well, "call-of-poison", cause="poison")
    gone, poison = verdict(well).findings
    assert gone.told == "5 dead calls (not_found): call-0, call-1, call-2 and 2 more"
    assert poison.told == "1 dead call (poison): call-of-poison. Each attempt ended its worker process"
    assert {gone.rule, poison.rule} == {"dead_call"}
    for call_id in [*(f"call-{number}" for number in range(5)), "call-of-poison"]:
        write(well, calls.replay, LOCATION, call_id)
    assert found(well) == {}


def test_a_dead_follow_up_is_told_by_cause_until_it_is_sent_again(well: Database) -> None:
    store(well, booked_call("call-1"))
    follow_up_id = dead_follow_up(well, "call-1")
    told = only(well, "dead_follow_up")
    assert told.told == f"1 dead follow-up (cannot_be_worded): {follow_up_id}"
    assert write(well, follow_ups.resend, follow_up_id)
    assert found(well) == {}


def test_an_unclear_follow_up_is_told_when_only_a_person_can_settle_it_or_it_lasts(well: Database) -> None:
    store(well, booked_call("call-1"))
    follow_up_id = unclear_follow_up(well, "call-1", seconds=MINUTE)
    assert found(well) == {}, "it is looked for"
    age(well, follow_ups.follow_ups_table, 2 * HOUR, "unclear_since")
    assert only(well, "follow_up_unclear_long").told == "1 follow-up unclear, the oldest for 2 h 0 min"
    change(well, follow_ups.work_key(LOCATION, follow_up_id), due_at=moment(-1))
    claim = claim_follow_up(well, follow_up_id)
    assert claim is not None
    write(well, follow_ups.finish, claim, remote_id="note-42")
    assert found(well) == {}

    store(well, booked_call("call-2"))
    follow_up_id = unclear_follow_up(well, "call-2")
    told = only(well, "follow_up_for_a_person")
    assert told.told == f"1 unclear follow-up that only a person can settle (timed_out): {follow_up_id}"
    assert write(well, follow_ups.settle_by_person, follow_up_id, is_there=True)
    assert found(well) == {}


def test_a_notification_that_the_database_refused_is_told_for_a_day(well: Database) -> None:
    receive(well, "one")
    [row] = rows_of(well, inbox.inbox_table)
    write(well, quarantine.set_aside, row["number"], error="DataError")
    inbox.forget(well, [row["number"]])
    assert "refused 1 notification in the last day" in only(well, "notification_quarantined").told
    age(well, quarantine.quarantine_table, DAY + MINUTE, "quarantined_at")
    assert found(well) == {}


def test_a_listed_row_that_the_database_refused_is_told_until_its_call_is_stored(at_work: AtWork) -> None:
    was_served_since(at_work, HOUR)
    bad = at_work.double.place_call(ago=600)
    with beating(at_work.database), refusing_call(at_work.database, "calls", bad.call_id):
        reconcile(at_work)
        told = only(at_work.database, "listed_row_quarantined")
    assert told.told == "1 listed row could not be taken in (IntegrityError)"
    at_work.announce(bad)
    at_work.fetch(bad)
    assert "listed_row_quarantined" not in found(at_work.database)


def test_refused_notifications_are_told_for_the_day_and_need_nobody(well: Database) -> None:
    write(well, rejection_counts.count, "intake_secret_unknown", number=3, trace={})
    write(well, rejection_counts.count, "event_type_not_wanted", number=5, trace={})
    told = only(well, "notifications_refused")
    assert (told.severity, "rotate-secret" in told.do) == (Severity.INFO, True)
    assert told.told.startswith("3 notifications refused today for intake_secret_unknown")
    age(well, rejection_counts.rejection_counts_table, 2 * DAY, "hour", "last_at")
    assert found(well) == {}


# Accounts


@pytest.mark.parametrize("cause", [PauseCause.TOKEN, PauseCause.LOCATION, PauseCause.SCOPE, PauseCause.VERSION])
def test_a_pause_that_nobody_wanted_is_told_until_it_has_healed(well: Database, cause: PauseCause) -> None:
    work = "follow_up" if cause is PauseCause.SCOPE else pauses.ALL_WORK
    write(well, pauses.pause, LOCATION, cause=cause, detail="What to do about it.", work=work)
    told = only(well, "account_paused")
    assert told.do.startswith("What to do about it.")
    assert told.told.startswith(
        f"{'follow-ups' if cause is PauseCause.SCOPE else 'everything'} paused by {cause} since"
    )
    write(well, pauses.resume, LOCATION)
    assert found(well) == {}


def test_outages_are_told_with_their_beginning_until_an_answer_comes(well: Database) -> None:
    for _ in range(circuit_breaker.OUTAGES_BEFORE_OPEN - 1):
        write(well, circuit_breaker.record_outage, LOCATION, first_seconds=30.0)
    assert found(well) == {}
    change_account(well, outages_since=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    write(well, circuit_breaker.record_outage, LOCATION, first_seconds=30.0)
    told = only(well, "breaker_open").told
    assert "5 outages in a row since 2026-01-02T03:04:05Z" in told
    assert "is open" in told
    change_account(well, open_until=moment(-1))
    assert "is half-open" in only(well, "breaker_open").told, "an attempt may go ahead, and nothing is well yet"
    write(well, circuit_breaker.record_success, LOCATION)
    assert found(well) == {}
    assert read(well, accounts.get, LOCATION).outages_since is None


def test_an_account_without_a_token_is_told_until_it_has_one(well: Database) -> None:
    write(well, accounts.add, OTHER)
    assert only(well, "account_without_token").location_id == OTHER
    add_another(well)
    assert found(well) == {}


def test_a_crm_that_keeps_no_reference_is_told_until_it_does(well: Database) -> None:
    write(well, accounts.tell_references, LOCATION, kept=False)
    assert only(well, "references_lost").location_id == LOCATION
    write(well, accounts.tell_references, LOCATION, kept=True)
    assert found(well) == {}


def test_the_alarm_of_the_webhook_is_told_until_it_ends(well: Database) -> None:
    write(well, webhook_coverage.set_alarm, LOCATION, AlarmCause.WRONG_SECRET)
    told = only(well, "webhook_alarm")
    assert "an intake secret that belongs to no account" in told.told
    assert told.do.startswith("compare the URL")
    write(well, webhook_coverage.set_alarm, LOCATION, None)
    assert found(well) == {}


def test_a_watermark_two_periods_behind_is_told_until_it_moves(well: Database) -> None:
    change_account(well, complete_from=moment(-DAY), complete_until=moment(-30 * MINUTE))
    assert found(well) == {}
    change_account(well, complete_until=moment(-32 * MINUTE))
    assert "only, 32 min ago" in only(well, "completeness_behind").told
    now = datetime.now(UTC)
    write(well, accounts.extend_completeness, LOCATION, since=now - timedelta(hours=1), until=now)
    assert found(well) == {}


def test_a_window_that_stays_open_is_told_until_it_is_closed(well: Database) -> None:
    now = datetime.now(UTC)
    run = {"since": now - timedelta(hours=1), "until": now}
    write(well, windows.open_run, LOCATION, kind=WindowKind.DAILY, **run)
    write(well, windows.open_run, LOCATION, kind=WindowKind.BACKFILL, **run)
    assert found(well) == {}
    age(well, windows.reconciliations_table, 2 * HOUR, "started_at")
    assert "a daily window of Leadway's list has been open for 2 h 0 min" in only(well, "window_open_long").told
    claim = claim_work(well, windows.work_key(LOCATION, WindowKind.DAILY))
    assert claim is not None
    window = read(well, windows.get_claimed, claim)
    write(well, windows.close, claim, window)
    assert found(well) == {}


def test_nobody_is_told_of_an_account_that_was_removed(well: Database) -> None:
    add_another(well)
    dead_call(well, "call-1", location_id=OTHER)
    write(well, pauses.pause, OTHER, cause=PauseCause.TOKEN, detail="What to do.")
    assert set(found(well)) == {"dead_call", "account_paused"}
    write(well, accounts.remove, OTHER)
    assert found(well) == {}


def test_a_system_without_an_account_is_told_how_to_begin(well: Database) -> None:
    write(well, accounts.remove, LOCATION)
    assert "accounts add" in only(well, "no_account").do
    add_account(well)
    assert found(well) == {}
