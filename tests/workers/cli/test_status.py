"""`leadway-calls status`: what it tells, in both forms, and the exit status that goes with it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from models.accounts import accounts, pauses
from models.accounts.pauses import PauseCause
from models.accounts.token_encryption import TokenCipher
from models.database import Database, moment
from models.intake import inbox, quarantine
from models.work import heartbeats
from tests.support.hearts import beating
from tests.support.redis_servers import RedisServer
from tests.support.rows import (
    ENCRYPTION_KEY,
    LOCATION,
    SECRET,
    SUMMARY,
    TOKEN,
    TRANSCRIPT,
    booked_call,
    dead_call,
    dead_follow_up,
    done_follow_up,
    half_open_breaker,
    notify,
    open_breaker_by_outages,
    receive,
    rows_of,
    store,
    unclear_follow_up,
    write,
)
from tests.workers.cli.conftest import Commands
from workers.process.heartbeat import version_of_this_process

KEYS = {
    "at", "verdict", "findings", "reasons", "database", "redis", "inbox", "journals", "quarantined_notifications",
    "processes", "accounts",
}  # fmt: skip


@pytest.fixture
def running(served: Database) -> Iterator[Database]:
    """The heartbeats of all processes beat."""
    with beating(served):
        yield served


def _json(run: Commands, **environment: str) -> Any:
    return json.loads(run("status", "--json", **environment).output)


def test_all_well_is_exit_status_0(run: Commands, running: Database, redis_url: str) -> None:
    store(running, booked_call("call-1"))
    done_follow_up(running, "call-1")
    result = run("status", REDIS_URL=redis_url)
    assert result.exit_code == 0, result.output
    assert "Everything is well." in result.output
    assert re.search(r"today +\d notifications?, \d calls? stored, \d follow-ups? done", result.output)
    told = _json(run, REDIS_URL=redis_url)
    assert told["verdict"] == "fine"
    assert told["redis"] == {"reachable": True, "maxmemory_policy": "noeviction"}
    assert {each["process"] for each in told["processes"] if each["alive"]} == {"web", "worker", "beat"}


def test_live_processes_of_different_releases_are_told_and_need_nobody(run: Commands, running: Database) -> None:
    assert "versions" not in run("status").output
    write(running, heartbeats.beat, "worker-2@there", process="worker", version="0.0.9+0003")
    result = run("status")
    assert result.exit_code == 0, result.output
    assert "0.0.9+0003: worker-2@there;" in result.output
    told = {each["name"]: each["version"] for each in _json(run)["processes"]}
    assert told["worker-2@there"] == "0.0.9+0003"
    assert told["worker-1@here"] == told["web-1@here"] == version_of_this_process()


def test_waiting_work_is_counted_with_the_oldest_and_needs_nobody(run: Commands, running: Database) -> None:
    notify(running, "call-1")
    notify(running, "call-2")
    store(running, booked_call("call-3"))
    result = run("status")
    assert result.exit_code == 0, result.output
    assert "2 calls, 1 follow-up; the oldest call for" in result.output
    account = _json(run)["accounts"][0]
    assert (account["waiting_calls"], account["waiting_follow_ups"]) == (2, 1)
    assert account["oldest_waiting_call"]["call_id"] == "call-1"
    assert account["last_notification_at"].endswith("Z")


def test_notifications_that_wait_are_told_and_need_a_person_when_nobody_takes_them_in(
    run: Commands, running: Database
) -> None:
    receive(running, "one")
    receive(running, "two")
    result = run("status")
    assert result.exit_code == 0, result.output
    assert "2 notifications wait to be taken in, the oldest for" in result.output
    with running.inbox.transaction() as connection:
        connection.execute(sa.update(inbox.inbox_table).values(received_at=moment(-61)))
    told = _json(run)
    assert (told["verdict"], told["inbox"]["number"]) == ("needs_a_person", 2)
    assert "2 notifications wait to be taken in, the oldest for 1 min" in told["reasons"][0]
    [first, second] = rows_of(running, inbox.inbox_table)
    write(running, quarantine.set_aside, first["number"], error="DataError")
    inbox.forget(running, [first["number"], *write(running, inbox.take, [second["number"]])])
    told = _json(run)
    assert (told["inbox"]["number"], told["quarantined_notifications"]) == (0, 1)
    assert told["reasons"] == [
        "the database refused 1 notification in the last day: look into its table quarantine. The calls are found in"
        " Leadway's list."
    ]


def test_what_was_given_up_needs_a_person_and_is_named_with_its_cause(run: Commands, running: Database) -> None:
    dead_call(running, "call-1")
    store(running, booked_call("call-2"))
    follow_up_id = dead_follow_up(running, "call-2")
    result = run("status")
    assert result.exit_code == 1
    assert "1 call (not_found), 1 follow-up (cannot_be_worded)" in result.output
    assert "call-1" in result.output
    assert follow_up_id in result.output.replace("\n", "")
    dead = _json(run)["accounts"][0]["dead"]
    assert {(each["work"], each["cause"], each["number"]) for each in dead} == {
        ("call", "not_found", 1),
        ("follow_up", "cannot_be_worded", 1),
    }


def test_an_unclear_follow_up_needs_a_person_only_when_nothing_else_helps(run: Commands, running: Database) -> None:
    store(running, booked_call("call-1"))
    unclear_follow_up(running, "call-1", seconds=60)
    assert run("status").exit_code == 0
    store(running, booked_call("call-2"))
    follow_up_id = unclear_follow_up(running, "call-2")
    assert run("status").exit_code == 1
    unclear = _json(run)["accounts"][0]["unclear_follow_ups"]
    assert (unclear["number"], unclear["for_a_person"]) == (2, 1)
    assert unclear["oldest_ids_for_a_person"] == [follow_up_id]


@pytest.mark.parametrize(("cause", "exit_code"), [(PauseCause.TOKEN, 1), (PauseCause.SCOPE, 1), (PauseCause.PERSON, 0)])
def test_a_pause_needs_a_person_unless_a_person_made_it(
    run: Commands, running: Database, cause: PauseCause, exit_code: int
) -> None:
    work = "follow_up" if cause is PauseCause.SCOPE else pauses.ALL_WORK
    write(running, pauses.pause, LOCATION, cause=cause, detail="What to do about it.", work=work)
    result = run("status")
    assert result.exit_code == exit_code
    assert f"by {cause}" in result.output
    assert _json(run)["accounts"][0]["paused"][0]["detail"] == "What to do about it."


@pytest.mark.parametrize("command", [("status",), ("accounts", "show", LOCATION)])
def test_the_circuit_breaker_is_said_to_be_open_only_until_its_time(
    run: Commands, running: Database, command: tuple[str, ...]
) -> None:
    open_breaker_by_outages(running)
    assert "5 in a row; circuit breaker open until" in run(*command).output
    half_open_breaker(running)
    said = run(*command).output
    assert "circuit breaker half-open" in said
    assert "open until" not in said


def test_missing_processes_and_an_absent_redis_need_a_person(run: Commands, served: Database) -> None:
    with beating(served, "worker"):
        result = run("status", REDIS_URL="redis://:hidden@127.0.0.1:1/0")
    assert result.exit_code == 1
    assert "no beat process is alive" in result.output
    assert "no web process is alive" in result.output
    assert "no worker process" not in result.output
    assert "Redis does not answer" in result.output
    assert "hidden" not in result.output


def test_a_redis_that_drops_messages_when_it_is_full_is_told(run: Commands, running: Database, tmp_path: Path) -> None:
    with RedisServer(tmp_path / "lossy", "maxmemory 50mb", "maxmemory-policy allkeys-lru") as lossy:
        said = run("status", REDIS_URL=f"redis://127.0.0.1:{lossy.port}/0")
        assert said.exit_code == 1, "a person sets it otherwise before it is full"
        assert "allkeys-lru" in said.output
        assert _json(run, REDIS_URL=f"redis://127.0.0.1:{lossy.port}/0")["redis"]["maxmemory_policy"] == "allkeys-lru"


def test_an_account_without_a_token_needs_a_person(run: Commands, running: Database) -> None:
    write(running, accounts.add, "AnotherLocation00001")
    result = run("status")
    assert result.exit_code == 1
    assert "AnotherLocation00001: it has no API token" in result.output


def test_a_check_prints_only_what_needs_a_person_and_fails_from_the_least_severity_on(
    run: Commands, running: Database, redis_url: str
) -> None:
    def check(*words: str) -> tuple[int, str]:
        result = run("status", "--check", *words, REDIS_URL=redis_url, COLUMNS="400")
        return result.exit_code, result.output

    write(running, pauses.pause, LOCATION, cause=PauseCause.PERSON, detail="Until Monday.")
    assert check() == (0, "")
    dead_call(running, "call-2", location_id=_another(running))
    code, printed = check()
    assert (code, printed.count("\n")) == (1, 1)
    assert printed.startswith(
        "warning dead_call: AnotherLocation00001: 1 dead call (not_found): call-2: `leadway-calls"
    )
    assert check("--least", "critical") == (0, "")
    receive(running, "one")
    with running.inbox.transaction() as connection:
        connection.execute(sa.update(inbox.inbox_table).values(received_at=moment(-61)))
    code, printed = check("--least", "critical")
    assert (code, printed.split(":")[0]) == (1, "critical notifications_not_taken_in")


def _another(database: Database) -> str:
    """A second account, with a token."""
    write(database, accounts.add, "AnotherLocation00001")
    write(database, accounts.set_token, "AnotherLocation00001", TOKEN, cipher=TokenCipher([ENCRYPTION_KEY]))
    return "AnotherLocation00001"


def test_a_check_that_cannot_tell_is_exit_status_2_and_says_why(environment: dict[str, str]) -> None:
    run = Commands({**environment, "DATABASE_URL": "sqlite:////proc/none/x.db"})
    result = run("status", "--check", "--least", "critical")
    assert result.exit_code == 2
    assert result.output.startswith("critical database_unusable:")


@pytest.mark.parametrize(
    "url", ["postgresql://a:hidden@127.0.0.1:1/b", "sqlite:///empty.db", "sqlite:////proc/none/x.db", "nonsense"]
)
def test_a_database_that_is_away_or_not_ready_is_exit_status_2_with_the_same_keys(
    environment: dict[str, str], url: str
) -> None:
    run = Commands({**environment, "DATABASE_URL": url})
    assert run("status").exit_code == 2
    result = run("status", "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told.keys() == KEYS
    assert told["verdict"] == "cannot_tell"
    assert told["reasons"]
    assert "hidden" not in run.printed


def test_settings_that_cannot_be_read_are_exit_status_2(environment: dict[str, str]) -> None:
    result = Commands({**environment, "PORT": "many"})("status", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["redis"] == {"reachable": None, "maxmemory_policy": None}


def test_it_tells_no_secret_and_nothing_that_was_said_and_fits_80_columns(run: Commands, running: Database) -> None:
    store(running, booked_call("call-1"))
    dead_call(running, "call-2")
    unclear_follow_up(running, "call-1")
    output = run("status").output
    assert max(map(len, output.splitlines())) <= 80
    run("status", "--json")
    for word in (TOKEN, SECRET, SUMMARY, TRANSCRIPT, "+34600000000"):
        assert word not in run.printed
