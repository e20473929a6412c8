"""Takes in one page of Leadway's list: stores calls that have no row, or announces them where lists are not used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import Account
from models.calls import calls, listed_calls
from models.calls.call_log import CallLog
from models.reconciling.windows import Window
from models.work.work_rows import WorkStatus
from workers.attempts.storing import store_reading
from workers.follow_ups.planning import plan_follow_ups
from workers.process.connections import Connections
from workers.telemetry import metrics

WEBHOOK_PATIENCE = timedelta(minutes=2)
"""For this long after a call's end its notification may still be on its way."""


@dataclass(frozen=True)
class ListedOutcome:
    """What a page brought, in numbers of calls.

    `unannounced`: became known by the list alone. `changed`: had a row that said less than the list.
    """

    unannounced: int
    changed: int


def take_in_listed(
    connection: Connection,
    this: Connections,
    window: Window,
    rows: Sequence[CallLog],
    *,
    account: Account,
    read_at: datetime,
) -> ListedOutcome:
    """Gives every listed call a row, and lets no row say less than the list, in the caller's transaction.

    `read_at`: the database's time just before the request. A stored call needs no fetch: its follow-ups are planned at
    once, by the same rules as after a fetch.
    """
    by_id = {call_log.call_id: call_log for call_log in rows}
    stored = listed_calls.stored_rows(connection, account.location_id, by_id)
    unknown = [call_log for call_id, call_log in by_id.items() if call_id not in stored]
    if window.plans_follow_ups:
        listed_calls.want_follow_ups(connection, account.location_id, stored)
    if this.settings.leadway_list_fetch == "off":
        changed = _announce(connection, window, by_id, stored=stored, location_id=account.location_id)
        new = {call_log.call_id for call_log in unknown}
    else:
        new = _store_new(connection, this, window, unknown, account=account, read_at=read_at)
        changed = _bring_up_to_date(connection, this, window, by_id, stored=stored, account=account, read_at=read_at)
    unannounced = sum(_is_over(by_id[call_id], read_at) for call_id in new)
    return ListedOutcome(unannounced, changed)


def _store_new(
    connection: Connection,
    this: Connections,
    window: Window,
    unknown: Sequence[CallLog],
    *,
    account: Account,
    read_at: datetime,
) -> set[str]:
    by_id = {call_log.call_id: call_log for call_log in unknown}
    stored = listed_calls.store_new(
        connection,
        account.location_id,
        unknown,
        read_at=read_at,
        origin=window.origin,
        lane=window.lane,
        plans_follow_ups=window.plans_follow_ups,
        reread_seconds=2 * this.settings.leadway_retry_seconds,
    )
    if window.plans_follow_ups:
        for call_id, keyed_actions in stored.items():
            plan_follow_ups(
                connection,
                this.rules,
                by_id[call_id],
                keyed_actions,
                account=account,
                lane=window.lane,
                read_at=read_at,
                stored_at=None,
            )
    metrics.LISTED.labels("stored").inc(len(stored))
    return set(stored)


def _bring_up_to_date(
    connection: Connection,
    this: Connections,
    window: Window,
    by_id: Mapping[str, CallLog],
    *,
    stored: Mapping[str, sa.RowMapping],
    account: Account,
    read_at: datetime,
) -> int:
    """Stores the listed log where the row lacks something of it; an attempt under way loses its lease.

    Returns the number of calls that were stored.
    """
    actions = listed_calls.stored_actions(connection, account.location_id, stored)
    changed = 0
    for call_id, row in (
        (each, stored[each]) for each in by_id if each in stored
    ):  # one order in all readers: no deadlock
        is_newer = listed_calls.brings_news(row, actions.get(call_id, ()), by_id[call_id])
        plans_now = window.plans_follow_ups and not row["plans_follow_ups"] and row["is_kept"]
        if not is_newer and not plans_now:
            continue
        claim = listed_calls.take_over(connection, account.location_id, call_id, read_at=read_at, worker=this.worker)
        if claim is not None:
            store_reading(connection, this, claim, by_id[call_id], account=account)
            changed += 1
    metrics.LISTED.labels("brought_up_to_date").inc(changed)
    return changed


def _announce(
    connection: Connection,
    window: Window,
    by_id: Mapping[str, CallLog],
    *,
    stored: Mapping[str, sa.RowMapping],
    location_id: str,
) -> int:
    """For LEADWAY_LIST_FETCH=off: makes rows due, so that their logs are fetched one by one.

    Returns the number of stored calls that are fetched again.
    """
    for call_id in by_id:
        if call_id not in stored or stored[call_id]["status"] == WorkStatus.DEAD:
            calls.announce(
                connection,
                location_id,
                call_id,
                origin=window.origin,
                lane=window.lane,
                plans_follow_ups=window.plans_follow_ups,
            )
    actions = listed_calls.stored_actions(connection, location_id, stored)
    differing = [
        call_id
        for call_id, row in stored.items()
        if row["status"] == WorkStatus.DONE and listed_calls.brings_news(row, actions.get(call_id, ()), by_id[call_id])
    ]
    listed_calls.fetch_again(connection, location_id, differing, lane=window.lane)
    metrics.LISTED.labels("announced").inc(len(by_id) - len(stored))
    return len(differing)


def _is_over(call_log: CallLog, now: datetime) -> bool:
    return call_log.ended_at is None or now - call_log.ended_at > WEBHOOK_PATIENCE
