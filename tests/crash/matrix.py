"""Runs cells of the crash matrix and compares the double's truth with the database after each."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid4

from tests.crash.cells import Cell
from tests.crash.stage import Stage
from tests.leadway_double.nouns import PlacedCall

NOTES_DUE = 2
REACHED_WITHIN = 20.0


@dataclass(frozen=True)
class Result:
    """What a cell showed. Good: the call is stored once, with its two notes, and neither more nor fewer."""

    cell: Cell
    calls: int
    notes: int
    seconds: float
    looks: int
    trouble: str = ""

    @property
    def is_good(self) -> bool:
        return not self.trouble and self.calls == 1 and self.notes == NOTES_DUE


def run_cells(stage: Stage, cells: Iterable[Cell]) -> Iterable[Result]:
    for cell in cells:
        yield run_cell(stage, cell)


def run_cell(stage: Stage, cell: Cell) -> Result:
    started = time.monotonic()
    double = stage.world.double
    call = double.place_call(
        actions=["CALL_TRANSFER", "APPOINTMENT_BOOKING"], contact=f"contact{uuid4().hex}", booked=True, **cell.wish
    )
    for fault in cell.faults:
        double.fault(**fault)
    trouble = ""
    try:
        _play(stage, cell, call)
        stage.wait_for_peace([call])
    except AssertionError as error:
        trouble = str(error)[:500]
    finally:
        double.clear_faults()
        if cell.point is not None:
            stage.let_go(cell.point)
    return Result(
        cell,
        calls=stage.world.scalar("SELECT count(*) FROM calls WHERE call_id = :id AND status = 'done'", id=call.call_id),
        notes=len(double.truth.notes(contact_id=call.contact_id)),
        seconds=time.monotonic() - started,
        looks=sum(seen.subject == call.contact_id for seen in double.truth.requests(kind="list_notes")),
        trouble=trouble,
    )


def _play(stage: Stage, cell: Cell, call: PlacedCall) -> None:
    if cell.point is None or cell.befall is None:
        assert stage.world.double.notify(call).accepted
        return
    stage.arm(cell.point)
    delivery = stage.world.double.notify(call, wait=False)
    pid = stage.wait_until_reached(cell.point, timeout=REACHED_WITHIN)
    cell.befall(stage, pid)
    stage.let_go(cell.point)
    delivery.wait(30)
    assert delivery.accepted, "the notification was never accepted"


def table(results: list[Result]) -> str:
    """Steps down, faults across would not fit a page: one line per cell, worst first, then the count."""
    lines = [
        f"{'ok ' if each.is_good else 'BAD'}  {each.cell.step:22} {each.cell.fault:24} "
        f"calls {each.calls}/1  notes {each.notes}/{NOTES_DUE}  looks {each.looks}"
        f"  {each.seconds:5.1f} s  {each.trouble}"
        for each in sorted(results, key=lambda each: each.is_good)
    ]
    counted = Counter(each.is_good for each in results)
    lost = sum(1 - each.calls for each in results)
    too_many = sum(max(0, each.notes - NOTES_DUE) for each in results)
    missing = sum(max(0, NOTES_DUE - each.notes) for each in results)
    lines.append(
        f"{counted[True]} cells good, {counted[False]} bad: {lost} calls lost, {too_many} notes too many,"
        f" {missing} notes missing"
    )
    return "\n".join(lines)
