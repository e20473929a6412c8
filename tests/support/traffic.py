"""Calls that end and are announced one after the other while something befalls the system."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests.leadway_double.nouns import PlacedCall
from tests.leadway_double.sender import Attempt, Delivery
from tests.support.world import World, notes_due, notes_written

NOTES_OF = ("CALL_TRANSFER", "APPOINTMENT_BOOKING")


class Traffic:
    """`with Traffic(world, per_second=10) as traffic: …`; at its end every notification has been accepted.

    Each call owes two notes, unless other actions are named (None: a typical mix). A notification that is not
    accepted is repeated by the double until it is.
    """

    def __init__(self, world: World, *, per_second: float, actions: Sequence[str] | None = NOTES_OF) -> None:
        self.calls: list[PlacedCall] = []
        self.deliveries: list[Delivery] = []
        self._world = world
        self._pause = 1 / per_second
        self._actions = actions
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._flow, name="traffic", daemon=True)

    @property
    def answers(self) -> list[Attempt]:
        """Of every delivery, repeats too, in the order of the deliveries."""
        return [attempt for delivery in self.deliveries for attempt in delivery.attempts]

    def statuses(self) -> set[int | None]:
        """Of every answer; None: none came in time."""
        return {attempt.status for attempt in self.answers}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        if kind is not None:
            return
        for delivery in self.deliveries:
            assert delivery.wait(60), f"still not accepted: {delivery}"
            assert delivery.accepted, f"never accepted: {delivery}"

    def _flow(self) -> None:
        next_at = time.monotonic()
        while not self._over.is_set():
            call = self._world.double.place_call(actions=self._actions, contact=True, booked=True)
            self.calls.append(call)
            self.deliveries.append(self._world.double.notify(call, wait=False))
            next_at += self._pause
            self._over.wait(max(0.0, next_at - time.monotonic()))


def assert_each_note_once(world: World, calls: list[PlacedCall]) -> None:
    """Of these calls each note that is due is there, and none twice."""
    written = notes_written(world)
    assert {call.call_id: written.get(call.call_id, 0) for call in calls} == notes_due(calls)
