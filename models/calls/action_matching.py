"""Matches the actions of a newer reading to the stored ones: an action keeps the key that it got when first stored.

An id alone does not identify an action. Leadway's action ids may be missing, may be those of the agent's configured
action, and may repeat.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from models.calls.call_log import Action


@dataclass(frozen=True)
class StoredAction:
    """An action as stored, with the key that it got then."""

    action_key: str
    action: Action


def match_actions(stored: Sequence[StoredAction], read: Sequence[Action]) -> list[str]:
    """The key of each action in `read`, in order: that of the stored action it matches, else a new one.

    Two actions match by the first of these identities that both have: type, id and time; type and id, if unique; id and
    time; id, if unique; type and time; type and name, in order. The type goes first because the id of one configured
    action may stand on actions of several types.
    """
    keys: list[str | None] = [None] * len(read)
    left = list(stored)
    for identity, only_unique in _IDENTITIES if stored else ():
        _match(identity, only_unique, left, read, keys)
    taken = {each.action_key for each in stored}
    for position, action in enumerate(read):
        if keys[position] is None:
            keys[position] = _new_key(action, read, taken)
    return [key for key in keys if key is not None]


def _match(
    identity: Callable[[Action], Hashable | None],
    only_unique: bool,
    left: list[StoredAction],
    read: Sequence[Action],
    keys: list[str | None],
) -> None:
    on_both_sides = [Counter(identity(each.action) for each in left), Counter(map(identity, read))]
    for position, action in enumerate(read):
        wanted = identity(action)
        if keys[position] is not None or wanted is None:
            continue
        if only_unique and any(counted[wanted] > 1 for counted in on_both_sides):
            continue
        found = next((each for each in left if identity(each.action) == wanted), None)
        if found is not None:
            keys[position] = found.action_key
            left.remove(found)


def _id_and_time(action: Action) -> Hashable | None:
    return (action.action_id, action.executed_at) if action.action_id and action.executed_at else None


def _id(action: Action) -> Hashable | None:
    return action.action_id


def _type_id_and_time(action: Action) -> Hashable | None:
    return (action.action_type, _id_and_time(action)) if _id_and_time(action) else None


def _type_and_id(action: Action) -> Hashable | None:
    return (action.action_type, action.action_id) if action.action_id else None


def _type_and_time(action: Action) -> Hashable | None:
    return (action.action_type, action.executed_at) if action.executed_at else None


def _type_and_name(action: Action) -> Hashable | None:
    return (action.action_type, action.name)


_IDENTITIES: tuple[tuple[Callable[[Action], Hashable | None], bool], ...] = (
    (_type_id_and_time, False),
    (_type_and_id, True),
    (_id_and_time, False),
    (_id, True),
    (_type_and_time, False),
    (_type_and_name, False),
)


def _new_key(action: Action, read: Sequence[Action], taken: set[str]) -> str:
    """A key that a first reading of the same log would give again: from the id if it is unique, else from the type."""
    unique = action.action_id is not None and sum(each.action_id == action.action_id for each in read) == 1
    stem = f"id-{action.action_id}" if unique else action.action_type.lower()
    key, number = stem, 1
    while key in taken:
        number += 1
        key = f"{stem}-{number}"
    taken.add(key)
    return key
