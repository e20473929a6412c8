"""Reads Leadway's list, page by page: one attempt per task, and a command's own loop over the pages of a run."""

import time
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from models.accounts import accounts, circuit_breaker, pauses
from models.accounts.circuit_breaker import BreakerState
from models.calls.calls import CALL
from models.database import now
from models.reconciling import windows
from models.reconciling.windows import WINDOW, Window
from models.work import lifecycle
from workers.app import app
from workers.attempts.attempt import AttemptFailed
from workers.process.connections import Connections
from workers.reconciling.reading import PageOutcome, read_one_page

NEXT_LOOK_SECONDS = 0.2
"""Pause of a command before it looks again at a window that cannot be read yet."""


@app.task(name=WINDOW.task, throws=(AttemptFailed,))
def read_page(location_id: str, slot: str) -> None:
    """Makes one attempt at the next page of the window that is open in this slot, if it is due."""
    read_one_page(windows.work_key(location_id, slot))


class AccountStandsStill(Exception):
    """The account is paused or no longer served, so that nothing will be read. The text says what to do."""


def read_to_end(
    this: Connections,
    location_id: str,
    slot: str,
    *,
    on_page: Callable[[PageOutcome, Window], None] | None = None,
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
            breaker = circuit_breaker.state_of(accounts.get(connection, location_id), now(connection))
        if why is not None:
            raise AccountStandsStill(why)
        is_open = breaker is BreakerState.OPEN  # a worker would not be sent a page of this account
        outcome = PageOutcome.NOT_CLAIMED if is_open else _read_or_release(this, window)
        if on_page is not None:
            on_page(outcome, window)
        if outcome is not PageOutcome.READ:
            time.sleep(NEXT_LOOK_SECONDS)


def _read_or_release(this: Connections, window: Window) -> PageOutcome:
    try:
        return read_one_page(window.key)
    except KeyboardInterrupt:  # a person ends a command: the same command, started again, need not wait for the lease
        with suppress(SQLAlchemyError):
            this.database.transact(lambda connection: lifecycle.give_back(connection, window.key, worker=this.worker))
        raise


def _why_it_stands_still(connection: Connection, location_id: str) -> str | None:
    if not accounts.is_served(connection, location_id):
        return f"{location_id} is not served any more"
    paused = [each for each in pauses.of_account(connection, location_id) if each.work in (pauses.ALL_WORK, CALL.name)]
    return paused[0].detail if paused else None
