"""Compares Leadway's list with the stored calls: opens each account's windows when they are due, and reads them.

Every two seconds each worker opens windows and enqueues their pages; one task reads one page. A message is a hint: the
window's own schedule and lease decide, so a doubled message does no harm, and the next tick replaces a lost one.
"""

import time
from collections.abc import Callable

from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.calls.calls import CALL
from models.reconciling import schedule, windows
from models.reconciling.windows import Window
from models.work import heartbeats
from workers.app import HOUSEKEEPING, app
from workers.process.connections import Connections, connections
from workers.reconciling.read_page import PageOutcome, read_page

SHARE_OF_SLOTS = 4
"""At most one slot in four reads lists at a time, and no more messages wait."""
NEXT_LOOK_SECONDS = 0.2
"""Pause of a command before it looks again at a window that cannot be read yet."""


# A task only for messages of the release before, whose beat sent them.
@app.task(name="accounts.reconcile")
def reconcile_accounts() -> None:
    """Opens the windows that are due, and enqueues a page of each open window whose next page is due."""
    this = connections()
    with this.database.reading() as connection:
        something_due = schedule.anything_due(connection)
        slots = heartbeats.live_slots(connection) or this.settings.worker_threads
    if something_due:
        list_fetch = this.settings.leadway_list_fetch == "on"
        this.database.transact(lambda connection: schedule.open_due(connection, list_fetch=list_fetch))
    room = max(1, slots // SHARE_OF_SLOTS) - this.redis.llen(HOUSEKEEPING)
    if room <= 0:
        return
    with this.database.reading() as connection:
        due = windows.due(connection, limit=room)
    for reconciliation_id in due:
        _send(reconciliation_id)


@app.task(name="reconciliations.read_page")
def read_one_page(reconciliation_id: int) -> None:
    """Reads the window's next page, then enqueues the page after it. Raises nothing of Leadway's."""
    this = connections()
    if read_page(this, reconciliation_id) is PageOutcome.READ:
        with this.database.reading() as connection:
            goes_on = windows.next_of(connection, reconciliation_id)
        if goes_on is not None:
            _send(goes_on)


def _send(reconciliation_id: int) -> None:
    app.send_task("reconciliations.read_page", args=(reconciliation_id,), queue=HOUSEKEEPING)


class AccountStandsStill(Exception):
    """The account is paused or no longer served, so that nothing will be read. The text says what to do."""


def read_to_end(
    this: Connections, location_id: str, slot: str, *, on_page: Callable[[PageOutcome, Window], None] | None = None
) -> None:
    """Reads the open windows of this slot in this process until the run ends; workers may read beside it.

    `on_page`: called after every page. Outages are waited for without limit. Raises AccountStandsStill.
    """
    while True:
        with this.database.reading() as connection:
            window = windows.get_open(connection, location_id, slot)
            if window is None:
                return
            why = _why_it_stands_still(connection, location_id)
        if why is not None:
            raise AccountStandsStill(why)
        outcome = read_page(this, window.reconciliation_id)
        if on_page is not None:
            on_page(outcome, window)
        if outcome is not PageOutcome.READ:
            time.sleep(NEXT_LOOK_SECONDS)


def _why_it_stands_still(connection: Connection, location_id: str) -> str | None:
    if not accounts.is_served(connection, location_id):
        return f"{location_id} is not served any more"
    paused = [row for row in pauses.of_account(connection, location_id) if row.work in (pauses.ALL_WORK, CALL.name)]
    return paused[0].detail if paused else None
