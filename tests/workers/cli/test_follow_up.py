"""`leadway-calls follow-up`: a person settles an unclear follow-up."""

import re
from collections.abc import Callable

import pytest

from models.database import Database
from tests.support.rows import (
    booked_call,
    claimed_follow_up,
    dead_follow_up,
    done_follow_up,
    only_follow_up,
    store,
    unclear_follow_up,
)
from tests.workers.cli.conftest import Commands


@pytest.mark.parametrize(
    ("come_about", "status", "to_do"),
    [
        (None, "pending", "tried by itself"),
        (lambda served: claimed_follow_up(served, only_follow_up(served).follow_up_id), "running", "being written"),
        (lambda served: unclear_follow_up(served, seconds=60), "unclear", "it is looked for at"),
        (unclear_follow_up, "unclear", "run this again with --is-there"),
        (dead_follow_up, "dead: cannot_be_worded", "`leadway-calls replay follow-up"),
        (done_follow_up, "done", "Nothing: it is done."),
    ],
)
def test_how_a_follow_up_stands_and_what_to_do(
    run: Commands, served: Database, come_about: Callable[[Database], object] | None, status: str, to_do: str
) -> None:
    store(served, booked_call("call-1"))
    if come_about is not None:
        come_about(served)
    shown = run("follow-up", only_follow_up(served).follow_up_id, COLUMNS="400").output
    assert f" {status}\n" in shown
    assert to_do in shown
    _, _, of_the_call = run("call", "call-1").output.partition("Follow-ups\n")
    assert re.search(f" status +{status}", of_the_call)


@pytest.mark.parametrize(("flag", "status"), [("--is-there", "done"), ("--send-again", "pending")])
def test_a_person_settles_an_unclear_follow_up(run: Commands, served: Database, flag: str, status: str) -> None:
    store(served, booked_call("call-1"))
    follow_up_id = unclear_follow_up(served, "call-1")
    shown = run("follow-up", follow_up_id).output
    assert "contact-1" in shown
    assert "--is-there" in shown
    assert run("follow-up", follow_up_id, flag).exit_code == 0
    assert only_follow_up(served, "call-1").status == status
    again = run("follow-up", follow_up_id, flag)
    assert again.exit_code == 1
    assert "not unclear" in again.output


def test_both_answers_at_once_or_an_unknown_follow_up_are_refused(run: Commands, served: Database) -> None:
    assert run("follow-up", "x", "--is-there", "--send-again").exit_code == 2
    for words in (("x",), ("x", "--is-there")):
        result = run("follow-up", *words)
        assert result.exit_code == 1
        assert "no follow-up 'x'" in result.output
