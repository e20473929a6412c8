"""The cells of the crash matrix: each step of a call's way × each thing that can go wrong there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from models.failpoints import FAILPOINTS
from tests.crash.stage import LEASE_SECONDS, SETTLE_SECONDS, Stage

FAULTS_OF_PROCESSES: dict[str, Callable[[Stage, int], None]] = {
    "kill it": lambda stage, pid: stage.kill_pid(pid),
    "kill worker": lambda stage, _pid: stage.kill("worker"),
    "kill web": lambda stage, _pid: stage.kill("web"),
    "kill beat": lambda stage, _pid: stage.kill("beat"),
    "freeze it": lambda stage, pid: stage.freeze(pid, LEASE_SECONDS + 1),
    "flush Redis": lambda stage, _pid: stage.flush_redis(),
    "restart Redis": lambda stage, _pid: stage.restart_redis(),
    "empty Redis": lambda stage, _pid: stage.restart_redis(empty=True),
    "restart database": lambda stage, _pid: stage.restart_database(),
}

PROBED = ({"kind": "create_note", "what": "do_then_reset", "times": 1},)
"""What makes an outcome unclear, so that the note is looked for."""


@dataclass(frozen=True)
class Cell:
    """One step and one fault: `point` is held while `befall` happens, or the double's `faults` are pinned."""

    step: str
    fault: str
    point: str | None = None
    befall: Callable[[Stage, int], None] | None = None
    faults: Sequence[dict[str, Any]] = ()
    wish: dict[str, Any] = field(default_factory=dict)
    """How the call is placed. Always with a contact, a transfer and a booking: two notes are due."""

    @property
    def name(self) -> str:
        return f"{self.step} × {self.fault}"


def every_cell() -> list[Cell]:
    return [*_of_processes(), *_of_the_api()]


def _of_processes() -> list[Cell]:
    return [
        Cell(point, fault, point, befall, faults=PROBED if point == "probe_answered" else ())
        for point in FAILPOINTS
        for fault, befall in FAULTS_OF_PROCESSES.items()
    ]


def _of_the_api() -> list[Cell]:
    late = SETTLE_SECONDS - 0.5
    at_fetch: dict[str, dict[str, Any]] = {
        "429": {"what": "status", "status": 429, "times": 2},
        "429 with Retry-After": {"what": "status", "status": 429, "retry_after": 1, "times": 1},
        "500": {"what": "status", "status": 500, "times": 2},
        "503": {"what": "status", "status": 503, "times": 2},
        "hang": {"what": "hang", "times": 1},
        "reset": {"what": "reset", "times": 2},
        "slow drip": {"what": "drip", "seconds": 6, "times": 1},
        "broken JSON": {"what": "broken_json", "times": 1},
        "cut body": {"what": "truncated", "times": 1},
        "another call's log": {"what": "wrong_document", "times": 1},
        "redirect": {"what": "redirect", "status": 302, "to": "http://127.0.0.1:9/", "times": 1},
    }
    at_note: dict[str, dict[str, Any]] = {
        "429": {"what": "status", "status": 429, "times": 2},
        "500, not written": {"what": "status", "status": 500, "times": 1},
        "500 after the write": {"what": "do_then_status", "status": 500, "times": 1},
        "422 after the write": {"what": "do_then_status", "status": 422, "times": 1},
        "422, not written": {"what": "status", "status": 422, "times": 1},
        "hang, not written": {"what": "hang", "times": 1},
        "hang after the write": {"what": "do_then_hang", "times": 1},
        "reset before the write": {"what": "reset", "times": 1},
        "reset after the write": {"what": "do_then_reset", "times": 1},
        "written late": {"what": "do_late", "seconds": late, "times": 1},
        "broken JSON": {"what": "broken_json", "times": 1},
        "cut body": {"what": "truncated", "times": 1},
        "slow drip": {"what": "drip", "seconds": 6, "times": 1},
    }
    at_look: dict[str, dict[str, Any]] = {
        "500": {"what": "status", "status": 500, "times": 2},
        "429": {"what": "status", "status": 429, "times": 1},
        "cut list": {"what": "truncated", "times": 1},
        "lagging list": {"what": "lagging", "seconds": SETTLE_SECONDS / 2, "times": 3},
        "reset": {"what": "reset", "times": 1},
    }
    at_booking: dict[str, dict[str, Any]] = {
        "500": {"what": "status", "status": 500, "times": 2},
        "hang": {"what": "hang", "times": 1},
    }
    return [
        Cell("fetch", "404, then found", wish={"late": 1.0}),
        Cell("fetch", "empty, then full", wish={"empty_for": 1.0}),
        Cell("fetch", "actions come later", wish={"actions_late": 1.0, "empty_for": 1.0}),
        *(Cell("fetch", name, faults=({"kind": "fetch", **fault},)) for name, fault in at_fetch.items()),
        *(Cell("write note", name, faults=({"kind": "create_note", **fault},)) for name, fault in at_note.items()),
        *(
            Cell("look for note", name, faults=(*PROBED, {"kind": "list_notes", **how}))
            for name, how in at_look.items()
        ),
        *(Cell("look up booking", name, faults=({"kind": "appointments", **how},)) for name, how in at_booking.items()),
    ]
