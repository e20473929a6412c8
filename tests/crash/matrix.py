"""Runs cells of the crash matrix and compares the double's truth with the database after each."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from uuid import uuid4

from tests.crash.cells import Cell
from tests.crash.consistency import inconsistencies
from tests.crash.plays import OF_A_GRANT
from tests.crash.stage import Stage
from tests.leadway_double.notifications import Dialect
from tests.leadway_double.nouns import PlacedCall
from tests.support.waiting import eventually

PEACE_WITHIN = 60.0


@dataclass(frozen=True)
class Result:
    """What a cell showed, when all was done and whoever had been stopped had gone on to the end of its attempt."""

    cell: Cell
    calls: int
    notes: int
    untrue: int
    """Follow-ups that are told as done and name no note that is there, or name one and are not told as done; a complete
    call that says something else than Leadway's log."""
    inconsistent: list[str]
    """What must not be: see `consistency`."""
    forgotten: bool
    """The notification was accepted, and its call is neither in the inbox nor stored nor work."""
    seconds: float
    looks: int
    trouble: str = ""

    @property
    def is_good(self) -> bool:
        return not self.trouble and not self.damage

    @property
    def notes_due(self) -> int:
        return len(self.cell.actions)

    @property
    def damage(self) -> str:
        """What is broken of that which is promised; empty: nothing. What was not there when time ran out may come yet;
        a note too many, or a row that is not true, stays."""
        missing = self.notes_due - self.notes
        counts = {"note too many": -missing, "row untrue": self.untrue, "call forgotten": int(self.forgotten)}
        if not self.trouble:
            counts |= {"call lost": 1 - self.calls, "note missing": missing}
        return ", ".join([f"{number} {what}" for what, number in counts.items() if number > 0] + self.inconsistent)


def run_cell(stage: Stage, cell: Cell, *, patience: float = PEACE_WITHIN) -> Result:
    started = time.monotonic()
    double = stage.world.double
    location_id = stage.install_app() if cell.step in OF_A_GRANT else None
    wish = {"contact": f"contact{uuid4().hex}", "booked": True, **cell.wish}
    call = double.place_call(location_id, actions=list(cell.actions), **wish)
    for fault in cell.faults:
        double.fault(**fault)

    def work() -> None:
        cell.play(stage, call)
        stage.wait_for_peace([call], timeout=patience)

    def aftermath() -> None:
        """A note that the API writes late is one too many as well."""
        eventually(lambda: double.under_way() == 0, timeout=PEACE_WITHIN, describe="the double to end every request")
        left = "SELECT count(*) FROM inbox"
        eventually(lambda: stage.world.scalar(left) == 0, timeout=PEACE_WITHIN, describe="the inbox to be empty")

    trouble = _trouble(work)
    double.clear_faults()
    stage.let_all_go()
    trouble = trouble or _trouble(aftermath)
    return _result(stage, cell, call, seconds=time.monotonic() - started, trouble=trouble)


def _trouble(act: Callable[[], None]) -> str:
    try:
        act()
    except AssertionError as error:
        return str(error)[:500]
    return ""


def _result(stage: Stage, cell: Cell, call: PlacedCall, *, seconds: float, trouble: str) -> Result:
    truth = stage.world.double.truth
    notes = truth.notes(contact_id=call.contact_id)
    query = "SELECT follow_up_id, status, remote_id FROM follow_ups WHERE call_id = :id"
    told = stage.world.rows(query, id=call.call_id)
    there = {note.note_id for note in notes}
    elsewhere = [note for row in told for note in truth.notes(containing=row["follow_up_id"]) if note not in notes]
    is_complete = call.call_id in stage.complete()
    return Result(
        cell,
        calls=stage.world.scalar("SELECT count(*) FROM calls WHERE call_id = :id", id=call.call_id),
        notes=len(notes) + len(elsewhere),
        untrue=sum((row["status"] == "done") != (row["remote_id"] in there) for row in told)
        + (is_complete and not stage.tells_the_log(call)),
        inconsistent=inconsistencies(stage.world),
        forgotten=_is_forgotten(stage, call),
        seconds=seconds,
        looks=sum(seen.subject == call.contact_id for seen in truth.requests(kind="list_notes")),
        trouble=trouble,
    )


def _is_forgotten(stage: Stage, call: PlacedCall) -> bool:
    of_call = [each for each in stage.world.double.deliveries() if each.call_id == call.call_id]
    query = """
        SELECT (SELECT count(*) FROM inbox WHERE call_id = :id) + (SELECT count(*) FROM calls WHERE call_id = :id)
             + (SELECT count(*) FROM work WHERE kind = 'call' AND subject = :id)"""
    named = any(each.accepted and each.dialect != Dialect.UNRESOLVED for each in of_call)
    return named and not stage.world.scalar(query, id=call.call_id)


def table(results: Iterable[Result]) -> str:
    """Steps down, faults across would not fit a page: one line per cell, worst first, then the count."""
    results = sorted(results, key=lambda each: each.is_good)
    lines = [
        f"{'ok ' if each.is_good else 'BAD'}  {each.cell.step:22} {each.cell.fault:36} "
        f"calls {each.calls}/1  notes {each.notes}/{each.notes_due}  looks {each.looks}"
        f"  {each.seconds:5.1f} s  {each.damage}  {each.trouble}"
        for each in results
    ]
    counted = Counter(each.is_good for each in results)
    lost = sum(1 - each.calls for each in results)
    too_many = sum(max(0, each.notes - each.notes_due) for each in results)
    missing = sum(max(0, each.notes_due - each.notes) for each in results)
    untrue = sum(each.untrue for each in results)
    inconsistent = sum(len(each.inconsistent) for each in results)
    lines.append(
        f"{counted[True]} cells good, {counted[False]} bad: {lost} calls lost, {too_many} notes too many,"
        f" {missing} notes missing, {untrue} rows untrue, {inconsistent} inconsistent"
    )
    return "\n".join(lines)
