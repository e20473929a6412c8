"""`leadway-calls follow-up`: a person settles an unclear follow-up."""

import pytest

from models.database import Database
from models.work.work_rows import WorkStatus
from tests.support.rows import (
    booked_call,
    only_follow_up,
    store,
    unclear_follow_up,
)
from tests.workers.cli.conftest import Commands


@pytest.mark.parametrize(("flag", "status"), [("--is-there", WorkStatus.DONE), ("--send-again", WorkStatus.PENDING)])
def test_a_person_settles_an_unclear_follow_up(run: Commands, served: Database, flag: str, status: WorkStatus) -> None:
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
