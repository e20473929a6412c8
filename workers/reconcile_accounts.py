"""Compares Leadway's list with what we hold: opens each account's windows when they are due, and reads them.

The tick opens and sends; reading is one page per task. A message is a hint, as everywhere: the window's own schedule
and lease decide, so a doubled one does no harm and a lost one is sent again by the next tick.
"""

import time
from collections.abc import Callable

from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.reconciling import schedule, windows
from models.reconciling.windows import Window
from models.work import heartbeats
from workers.app import app
from workers.process.connections import Connections, connections
from workers.reconciling.read_page import PageOutcome, read_page

SHARE_OF_SLOTS = 4
"""At most this fraction (a quarter) of all slots reads lists at a time."""
NEXT_LOOK_SECONDS = 0.2


@app.task(name="accounts.reconcile")
def reconcile_accounts() -> None:
    """Opens what is due and sends a reader for each open window whose next page may be asked for."""
    this = connections()
    with this.database.reading() as connection:
        something_due = schedule.anything_due(connection)
        slots = heartbeats.live_slots(connection) or this.settings.worker_threads
    if something_due:
        list_fetch = this.settings.leadway_list_fetch == "on"
        this.database.transact(lambda connection: schedule.open_due(connection, list_fetch=list_fetch))
    with this.database.reading() as connection:
        due = windows.due(connection, limit=max(1, slots // SHARE_OF_SLOTS))
    for reconciliation_id in due:
        _send(reconciliation_id)


@app.task(name="reconciliations.read_page")
def read_one_page(reconciliation_id: int) -> None:
    """Reads the window's next page, then sends for the page after it."""
    this = connections()
    if read_page(this, reconciliation_id) is PageOutcome.READ:
        with this.database.reading() as connection:
            goes_on = windows.next_of(connection, reconciliation_id)
        if goes_on is not None:
            _send(goes_on)


def _send(reconciliation_id: int) -> None:
    app.send_task(
        "reconciliations.read_page", args=(reconciliation_id,), queue="housekeeping",
        expires=connections().mark_seconds,
    )  # fmt: skip


class AccountStandsStill(Exception):
    """The account is paused, or no longer served: nothing will be read until somebody does something. Says what."""


def read_to_end(
    this: Connections, location_id: str, slot: str, *, on_step: Callable[[PageOutcome, Window], None] | None = None
) -> None:
    """Reads what is open in this slot here and now, until the run is at its end; with or without workers beside.

    `on_step` is told after every page. Outages are waited out. Raises StandsStill.
    """
    while True:
        with this.database.reading() as connection:
            window = windows.get_open(connection, location_id, slot)
            if window is None:
                return
            why = _why_it_stands_still(connection, location_id)
        if why is not None:
            raise AccountStandsStill(why)
        step = read_page(this, window.reconciliation_id)
        if on_step is not None:
            on_step(step, window)
        if step is not PageOutcome.READ:
            time.sleep(NEXT_LOOK_SECONDS)


def _why_it_stands_still(connection: Connection, location_id: str) -> str | None:
    if not accounts.is_served(connection, location_id):
        return f"{location_id} is not served any more"
    held = [row for row in pauses.of_account(connection, location_id) if row.work in (pauses.ALL_WORK, "call")]
    return held[0].detail if held else None
