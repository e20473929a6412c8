"""Intake was down: afterwards every call is there, each note once, and the mark has passed the outage by itself."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.leadway_double.nouns import PlacedCall
from tests.support.waiting import eventually
from tests.support.world import World, notes_due, notes_written

BOTH = ["CALL_TRANSFER", "APPOINTMENT_BOOKING"]
HOUR = 3600
DAY = 24 * HOUR
FOLLOW_UP_AGE = 72 * HOUR


@pytest.mark.parametrize(
    ("outage", "silent_calls", "telling_calls", "database"),
    [(HOUR, 60, 30, "postgresql"), (DAY, 500, 60, "sqlite"), (5 * DAY, 2600, 90, "postgresql")],
    ids=["1 h", "24 h", "5 d"],
)
def test_after_an_outage_of_the_intake_nothing_is_missing_and_nothing_is_twice(
    request: pytest.FixtureRequest,
    redis_url: str,
    tmp_path: Path,
    outage: int,
    silent_calls: int,
    telling_calls: int,
    database: str,
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    with World(tmp_path, database_url=url, redis_url=redis_url) as world:
        was_complete_until(world, seconds_ago=outage)
        double = world.double
        double.place_calls(silent_calls, over=outage - 600, ago=300, actions=[])
        double.place_calls(telling_calls, over=outage - 600, ago=300, contact=True, actions=BOTH)
        double.place_calls(
            5, over=outage - 600, ago=300, trial=True, actions=BOTH
        )  # none in the minute that is not closed yet
        appears_late = double.place_call(ago=120, listed_late=600, actions=BOTH)
        double.fault("list", "shifting", times=3)
        double.fault("list", "status", status=503, times=2, skip=1)
        double.fault("list", "reset", times=1, skip=2)

        world.start("worker")  # and no web: nothing is announced
        passed = eventually(lambda: last_regular(world), timeout=60, describe="the regular run to end")
        world.wait_until_done(calls=len(double.truth.calls()) - 1, timeout=100)
        assert all(window["listed"] == window["held"] for window in passed)
        assert world.scalar("SELECT complete_until > :t FROM accounts", t=world_time(world, -300)), "passed the outage"

        double.set_clock(700)  # the late log is listed now, and within the overlap
        change(world, "UPDATE accounts SET next_reconcile_at = NULL")
        world.wait_until_done(calls=len(double.truth.calls()), timeout=60)

        calls = double.truth.calls()
        stored = [row["call_id"] for row in world.rows("SELECT call_id FROM calls")]
        assert sorted(stored) == sorted(call.call_id for call in calls), "nothing missing, nothing twice"
        assert appears_late.call_id in stored
        due = {call_id: number for call_id, number in notes_due(recent(world, calls)).items() if number}
        assert notes_written(world) == due
        assert world.scalar("SELECT count(*) FROM follow_ups WHERE skip_reason = 'too_old'") == owed_too_late(
            world, calls
        )
        pages = len(double.truth.requests(kind="list"))
        assert pages <= len(calls) * 0.03 + 60
        assert not double.truth.requests(kind="fetch"), "pages brought everything"


def test_a_reconcile_that_is_killed_at_every_page_converges(sqlite_url: str, redis_url: str, tmp_path: Path) -> None:
    settings = {"LEADWAY_LEASE_SECONDS": "2"}
    with World(tmp_path, database_url=sqlite_url, redis_url=redis_url, settings=settings) as world:
        was_complete_until(world, seconds_ago=5 * HOUR)
        placed = world.double.place_calls(120, over=4 * HOUR, ago=60, actions=["CALL_TRANSFER"], contact=True)
        world.double.fault("list", "delay", seconds=0.1)
        for pages in (1, 1, 2, 2, 2, 2):  # each start gets a page further, and dies while the next one is on its way
            assert not ended_by_itself(world, pages=pages)
            world.processes.kill("reconcile")
        assert ended_by_itself(world, pages=100)
        assert world.processes.wait("reconcile") == 0, world.processes.log("reconcile")
        stored = [row["call_id"] for row in world.rows("SELECT call_id FROM calls")]
        assert sorted(stored) == sorted(call.call_id for call in placed)
        assert world.scalar("SELECT count(*) FROM follow_ups") == len(placed)
        assert not world.rows("SELECT * FROM reconciliations WHERE listed <> held")
        assert world.scalar("SELECT count(*) FROM reconciliations WHERE finished_at IS NULL") == 0
        assert world.scalar("SELECT complete_until > :t FROM accounts", t=world_time(world, -300))


def ended_by_itself(world: World, *, pages: int) -> bool:
    """Starts the command and waits for its end, or for so many pages that it has asked for."""
    seen = len(world.double.truth.requests(kind="list"))
    world.processes.run(["leadway-calls", "reconcile"], name="reconcile")
    eventually(
        lambda: (
            not world.processes.is_running("reconcile") or len(world.double.truth.requests(kind="list")) >= seen + pages
        ),
        timeout=60,
    )
    return not world.processes.is_running("reconcile")


def was_complete_until(world: World, *, seconds_ago: int) -> None:
    """The system ran until then, and then its intake went down."""
    world.processes.finish("release")
    then = world_time(world, -seconds_ago)
    change(world, "UPDATE accounts SET added_at = :t, complete_from = :t, complete_until = :t", t=then)


def world_time(world: World, seconds: int) -> str:
    """The database's clock, so many seconds from now, as that database writes a time."""
    if world.database_url.startswith("sqlite"):
        return str(world.scalar(f"SELECT strftime('%Y-%m-%d %H:%M:%f000', 'now', '{seconds} seconds')"))
    return str(world.scalar(f"SELECT now() + make_interval(secs => {seconds})"))


def change(world: World, statement: str, **values: object) -> None:
    engine = sa.create_engine(world.database_url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement), values)
    engine.dispose()


def last_regular(world: World) -> list[sa.RowMapping]:
    """The windows of the regular run, when it has ended."""
    rows = world.rows("SELECT * FROM reconciliations WHERE kind = 'regular'")
    return rows if rows and all(row["finished_at"] for row in rows) else []


def recent(world: World, calls: list[PlacedCall]) -> list[PlacedCall]:
    """Those that ended within the follow-up age. None of the placed ones is near its end."""
    now = world.double.memory.now() - world.double.memory.clock_offset
    return [call for call in calls if now - call.created_at.timestamp() - call.duration < FOLLOW_UP_AGE]


def owed_too_late(world: World, calls: list[PlacedCall]) -> int:
    known = {call.call_id for call in recent(world, calls)}
    return sum(notes_due([call for call in calls if call.call_id not in known]).values())
