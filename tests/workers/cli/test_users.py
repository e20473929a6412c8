"""`leadway-calls users`: who may sign in to the pages."""

import pytest

from models.database import Database
from models.reports import users
from tests.support.rows import read, rows_of
from tests.workers.cli.conftest import Commands

LONG = "a-long-password-of-hers"


def test_a_user_is_added_listed_given_another_password_and_removed(run: Commands, unserved: Database) -> None:
    added = run("users", "add", "maria", "--role", "operator", "--password-stdin", stdin=f"{LONG}\n")
    assert (added.exit_code, added.output) == (0, "maria may sign in as operator.\n")
    account = read(unserved, users.get, "maria")
    assert account is not None
    assert account.has_password(LONG)
    assert account.user.may_act
    listed = run("users", "list", OPS_PASSWORD="a-password-of-ops-here").output
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [["ops", "operator"], ["maria", "operator"]]
    again = run("users", "add", "maria", "--role", "viewer", "--password-stdin", stdin=f"{LONG}\n")
    assert again.exit_code == 1
    assert "there is a user 'maria'" in again.output
    assert run("users", "set-password", "maria", "--password-stdin", stdin=f"{LONG}!\n").exit_code == 0
    changed = read(unserved, users.get, "maria")
    assert changed is not None
    assert changed.has_password(f"{LONG}!")
    assert run("users", "remove", "maria").exit_code == 0
    assert rows_of(unserved, users.users_table) == []
    assert LONG not in run.printed


@pytest.mark.parametrize(
    ("words", "stdin", "status", "said"),
    [
        (("add", "maria", "--role", "viewer", "--password-stdin"), "short\n", 2, "at least 16 characters"),
        (("add", "ops", "--role", "viewer", "--password-stdin"), f"{LONG}\n", 2, "OPS_PASSWORD"),
        (("add", "María López", "--role", "viewer", "--password-stdin"), f"{LONG}\n", 2, "small letters"),
        (("add", "maria", "--role", "owner", "--password-stdin"), f"{LONG}\n", 2, "'owner' is not one of"),
        (("set-password", "nobody", "--password-stdin"), f"{LONG}\n", 1, "no user 'nobody'"),
        (("remove", "nobody"), "", 1, "no user 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_said(
    run: Commands, unserved: Database, words: tuple[str, ...], stdin: str, status: int, said: str
) -> None:
    result = run("users", *words, stdin=stdin)
    assert (result.exit_code, said in " ".join(result.output.split())) == (status, True), result.output
