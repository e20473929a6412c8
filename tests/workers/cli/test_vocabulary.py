"""One vocabulary of all commands: `--json` for what tells, `--dry-run` for what acts; a shell completes them."""

import json
from collections.abc import Iterator

import click
import pytest
from click.shell_completion import BashComplete

from models.accounts import accounts, pauses
from models.accounts.pauses import PauseCause
from models.database import Database
from models.reports import users
from models.reports.users import Role
from models.schema import metadata
from tests.support.rows import (
    LOCATION,
    TOKEN,
    booked_call,
    dead_call,
    dead_follow_up,
    on_postgresql,
    only_follow_up,
    rows_of,
    store,
    unclear_follow_up,
    write,
)
from tests.workers.cli.conftest import Commands
from workers.cli import main

OTHER = "AnotherLocation00001"
TELL_IN_THEIR_OWN_WAY = {"export": "writes files", "rules try": "shows words"}
MAKE_WHAT_CAN_BE_THROWN_AWAY = {"backup": "a file, and replaces none", "export": "files, and replaces none"}
ACT_WITHOUT_REHEARSAL = {"migrate": "each migration has a transaction of its own"}
TELL = {
    "accounts list", "accounts show", "status", "doctor", "call", "calls list", "calls search", "calls show",
    "follow-ups list", "notifications list", "rejections", "readers list", "users list", "rules try",
}  # fmt: skip


def commands_of(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        assert command is not None
        words = f"{before} {name}".strip()
        if isinstance(command, click.Group):
            yield from commands_of(command, words)
        else:
            yield words, command


def has(command: click.Command, option: str) -> bool:
    return any(option in parameter.opts for parameter in command.params)


def test_whatever_tells_tells_programs_too() -> None:
    lacking = {name for name, command in commands_of(main) if name in TELL and not has(command, "--json")}
    assert lacking == TELL & TELL_IN_THEIR_OWN_WAY.keys()


def test_whatever_acts_can_be_rehearsed() -> None:
    lacking = {name for name, command in commands_of(main) if name not in TELL and not has(command, "--dry-run")}
    assert lacking == {*MAKE_WHAT_CAN_BE_THROWN_AWAY, *ACT_WITHOUT_REHEARSAL}


def everything(database: Database) -> dict[str, object]:
    return {table.name: rows_of(database, table) for table in metadata.sorted_tables if table.name != "fences"}


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (f"accounts add {OTHER} --token-stdin --name New", TOKEN),
        (f"accounts set-token {LOCATION} --token-stdin", TOKEN + "9"),
        (f"accounts rotate-secret {LOCATION} --drop-old", None),
        (f"accounts connect {LOCATION} --client-id app --stdin", "a-client-secret\na-refresh-token"),
        (f"accounts set-budget {LOCATION} --per-day 1000", None),
        (f"accounts pause {LOCATION}", None),
        (f"accounts resume {LOCATION}", None),
        (f"accounts remove {LOCATION}", None),
        ("users add maria --role viewer --password-stdin", "a-password-of-this-test"),
        ("users set-password carmen --password-stdin", "a-password-of-this-test"),
        ("users remove carmen", None),
        ("replay refetch call-dead", None),
        ("replay refetch --state dead", None),
        ("replay plan call-2 --even-if-old", None),
        ("replay send call-1", None),
        ("restored --since 2026-01-01", None),
        ("reconcile", None),
    ],
)
def test_a_rehearsal_changes_nothing(run: Commands, served: Database, words: str, stdin: str | None) -> None:
    store(served, booked_call("call-1"))
    dead_follow_up(served, "call-1")
    store(served, booked_call("call-2"))
    dead_call(served, "call-dead")
    write(served, pauses.pause, LOCATION, cause=PauseCause.SCOPE, detail="Add it.")
    write(served, users.add, "carmen", Role.OPERATOR, password="a-password-of-carmen")
    before = everything(served)
    result = run(*words.split(), "--dry-run", stdin=stdin)
    assert result.exit_code == 0, result.output
    assert everything(served) == before


def test_settling_can_be_rehearsed(run: Commands, served: Database) -> None:
    store(served, booked_call("call-1"))
    follow_up_id = unclear_follow_up(served)
    before = everything(served)
    assert "nothing was changed" in run("follow-up", follow_up_id, "--send-again", "--dry-run").output
    assert everything(served) == before
    assert only_follow_up(served).status == "unclear"


def test_a_rehearsal_refuses_what_would_be_refused(run: Commands, served: Database) -> None:
    assert run("accounts", "pause", "nobody", "--dry-run").exit_code == 1
    assert run("users", "remove", "nobody", "--dry-run").exit_code == 1
    store(served, booked_call("call-1"))
    assert run("replay", "send", "call-1", "--dry-run").exit_code == 1


@on_postgresql
def test_a_role_is_not_made_by_a_rehearsal(run: Commands, served: Database) -> None:
    result = run("readers", "add", "rehearsed", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "shown only now" not in result.output
    with served.reading() as connection:
        assert connection.exec_driver_sql("SELECT 1 FROM pg_roles WHERE rolname = 'rehearsed'").first() is None
    assert json.loads(run("readers", "list", "--json").stdout) == {"readers": []}


def test_accounts_and_users_are_told_to_programs_without_their_secrets(run: Commands, served: Database) -> None:
    write(served, accounts.add, OTHER)
    write(served, users.add, "carmen", Role.OPERATOR, password="a-password-of-carmen")
    [first, second] = json.loads(run("accounts", "list", "--json").stdout)["accounts"]
    assert {first["location_id"], second["location_id"]} == {LOCATION, OTHER}
    shown = json.loads(run("accounts", "show", LOCATION[:8], "--json").stdout)
    assert (shown["has_token"], shown["has_intake_secret"], shown["breaker"]) == (True, True, "closed")
    assert [each["name"] for each in json.loads(run("users", "list", "--json").stdout)["users"]] == ["carmen"]
    assert TOKEN not in run.printed
    assert "scrypt" not in run.printed


@pytest.mark.parametrize(
    ("typed", "begun", "completed"),
    [
        ([], "cal", {"call", "calls"}),
        (["calls"], "", {"list", "search", "show"}),
        (["replay"], "", {"call", "follow-up", "plan", "refetch", "send"}),
        (["calls", "list", "--state"], "d", {"dead"}),
        (["calls", "list"], "--fol", {"--follow-up"}),
    ],
)
def test_a_shell_completes_commands_and_options(typed: list[str], begun: str, completed: set[str]) -> None:
    shell = BashComplete(main, {}, "leadway-calls", "_LEADWAY_CALLS_COMPLETE")
    assert {each.value for each in shell.get_completions(typed, begun)} == completed
