"""The cells of the crash matrix: each step of a call's way × each thing that can go wrong there."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from models.failpoints import FAILPOINTS
from tests.crash import plays
from tests.crash.plays import Executed, Play
from tests.crash.stage import LEASE_SECONDS, SETTLE_SECONDS, Stage

FAULTS_OF_PROCESSES: dict[str, Callable[[Stage, int], None]] = {
    "kill it": lambda stage, pid: stage.kill_pid(pid),
    "kill workers": lambda stage, _pid: stage.kill_workers(),
    "kill web": lambda stage, _pid: stage.kill("web"),
    "flush Redis": lambda stage, _pid: stage.flush_redis(),
    "restart Redis": lambda stage, _pid: stage.restart_redis(),
    "empty Redis": lambda stage, _pid: stage.restart_redis(empty=True),
    "restart database": lambda stage, _pid: stage.restart_database(),
}
SUSPENDED_AT = (
    "call_claimed",
    "call_fetched",
    "call_stored",
    "follow_up_claimed",
    "follow_up_worded",
    "note_answered",
    "probe_answered",
    "window_claimed",
    "page_listed",
    "grant_answered",
)
"""Where a worker may sleep without noticing it. Not `intent_committed`: between its last check and the socket nothing
can stop it, which docs/guarantees.md says."""
COPIED_AT = ("call_claimed", "call_fetched", "call_stored", "follow_up_claimed", "intent_committed", "note_answered")
"""Where a backup may be made, beside before all."""
TWO_NOTES = ("CALL_TRANSFER", "APPOINTMENT_BOOKING")
ONE_NOTE = ("CALL_TRANSFER",)
PROBED = ({"kind": "create_note", "what": "do_then_reset", "times": 1},)
"""What makes an outcome unclear, so that the note is looked for."""
LONG = 600.0
NO_ACTIONS_YET = {"actions_late": LONG}
"""Until the play changes the call."""

OF_THE_JOURNAL = ("journal_before_commit", "journal_committed", "drained_before_deletion")
"""While the database takes no row. SQLite has no journal: its inbox is a file like it."""

QUICK = (
    "call_fetched × kill it",
    "intent_committed × kill workers",
    "receipt_before_commit × kill web",
    "notifications_merged × kill it",
    "intent_committed × freeze it",
    "follow_up_worded × suspend it",
    "journal_before_commit × kill it",
    "journal_committed × restart database",
    "drained_before_deletion × kill it",
    "due_sent × flush Redis",
    "follow_up_claimed × restart Redis",
    "call_claimed × empty Redis",
    "note_answered × restart database",
    "intent_before_commit × kill it",
    "follow_up_before_commit × kill it",
    "window_claimed × kill it",
    "page_stored × kill workers",
    "grant_answered × kill it",
    "page × 500",
    "page × the same page",
    "page_listed × kill it, beside a refused row",
    "fetch × broken JSON",
    "write note × written late",
    "look for note × lag that ends between the looks",
    "look up booking × 500",
    "note in flight × kill, executed before",
    "look in flight × kill, executed after",
    "note in flight × kill, executed late",
    "note in flight × kill, never executed",
    "fetch in flight × freeze, executed before",
    "note in flight × freeze, executed after",
    "note in flight × freeze, executed late",
    "follow_up_worded × overtaken in flight",
    "call_fetched × overtaken in flight",
    "call_fetched × announced again",
    "page_listed × a fetch stores a newer log",
    "probe_answered × a person asks again",
    "follow_up_worded × its contact changes",
    "follow-up done × its message comes late",
    "nothing yet × restored from then",
    "follow_up_claimed × restored from then",
    "call_stored × commits lost at note_answered",
)
"""One cell of each kind: what every change has to pass. The mutations are caught by cells of these."""


@dataclass(frozen=True)
class Cell:
    """One step and one fault. `play` brings it about while the double's `faults` are pinned."""

    step: str
    fault: str
    play: Play = plays.undisturbed
    faults: Sequence[dict[str, Any]] = ()
    wish: dict[str, Any] = field(default_factory=dict)
    """How the call is placed. Always with a contact."""
    actions: Sequence[str] = TWO_NOTES
    """Each calls for one note."""
    only_on: str = ""
    """The database that it is about; empty: both."""

    @property
    def name(self) -> str:
        return f"{self.step} × {self.fault}"


def every_cell() -> list[Cell]:
    return [*_of_processes(), *_of_two_workers(), *_in_flight(), *_of_the_api(), *_of_a_database_that_forgot()]


def cells_named(names: Collection[str]) -> list[Cell]:
    """Raises ValueError for a name that no cell has."""
    known = {cell.name: cell for cell in every_cell()}
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"no such cells: {', '.join(unknown)}")
    return [known[name] for name in names]


def _frozen_for_a_lease(stage: Stage, pid: int) -> None:
    stage.freeze(pid, LEASE_SECONDS + 1)


def _of_processes() -> list[Cell]:
    points = [point for point in FAILPOINTS if point not in OF_THE_JOURNAL]
    cells = [
        Cell(point, fault, plays.befallen(point, befall))
        for point in points
        for fault, befall in FAULTS_OF_PROCESSES.items()
    ]
    cells += [Cell(point, "freeze it", plays.frozen(point)) for point in points]
    cells += [
        Cell(point, fault, plays.journaled(point, befall), only_on="postgresql")
        for point in OF_THE_JOURNAL
        for fault, befall in {**FAULTS_OF_PROCESSES, "freeze it": _frozen_for_a_lease}.items()
    ]
    return [_looking(cell) if cell.step == "probe_answered" else cell for cell in cells]


def _looking(cell: Cell) -> Cell:
    """The same after an unclear outcome."""
    return replace(cell, faults=PROBED)


def _of_two_workers() -> list[Cell]:
    """What one worker does while the other one sleeps and does not know it."""
    suspended = [
        Cell(point, "suspend it", plays.frozen(point, clock_stands_still=True), actions=ONE_NOTE)
        for point in SUSPENDED_AT
    ]
    return [
        *(_looking(cell) if cell.step == "probe_answered" else cell for cell in suspended),
        *(
            Cell(point, "overtaken in flight", plays.overtaken(point, "create_note"), actions=ONE_NOTE)
            for point in ("follow_up_claimed", "follow_up_worded")
        ),
        Cell(
            "call_fetched",
            "overtaken in flight",
            plays.overtaken("call_fetched", "fetch", skip=1),
            wish=NO_ACTIONS_YET,
            actions=ONE_NOTE,
        ),
        Cell("call_fetched", "announced again", plays.announced_again, wish=NO_ACTIONS_YET, actions=ONE_NOTE),
        Cell("page_listed", "a fetch stores a newer log", plays.fetched_meanwhile, actions=ONE_NOTE),
        _looking(Cell("probe_answered", "a person asks again", plays.resent, actions=ONE_NOTE)),
        Cell("follow_up_worded", "its contact changes", plays.contact_changed, actions=ONE_NOTE),
        *(
            Cell(point, "kill it, beside a refused row", plays.beside_a_refused_row(point), actions=ONE_NOTE)
            for point in ("page_listed", "page_stored")
        ),
        Cell("follow-up done", "its message comes late", plays.stale_message, actions=ONE_NOTE),
    ]


def _of_a_database_that_forgot() -> list[Cell]:
    return [
        Cell("nothing yet", "restored from then", plays.restored(None)),
        *(Cell(point, "restored from then", plays.restored(point)) for point in COPIED_AT),
        Cell("nothing yet", "commits lost at note_answered", plays.restored(None, lost_at="note_answered")),
        Cell("call_stored", "commits lost at note_answered", plays.restored("call_stored", lost_at="note_answered")),
        Cell("call_fetched", "commits lost at call_stored", plays.restored("call_fetched", lost_at="call_stored")),
    ]


def _in_flight() -> list[Cell]:
    """The request is under way when its worker is killed or frozen."""
    kinds = {"fetch": "fetch", "note": "create_note", "look": "list_notes"}
    ends = {"kill": plays.killed_in_flight, "freeze": plays.frozen_in_flight}
    cells = [
        Cell(f"{what} in flight", f"{end}, {executed}", play(kind, executed), actions=ONE_NOTE)
        for what, kind in kinds.items()
        for end, play in ends.items()
        for executed in Executed
    ]
    older = plays.frozen_in_flight("fetch", Executed.BEFORE)
    return [
        *(_looking(cell) if cell.step == "look in flight" else cell for cell in cells),
        Cell("fetch in flight", "freeze, an older log", older, wish={"actions_late": 1.0}, actions=ONE_NOTE),
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
        "lag within settle": {"what": "lagging", "seconds": SETTLE_SECONDS / 2, "times": 3},
        "lag of settle and a quarter": {"what": "lagging", "seconds": SETTLE_SECONDS * 5 / 4},
        "lag that ends between the looks": {"what": "lagging", "seconds": LONG, "times": 1},
        "reset": {"what": "reset", "times": 1},
    }
    at_page: dict[str, dict[str, Any]] = {
        "500": {"what": "status", "status": 500, "times": 1},
        "429": {"what": "status", "status": 429, "times": 1},
        "hang": {"what": "hang", "times": 1},
        "cut list": {"what": "truncated", "times": 1},
        "broken JSON": {"what": "broken_json", "times": 1},
        "shifting": {"what": "shifting", "times": 1},
        "capped": {"what": "capped", "count": 10, "times": 6},
        "the same page": {"what": "same_page", "times": 6},
        "a wrong total": {"what": "wrong_total", "count": 3, "times": 2},
        "no total": {"what": "no_total", "count": 10, "times": 6},
        "rows without actions": {"what": "bare", "times": 1},
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
        *(Cell("page", name, plays.listed, faults=({"kind": "list", **how},)) for name, how in at_page.items()),
        *(Cell("look up booking", name, faults=({"kind": "appointments", **how},)) for name, how in at_booking.items()),
    ]
