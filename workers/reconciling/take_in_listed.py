"""Takes in one page of Leadway's list: stores what we do not hold, or announces it where lists are not to be used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection

from models.accounts.accounts import Account
from models.calls import calls, listed_calls
from models.calls.call_log import CallLog
from models.reconciling.windows import Window
from models.work.lifecycle import WorkStatus
from workers.attempts.storing import store_reading
from workers.follow_ups.planning import plan_follow_ups
from workers.process.connections import Connections
from workers.telemetry import metrics

WEBHOOK_PATIENCE = timedelta(minutes=2)
"""After a call's end: until then its notification may well be on its way."""


@dataclass(frozen=True)
class ListedOutcome:
    """What a page brought. `unannounced`: calls that nobody had told us of."""

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
    """Sees to it that every listed call has a row and that no row says less than the list; in the caller's transaction.

    What was stored needs no fetch: follow-ups are planned at once, by the same rules as after a fetch.
    """
    by_id = {call_log.call_id: call_log for call_log in rows}
    held = listed_calls.stored_rows(connection, account.location_id, by_id)
    unknown = [call_log for call_id, call_log in by_id.items() if call_id not in held]
    if window.plans_follow_ups:
        listed_calls.want_follow_ups(connection, account.location_id, held)
    if this.settings.leadway_list_fetch == "off":
        changed = _announce(connection, window, by_id, held=held, location_id=account.location_id)
        new = {call_log.call_id for call_log in unknown}
    else:
        new = _store_new(connection, this, window, unknown, account=account, read_at=read_at)
        changed = _bring_up_to_date(connection, this, window, by_id, held=held, account=account, read_at=read_at)
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
    held: Mapping[str, sa.RowMapping],
    account: Account,
    read_at: datetime,
) -> int:
    """Rows that lack what the list shows are taken over from whoever works on them. Returns how many were stored."""
    actions = listed_calls.stored_actions(connection, account.location_id, held)
    changed = 0
    for call_id, row in ((each, held[each]) for each in by_id if each in held):  # in one order for all readers
        news = listed_calls.brings_news(row, actions.get(call_id, ()), by_id[call_id])
        plans_now = window.plans_follow_ups and not row["plans_follow_ups"] and row["is_kept"]
        if not news and not plans_now:
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
    held: Mapping[str, sa.RowMapping],
    location_id: str,
) -> int:
    """For LEADWAY_LIST_FETCH=off: rows are made due, their content is fetched one by one. Returns how many again."""
    for call_id in by_id:
        if call_id not in held or held[call_id]["status"] == WorkStatus.DEAD:
            calls.announce(
                connection,
                location_id,
                call_id,
                origin=window.origin,
                lane=window.lane,
                plans_follow_ups=window.plans_follow_ups,
            )
    actions = listed_calls.stored_actions(connection, location_id, held)
    differing = [
        call_id
        for call_id, row in held.items()
        if row["status"] == WorkStatus.DONE and listed_calls.brings_news(row, actions.get(call_id, ()), by_id[call_id])
    ]
    listed_calls.fetch_again(connection, location_id, differing, lane=window.lane)
    metrics.LISTED.labels("announced").inc(len(by_id) - len(held))
    return len(differing)


def _is_over(call_log: CallLog, now: datetime) -> bool:
    return call_log.ended_at is None or now - call_log.ended_at > WEBHOOK_PATIENCE
