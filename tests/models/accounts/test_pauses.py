"""Pauses: several causes at once, each healing by itself or not at all."""

import sqlalchemy as sa

from models.accounts import pauses
from models.accounts.pauses import ALL_WORK, PauseCause
from models.database import Database, moment
from tests.support.rows import LOCATION, read, seconds_until, write
from tests.support.waiting import at_once


def pause(database: Database, cause: PauseCause, *, work: str = ALL_WORK) -> bool:
    return write(database, pauses.pause, LOCATION, cause=cause, detail="what to do", work=work)


def causes(database: Database) -> set[str]:
    with database.reading() as connection:
        return {row.cause for row in pauses.of_account(connection, LOCATION)}


def probe(database: Database) -> list[str]:
    with database.transaction() as connection:
        return [row.cause for row in pauses.due_probes(connection)]


def let_probes_be_due(database: Database) -> None:
    with database.transaction() as connection:
        due = pauses.pauses_table.c.next_probe_at.is_not(None)
        connection.execute(sa.update(pauses.pauses_table).where(due).values(next_probe_at=moment(-1)))


def test_each_cause_holds_by_itself_and_ends_by_itself(database: Database) -> None:
    assert pause(database, PauseCause.TOKEN)
    assert pause(database, PauseCause.PERSON)
    with database.transaction() as connection:
        assert pauses.resume(connection, LOCATION, causes=[PauseCause.TOKEN])
        assert not pauses.resume(connection, LOCATION, causes=[PauseCause.TOKEN])
    assert causes(database) == {PauseCause.PERSON}
    assert write(database, pauses.resume, LOCATION)
    assert causes(database) == set()


def test_pausing_again_for_the_same_cause_is_told_and_changes_nothing(database: Database) -> None:
    assert pause(database, PauseCause.SCOPE, work="call")
    let_probes_be_due(database)
    probe(database)
    before = read(database, pauses.of_account, LOCATION)
    assert not pause(database, PauseCause.SCOPE, work="call")
    assert pause(database, PauseCause.SCOPE, work="follow_up"), "another kind of work"
    with database.reading() as connection:
        assert before[0] in pauses.of_account(connection, LOCATION)


def test_what_a_person_paused_is_never_probed(database: Database) -> None:
    pause(database, PauseCause.PERSON)
    let_probes_be_due(database)
    assert probe(database) == []


def test_a_pause_is_not_probed_at_once(database: Database) -> None:
    pause(database, PauseCause.TOKEN)
    assert probe(database) == []


def test_a_due_probe_is_given_to_one_prober_only(database: Database) -> None:
    pause(database, PauseCause.TOKEN)
    pause(database, PauseCause.LOCATION)
    let_probes_be_due(database)
    given = [cause for got in at_once([lambda: probe(database)] * 4) for cause in got]
    assert sorted(given) == [PauseCause.LOCATION, PauseCause.TOKEN]


def test_probes_come_at_growing_intervals_up_to_half_an_hour(database: Database) -> None:
    pause(database, PauseCause.TOKEN)
    waits = []
    for _ in range(9):
        with database.reading() as connection:
            (row,) = pauses.of_account(connection, LOCATION)
        waits.append(seconds_until(database, row.next_probe_at))
        let_probes_be_due(database)
        assert probe(database) == [PauseCause.TOKEN]
    for wait, expected in zip(waits, (30, 30, 60, 120, 240, 480, 960, 1800, 1800), strict=True):
        assert expected - 5 < wait <= expected
