"""An action keeps its key, whatever later readings of the log look like."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from models.calls.action_matching import StoredAction, match_actions
from models.calls.call_log import Action

NOON = datetime(2024, 5, 6, 12, 0, tzinfo=UTC)

actions = st.builds(
    Action,
    action_type=st.sampled_from(["SMS", "CALL_TRANSFER"]),
    name=st.sampled_from(["", "a", "b"]),
    action_id=st.sampled_from([None, "x", "y"]),
    executed_at=st.sampled_from([None, NOON, NOON + timedelta(seconds=1)]),
)
logs = st.lists(actions, max_size=5)


def read(stored: Sequence[StoredAction], log: Sequence[Action]) -> list[StoredAction]:
    """What is stored after a reading: those read in their order, then those that the log no longer has.

    What a reading does not say of an action is kept from the one before.
    """
    keys = match_actions(stored, log)
    known = {each.action_key: each.action for each in stored}
    present = [StoredAction(key, _fuller(known.get(key), action)) for key, action in zip(keys, log, strict=True)]
    return present + [each for each in stored if each.action_key not in keys]


def _fuller(before: Action | None, now: Action) -> Action:
    if before is None:
        return now
    return Action(
        now.action_type, now.name or before.name, now.action_id or before.action_id,
        executed_at=now.executed_at or before.executed_at,
    )  # fmt: skip


def action(number: int = 0, *, action_id: str | None = None, name: str = "", kind: str = "SMS") -> Action:
    return Action(action_type=kind, name=name, action_id=action_id, executed_at=NOON + timedelta(seconds=number))


@given(st.lists(logs, max_size=6))
@settings(max_examples=300, deadline=None)
def test_no_key_is_ever_lost_or_given_to_two_actions(readings: list[list[Action]]) -> None:
    stored: list[StoredAction] = []
    for log in readings:
        before = {each.action_key for each in stored}
        keys = match_actions(stored, log)
        assert len(keys) == len(log)
        assert len(set(keys)) == len(keys)
        stored = read(stored, log)
        assert before <= {each.action_key for each in stored}


@st.composite
def growing_logs(draw: st.DrawFn) -> list[list[tuple[int, Action]]]:
    """Readings of one call whose log fills: each action by its number, in any order, at first perhaps without id.

    Times tell actions of one type apart; ids may be missing, or name a configured action and repeat.
    """
    count = draw(st.integers(1, 6))
    whole = [
        Action(draw(st.sampled_from(["SMS", "CALL_TRANSFER"])), draw(st.sampled_from(["", "a"])),
               draw(st.sampled_from([None, "x", "y"])), executed_at=NOON + timedelta(seconds=number))
        for number in range(count)
    ]  # fmt: skip
    readings = []
    there: set[int] = set()
    for _ in range(draw(st.integers(1, 4))):
        there |= set(draw(st.lists(st.integers(0, count - 1), max_size=count)))
        without_ids = draw(st.booleans()) and not readings
        shown = [(n, replace(whole[n], action_id=None) if without_ids else whole[n]) for n in sorted(there)]
        readings.append(draw(st.permutations(shown)))
    return readings


@given(growing_logs())
@settings(max_examples=300, deadline=None)
def test_each_action_has_one_key_through_all_readings_of_a_log_that_fills(
    readings: list[list[tuple[int, Action]]],
) -> None:
    stored: list[StoredAction] = []
    key_of: dict[int, str] = {}
    for reading in [*readings, readings[-1]]:
        log = [action for _, action in reading]
        for (number, _), key in zip(reading, match_actions(stored, log), strict=True):
            assert key_of.setdefault(number, key) == key
        stored = read(stored, log)
    assert len(set(key_of.values())) == len(key_of)


def test_actions_of_several_kinds_under_one_id_keep_apart() -> None:
    log = [Action("SMS", action_id="x"), replace(action(1, action_id="x"), action_type="CALL_TRANSFER")]
    stored = read([], [action(1)])
    keys = match_actions(stored, log)
    assert match_actions(read(stored, log), log) == keys == ["sms", "call_transfer"]


@given(logs)
def test_a_first_reading_gives_the_same_keys_wherever_it_is_made(log: list[Action]) -> None:
    assert match_actions([], log) == match_actions([], log)


@given(logs, logs)
def test_a_fuller_log_only_adds(log: list[Action], more: list[Action]) -> None:
    stored = read([], log)
    fuller = match_actions(stored, [*log, *more])
    assert fuller[: len(log)] == [each.action_key for each in stored] or _ambiguous([*log, *more])
    assert set(fuller) >= {each.action_key for each in stored}


def _ambiguous(log: Sequence[Action]) -> bool:
    """Two actions share an id, or a kind: which one is which is then a matter of order."""
    ids = [each.action_id for each in log if each.action_id]
    kinds = [(each.action_type, each.executed_at) for each in log]
    names = [(each.action_type, each.name) for each in log]
    return any(len(set(several)) < len(several) for several in (ids, kinds, names))


def test_an_action_with_an_id_of_its_own_is_keyed_by_it_and_others_by_their_kind() -> None:
    log = [action(1, action_id="one"), action(2, action_id="same"), action(3, action_id="same"), action(4)]
    assert match_actions([], log) == ["id-one", "sms", "sms-2", "sms-3"]


def test_an_id_that_names_the_configured_action_and_repeats_is_told_apart_by_time() -> None:
    log = [action(1, action_id="agent"), action(2, action_id="agent")]
    stored = read([], log)
    assert match_actions(stored, list(reversed(log))) == [stored[1].action_key, stored[0].action_key]


def test_an_action_whose_id_came_later_is_known_by_its_type_and_time() -> None:
    stored = read([], [action(1), action(2)])
    assert match_actions(stored, [action(2, action_id="late"), action(1)]) == ["sms-2", "sms"]


def test_an_action_whose_time_came_later_is_known_by_its_id() -> None:
    stored = read([], [Action("SMS", action_id="one"), Action("SMS", action_id="two")])
    assert match_actions(stored, [action(2, action_id="two"), action(1, action_id="one")]) == ["id-two", "id-one"]


def test_without_id_and_time_the_nth_of_a_kind_is_the_nth() -> None:
    stored = read([], [Action("SMS", "a"), Action("SMS", "b"), Action("SMS", "a")])
    again = [Action("SMS", "b"), Action("SMS", "a"), Action("SMS", "a"), Action("SMS", "a")]
    assert match_actions(stored, again) == ["sms-2", "sms", "sms-3", "sms-4"]
