"""Logs that come late, in pieces, or as an older copy: what there is gets stored, and nothing of it is lost."""

from tests.crash.stage import Stage
from tests.leadway_double.nouns import PlacedCall
from tests.support.traffic import NOTES_OF, assert_each_note_once
from tests.support.waiting import eventually

LATE_SECONDS = 2.0


def test_a_log_that_is_not_there_yet_or_not_full_yet_is_read_again_until_it_is(stage_on_sqlite: Stage) -> None:
    stage, world = stage_on_sqlite, stage_on_sqlite.world
    wish = {"actions": NOTES_OF, "contact": True, "booked": True}
    late = world.double.place_call(late=LATE_SECONDS, **wish)
    empty = world.double.place_call(empty_for=LATE_SECONDS, **wish)
    growing = world.double.place_call(empty_for=LATE_SECONDS, actions_late=LATE_SECONDS, **wish)
    for call in (late, empty, growing):
        assert world.double.notify(call).accepted

    eventually(lambda: _row(stage, empty)["stored_at"], describe="what there is to be stored meanwhile")
    assert _row(stage, empty)["settled_at"] is None

    stage.wait_for_peace([late, empty, growing])
    for call in (late, empty, growing):
        row = _row(stage, call)
        assert row["settled_at"] is not None
        assert row["transcript"]
        assert row["summary"]
    assert_each_note_once(world, [late, empty, growing])


def test_an_older_copy_of_the_log_erases_nothing_and_repeats_no_note(stage_on_sqlite: Stage) -> None:
    stage, world = stage_on_sqlite, stage_on_sqlite.world
    call = world.double.place_call(
        actions=NOTES_OF, contact=True, booked=True, empty_for=0.5, actions_late=0.5, fields={"extractedData": {"a": 1}}
    )
    assert world.double.notify(call).accepted
    stage.wait_for_peace([call])
    newest, actions = _row(stage, call), _actions(stage, call)
    assert len(actions) == len(NOTES_OF)

    fault = world.double.fault("fetch", "older_copy", only=call.call_id)
    assert "will be fetched" in world.command("replay", "call", call.call_id, name="replay")
    eventually(lambda: world.double.faults()[0].hits, describe="the older copy to be read")
    world.double.clear_faults(fault)
    eventually(lambda: call.call_id not in world.open_calls(), describe="the call to be complete again")

    stage.wait_for_peace([call])
    assert {name: _row(stage, call)[name] for name in ("transcript", "summary", "contact_id")} == {
        name: newest[name] for name in ("transcript", "summary", "contact_id")
    }
    assert _actions(stage, call) == actions
    assert_each_note_once(world, [call])


def _row(stage: Stage, call: PlacedCall) -> dict[str, object]:
    [row] = stage.world.rows("SELECT * FROM calls WHERE call_id = :id", id=call.call_id)
    return dict(row)


def _actions(stage: Stage, call: PlacedCall) -> list[tuple[str, str]]:
    rows = stage.world.rows(
        "SELECT action_key, action_type FROM call_actions WHERE call_id = :id ORDER BY action_key", id=call.call_id
    )
    return [(row["action_key"], row["action_type"]) for row in rows]
