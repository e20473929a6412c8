"""Runs of reconciling: the sums over all windows of one run."""

from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy import Connection

from models.reconciling.seen_ids import seen_ids_table
from models.reconciling.windows import WINDOW_IS_OPEN, reconciliations_table


@dataclass(frozen=True)
class RunTotals:
    """The sums of a run, over all its windows so far. The fields are the columns of `reconciliations`."""

    listed: int
    held: int
    unannounced: int
    changed: int
    requests: int


def first_of_run(connection: Connection, location_id: str, slot: str) -> int:
    """The id of the first window of the run that is open in this slot. Raises LookupError when no run is."""
    c = reconciliations_table.c
    of_slot = sa.and_(c.location_id == location_id, c.slot == slot)
    earlier_ends = sa.select(sa.func.coalesce(sa.func.max(c.reconciliation_id), 0)).where(
        of_slot, c.finished_at.is_not(None), c.window_until == c.run_until
    )
    first = sa.select(sa.func.min(c.reconciliation_id)).where(
        of_slot, c.reconciliation_id > earlier_ends.scalar_subquery()
    )
    found: int | None = connection.execute(first).scalar_one()
    if found is None:
        raise LookupError("no run is open in this slot")
    return found


def totals(connection: Connection, location_id: str, slot: str, *, first_id: int) -> RunTotals:
    """The sums of the run that began with the window `first_id`. `listed` includes what the open list has shown yet."""
    c = reconciliations_table.c
    of_run = sa.and_(c.location_id == location_id, c.slot == slot, c.reconciliation_id >= first_id)
    names = ("listed", "held", "unannounced", "changed", "requests")
    sums = connection.execute(
        sa.select(*(sa.func.coalesce(sa.func.sum(c[name]), 0) for name in names)).where(of_run)
    ).one()
    being_read = (
        sa.select(sa.func.count())
        .select_from(
            seen_ids_table.join(reconciliations_table, c.reconciliation_id == seen_ids_table.c.reconciliation_id)
        )
        .where(of_run, WINDOW_IS_OPEN, seen_ids_table.c.call_type == c.call_type, seen_ids_table.c.inside)
    )
    done = RunTotals(*(int(number) for number in sums))
    return replace(done, listed=done.listed + int(connection.execute(being_read).scalar_one()))
