"""Outages of the webhook, and reading Leadway's list to its end, for the tests of reconciling."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from models.accounts.accounts import accounts_table
from models.database import moment
from models.reconciling import schedule, windows
from models.reconciling.windows import WindowKind
from tests.leadway_double.nouns import PlacedCall
from tests.workers.conftest import AtWork
from workers.reconcile_accounts import read_to_end

HOUR = 3600.0
DAY = 24 * HOUR


def was_served_since(at_work: AtWork, seconds: float) -> None:
    """The account was added so long ago, and is complete until then: whatever came since is not known."""
    with at_work.database.transaction() as connection:
        then = moment(-seconds)
        connection.execute(
            sa.update(accounts_table).values(
                added_at=then, complete_from=then, complete_until=then, next_reconcile_at=None
            )
        )


def reconcile(at_work: AtWork, *, margin_seconds: float = 0.0) -> list[sa.RowMapping]:
    """One regular run until now; returns the ledger."""
    with at_work.database.transaction() as connection:
        now = connection.execute(sa.select(moment(-margin_seconds))).scalar_one()
        schedule.open_regular(connection, at_work.location_id, until=now)
    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    return ledger(at_work)


def backfill(at_work: AtWork, *, days: float, follow_ups: bool = False) -> list[sa.RowMapping]:
    with at_work.database.transaction() as connection:
        now = connection.execute(sa.select(moment())).scalar_one()
        windows.open_run(
            connection, at_work.location_id, kind=WindowKind.BACKFILL, since=now - timedelta(days=days), until=now,
            plans_follow_ups=follow_ups,
        )  # fmt: skip
    read_to_end(at_work.this, at_work.location_id, WindowKind.BACKFILL)
    return ledger(at_work)


def ledger(at_work: AtWork) -> list[sa.RowMapping]:
    return at_work.rows("reconciliations")


def held_ids(at_work: AtWork) -> list[str]:
    return sorted(row["call_id"] for row in at_work.rows("calls"))


def ids_of(calls: Sequence[PlacedCall]) -> list[str]:
    return sorted(call.call_id for call in calls)


def list_requests(at_work: AtWork) -> int:
    return len(at_work.requests("list"))


def change_account(at_work: AtWork, **values: Any) -> None:
    with at_work.database.transaction() as connection:
        connection.execute(sa.update(accounts_table).values(**values))
