"""A call whose processing ends the worker, each time: it is given up by itself, and takes no neighbour with it."""

import itertools

from tests.crash.stage import Stage
from tests.leadway_double.nouns import PlacedCall
from tests.support.traffic import NOTES_OF, assert_each_note_once
from tests.support.waiting import eventually

KILLS_AT_MOST = 6


def test_a_call_that_ends_every_worker_is_given_up_as_poison_and_its_neighbours_are_stored(
    stage_on_sqlite: Stage,
) -> None:
    stage, world = stage_on_sqlite, stage_on_sqlite.world
    poison, *neighbours = (
        world.double.place_call(actions=NOTES_OF, contact=f"contact-of-poison-{number}", booked=True)
        for number in range(9)
    )
    hang = world.double.fault("fetch", "hang", only=poison.call_id)
    world.double.fault("list", "shortened", count=0)  # a list would bring the log without a fetch
    for call in (poison, *neighbours):
        assert world.double.notify(call).accepted

    kills = _kill_the_worker_whenever_it_reads(stage, poison)

    assert _standing(stage, poison) == ("dead", "poison")
    assert kills == 4, "two in company, two alone"
    assert not world.double.truth.notes(contact_id=poison.contact_id)
    stage.wait_for_peace(neighbours)
    assert_each_note_once(world, neighbours)

    assert world.double.notify(poison).accepted
    assert _standing(stage, poison) == ("dead", "poison")

    world.double.clear_faults(hang)
    assert "will be fetched" in world.command("replay", "call", poison.call_id, name="replay")
    stage.wait_for_peace([poison])
    assert_each_note_once(world, [poison, *neighbours])


def _kill_the_worker_whenever_it_reads(stage: Stage, call: PlacedCall) -> int:
    """Until the call is dead; returns how often that was."""
    for kills in itertools.count():
        assert kills <= KILLS_AT_MOST, "it is tried again and again"
        before = _readings(stage)
        eventually(
            lambda: _readings(stage) > before or _standing(stage, call)[0] == "dead",  # noqa: B023 - asked at once
            timeout=40,
            describe=lambda: f"the call to be read once more, or to be dead: {stage.world.unfinished()}",
        )
        if _readings(stage) == before:
            return kills
        stage.kill("worker")
    raise AssertionError("unreachable: count never ends")


def _readings(stage: Stage) -> int:
    """How often the log was asked for."""
    return sum(fault.hits for fault in stage.world.double.faults() if fault.kind == "fetch")


def _standing(stage: Stage, call: PlacedCall) -> tuple[str, str | None]:
    [row] = stage.world.rows("SELECT dead_cause FROM work WHERE subject = :id", id=call.call_id)
    return "open" if row["dead_cause"] is None else "dead", row["dead_cause"]
