"""A pause that Leadway caused ends by itself when Leadway works again."""

from datetime import datetime

import pytest

from models.accounts import pauses
from models.accounts.pauses import ALL_WORK, PauseCause
from tests.support.rows import on_sqlite, write
from tests.support.worker import TOLERATED, AtWork
from workers.heal_pauses import heal_pauses


def pause(at_work: AtWork, cause: PauseCause, *, work: str = ALL_WORK) -> None:
    write(at_work.database, pauses.pause, at_work.location_id, cause=cause, detail="why", work=work)


def next_probe(at_work: AtWork) -> datetime | None:
    [row] = at_work.rows("pauses")
    found: datetime | None = row["next_probe_at"]
    return found


def test_a_token_that_works_again_is_noticed_by_one_harmless_request(at_work: AtWork) -> None:
    call = at_work.double.place_call()
    at_work.announce(call)
    at_work.double.revoke_token()
    at_work.fetch(call)
    at_work.double.restore_token()
    heal_pauses()
    assert at_work.pauses() == {("token", "all")}, "not at once"
    at_work.time_passes(31)
    heal_pauses()
    assert not at_work.pauses()
    assert [each.kind for each in at_work.requests()] == ["fetch", "list"]
    assert at_work.fetch(call).status == "complete"


def test_while_it_does_not_work_it_is_looked_for_at_growing_intervals(at_work: AtWork) -> None:
    pause(at_work, PauseCause.TOKEN)
    at_work.double.revoke_token()
    waits = []
    for _ in range(9):
        probe = next_probe(at_work)
        assert probe is not None
        waits.append(at_work.seconds_until(probe))
        at_work.time_passes(waits[-1] + 1)
        heal_pauses()
    assert at_work.pauses() == {("token", "all")}
    assert [round(wait) for wait in waits] == sorted(round(wait) for wait in waits)
    assert waits[-1] == pytest.approx(1800, abs=TOLERATED)
    assert len(at_work.requests("list")) == 9


@on_sqlite
@pytest.mark.parametrize("how", [{"what": "status", "status": 503}, {"what": "status", "status": 429}])
def test_an_outage_during_the_look_heals_nothing(at_work: AtWork, how: dict[str, object]) -> None:
    pause(at_work, PauseCause.LOCATION)
    at_work.double.fault("list", **how)  # type: ignore[arg-type]
    at_work.time_passes(31)
    heal_pauses()
    assert at_work.pauses() == {("location", "all")}


def test_a_persons_pause_never_heals(at_work: AtWork) -> None:
    pause(at_work, PauseCause.PERSON)
    at_work.time_passes(10_000)
    heal_pauses()
    assert at_work.pauses() == {("person", "all")}
    assert not at_work.requests()


def test_writing_is_let_go_on_without_a_look_and_pauses_again_if_it_must(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.double.remove_scope("contacts.write")
    at_work.send(follow_up_id)
    at_work.time_passes(31)
    heal_pauses()
    assert not at_work.pauses()
    at_work.send(follow_up_id)
    assert at_work.pauses() == {("scope", "follow_up")}
    at_work.double.memory.tokens[at_work.double.token].scopes |= {"contacts.write"}
    at_work.time_passes(31)
    heal_pauses()
    assert at_work.send(follow_up_id).status == "done"
    assert len(at_work.notes(follow_up_id)) == 1


def test_the_scope_of_one_kind_of_work_says_nothing_about_the_other(at_work: AtWork) -> None:
    at_work.double.remove_scope("voice-ai-dashboard.readonly")
    pause(at_work, PauseCause.SCOPE, work="call")
    pause(at_work, PauseCause.SCOPE, work="follow_up")
    at_work.time_passes(31)
    heal_pauses()
    assert at_work.pauses() == {("scope", "call")}
