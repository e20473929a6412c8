"""Which processes count as alive."""

import sqlalchemy as sa

from models.database import Database, moment
from models.work import heartbeats
from tests.support.rows import read, rows_of, write


def beat(
    database: Database, name: str, *, process: str = "worker", slots: int = 0, age: float = 0, version: str = "1+0005"
) -> None:
    with database.transaction() as connection:
        heartbeats.beat(connection, name, process=process, slots=slots, version=version)
        this = heartbeats.heartbeats_table.c.name == name
        if age:
            connection.execute(sa.update(heartbeats.heartbeats_table).where(this).values(beat_at=moment(-age)))


def test_the_slots_of_all_live_workers_count_together(database: Database) -> None:
    assert read(database, heartbeats.live_slots) == 0
    beat(database, "one", slots=32)
    beat(database, "two", slots=8)
    beat(database, "web", process="web", slots=99)
    beat(database, "gone", slots=32, age=11)
    beat(database, "slow", slots=1, age=8)
    with database.reading() as connection:
        assert heartbeats.live_slots(connection) == 41
        assert sorted(heartbeats.live_workers(connection)) == ["one", "slow", "two"]


def test_a_process_that_beats_again_is_alive_again_and_keeps_its_start(database: Database) -> None:
    beat(database, "one", age=60)
    (before,) = rows_of(database, heartbeats.heartbeats_table)
    with database.reading() as connection:
        assert [each.is_alive for each in heartbeats.all_of(connection)] == [False]
    beat(database, "one", slots=4)
    (after,) = rows_of(database, heartbeats.heartbeats_table)
    with database.reading() as connection:
        assert [each.is_alive for each in heartbeats.all_of(connection)] == [True]
    assert (after["started_at"], after["slots"]) == (before["started_at"], 4)


def test_a_process_that_ends_on_purpose_is_gone_at_once(database: Database) -> None:
    beat(database, "one")
    beat(database, "two")
    write(database, heartbeats.leave, "one")
    assert read(database, heartbeats.live_workers) == ["two"]


def test_processes_that_are_gone_for_a_day_are_forgotten(database: Database) -> None:
    beat(database, "yesterday's", age=86_500)
    beat(database, "today's", age=86_000)
    write(database, heartbeats.forget_gone)
    assert [row["name"] for row in rows_of(database, heartbeats.heartbeats_table)] == ["today's"]


def test_versions_are_told_only_when_live_processes_differ_with_those_who_run_each(database: Database) -> None:
    def told() -> str:
        return heartbeats.mixed_versions(read(database, heartbeats.all_of))

    assert told() == ""
    for number in range(7):
        beat(database, f"worker-{number}")
    beat(database, "gone", version="1+0004", age=60)
    assert told() == ""
    beat(database, "web", process="web", version="2+0006")
    with database.transaction() as connection:
        heartbeats.beat(connection, "beat", process="beat")
    assert told() == ("1+0005: worker-0, worker-1, worker-2, worker-3, worker-4 and 2 more; 2+0006: web; older: beat")
