"""Which processes count as alive."""

from datetime import UTC, datetime

import sqlalchemy as sa

from models.database import Database, moment
from models.work import heartbeats
from models.work.heartbeats import Heartbeat, different_redis, skewed_clocks, unconsumed_queues
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


def heard(
    process: str,
    *,
    number: int = 1,
    queues: str | None = None,
    clock_offset: float | None = 0.0,
    ago: float = 1.0,
    epoch: str | None = None,
) -> Heartbeat:
    name = f"{process}-{number}@here"
    return Heartbeat(name, process, 4, datetime.now(UTC), ago, "0.1.0", clock_offset, queues, epoch)


def test_a_queue_that_no_live_worker_takes_from_is_named() -> None:
    both = [heard("worker", queues="calls"), heard("worker", queues="calls,follow_ups"), heard("web")]
    assert unconsumed_queues(both, ["calls", "follow_ups", "housekeeping"]) == ["housekeeping"]
    assert unconsumed_queues([heard("worker", queues="")], ["calls"]) == ["calls"]


def test_without_live_workers_or_beside_one_that_does_not_tell_no_queue_is_named() -> None:
    assert unconsumed_queues([heard("web"), heard("worker", queues="", ago=60)], ["calls"]) == []
    assert unconsumed_queues([heard("worker", queues=None)], ["calls"]) == []


def test_a_clock_beyond_a_second_either_way_is_told_of_live_processes_only() -> None:
    told = skewed_clocks(
        [heard("web", clock_offset=-1.2), heard("worker", clock_offset=5.0), heard("beat", clock_offset=0.9),
         heard("beat", clock_offset=None), heard("beat", clock_offset=9.0, ago=60)]
    )  # fmt: skip
    assert told == "web-1@here is 1.2 s behind, worker-1@here is 5.0 s ahead"


def test_live_workers_of_different_redis_are_told_with_those_who_share_each() -> None:
    mine, ours, theirs = (heard("worker", number=number, epoch=epoch) for number, epoch in enumerate("aab", 1))
    starting, web = heard("worker", number=4), heard("web")
    assert different_redis([theirs, ours, mine, starting, web]) == "worker-2@here, worker-1@here; worker-3@here"
    assert different_redis([mine, ours, starting, web]) == ""
    assert different_redis([mine, heard("worker", number=5, epoch="b", ago=60)]) == ""
