"""Takes in one page of Leadway's list: stores calls that have no row, or announces them where lists are not used."""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import StatementError

from models.accounts.accounts import Account
from models.calls import calls, listed_calls
from models.calls.call_log import CallLog
from models.calls.calls import CALL, Call
from models.calls.storing import Reading
from models.database import is_of_one_row
from models.reconciling import quarantined_rows
from models.reconciling.quarantined_rows import RefusedRow
from models.reconciling.windows import Window
from models.work import open_work
from models.work.lifecycle import Claim
from models.work.open_work import OpenWork
from models.work.work_rows import Request, WorkStatus
from workers.attempts.storing import Read, reread_after, store_readings
from workers.process.connections import Connections
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

WEBHOOK_PATIENCE = timedelta(minutes=2)
"""For this long after a call's end its notification may still be on its way."""


@dataclass(frozen=True)
class ListedOutcome:
    """What a page brought, in numbers of calls.

    `unannounced`: became known by the list alone. `changed`: had a row that said less than the list. `refused`: rows
    that the database does not take.
    """

    unannounced: int
    changed: int
    refused: tuple[RefusedRow, ...] = ()


TakeInRows = Callable[..., ListedOutcome]
"""`take_in_listed` or `take_in_singly`."""


def take_in_singly(
    connection: Connection,
    this: Connections,
    claim: Claim,
    window: Window,
    rows: Sequence[CallLog],
    *,
    account: Account,
) -> ListedOutcome:
    """As `take_in_listed`, each row by itself: one that the database refuses is left out, and told.

    Raises the database's error where it refuses all of several rows: then the rows are not to blame.
    """
    unannounced, changed, refused = 0, 0, list[RefusedRow]()
    for row in rows:
        try:
            with connection.begin_nested():
                outcome = take_in_listed(connection, this, claim, window, [row], account=account)
        except StatementError as error:
            if not is_of_one_row(error) or (len(rows) > 1 and len(refused) == len(rows) - 1):
                raise
            refused.append(RefusedRow(row.call_id, type(error).__name__, row.call_id))
        else:
            unannounced, changed = unannounced + outcome.unannounced, changed + outcome.changed
    return ListedOutcome(unannounced, changed, tuple(refused))


def set_aside(connection: Connection, window: Window, refused: Sequence[RefusedRow]) -> None:
    """Quarantines the rows, and says so."""
    quarantined_rows.record(connection, window, refused)
    for row in refused:
        log.error("listed_row_quarantined", location_id=window.location_id, call_id=row.call_id, reason=row.reason)


def take_in_listed(
    connection: Connection,
    this: Connections,
    claim: Claim,
    window: Window,
    rows: Sequence[CallLog],
    *,
    account: Account,
) -> ListedOutcome:
    """Stores every listed call that we lack or know less of than the list, in the caller's transaction.

    A stored call needs no fetch: its follow-ups are planned at once, by the same rules as after a fetch. A row that
    lacks what every log has is no whole log, and none that rules want extracted data of: its call is fetched. Where the
    agent extracts data, the call is read singly in the lowest lane. Work of an unread call that is under way goes on:
    its reading is older, and is not stored.
    """
    location_id = account.location_id
    by_id = {call_log.call_id: call_log for call_log in rows}
    stored = listed_calls.stored_calls(connection, location_id, by_id)
    if window.wants_follow_ups:
        listed_calls.want_follow_ups(connection, location_id, by_id)
    open_calls = open_work.of_subjects(connection, CALL, location_id, by_id)
    actions = calls.actions_of_calls(connection, location_id, stored)
    unknown = [call_id for call_id in by_id if call_id not in stored and call_id not in open_calls]
    differing = {
        call_id
        for call_id, call in stored.items()
        if listed_calls.brings_news(call, actions.get(call_id, ()), by_id[call_id])
    }
    extracts_for_rules = window.wants_follow_ups and this.rules.read_extracted_data(location_id)
    to_fetch = {
        call_id
        for call_id, log in by_id.items()
        if log.is_partial
        or this.settings.leadway_list_fetch == "off"
        or (extracts_for_rules and log.actions and call_id not in stored)
    }
    changed = 0
    if to_fetch:
        changed += _request_fetches(
            connection,
            window,
            [call_id for call_id in unknown if call_id in to_fetch],
            stored={call_id: call for call_id, call in stored.items() if call_id in to_fetch},
            open_calls={call_id: work for call_id, work in open_calls.items() if call_id in to_fetch},
            differing=differing & to_fetch,
        )
    if len(to_fetch) < len(by_id):
        plans_now = {
            call_id
            for call_id, call in stored.items()
            if window.wants_follow_ups and not call.wants_follow_ups and call.emptied_at is None
        }
        revived = {
            call_id
            for call_id, work in open_calls.items()
            if call_id in stored and not stored[call_id].settled_at and work.may_be_revived
        }
        heard = Request(claim.claimed_at, None, window.origin, window.wants_follow_ups)
        readings = [
            Reading(call_log, None if call_id in stored else _request_of(open_calls.get(call_id)) or heard)
            for call_id, call_log in by_id.items()
            if call_id not in to_fetch and (call_id not in stored or call_id in differing | plans_now | revived)
        ]
        [after] = store_readings(connection, this, [Read(claim, account, readings, window.lane)])
        reread_seconds = reread_after(this, timedelta())
        listed_calls.end_work(
            connection, location_id, after, open_calls, lane=window.lane, reread_seconds=reread_seconds
        )
        whole_but_for_extracted_data = [
            by_id[call_id]
            for call_id, each in after.items()
            if each.is_new and each.settled and not _is_dead(open_calls.get(call_id))
        ]
        listed_calls.read_singly(connection, location_id, whole_but_for_extracted_data)
        new = sum(call_id not in to_fetch for call_id in unknown)
        metrics.LISTED.labels("stored").inc(new)
        metrics.LISTED.labels("brought_up_to_date").inc(len(after) - new)
        changed += len(after) - new
    unannounced = sum(_is_over(by_id[call_id], claim.claimed_at) for call_id in unknown)
    return ListedOutcome(unannounced, changed)


def _request_of(open_call: OpenWork | None) -> Request | None:
    return None if open_call is None else open_call.request


def _is_dead(open_call: OpenWork | None) -> bool:
    return open_call is not None and open_call.status is WorkStatus.DEAD


def _request_fetches(
    connection: Connection,
    window: Window,
    unknown: Sequence[str],
    *,
    stored: Mapping[str, Call],
    open_calls: Mapping[str, OpenWork],
    differing: AbstractSet[str],
) -> int:
    """For LEADWAY_LIST_FETCH=off: makes calls due, so that their logs are fetched one by one.

    Returns the number of stored calls that are fetched again.
    """
    location_id = window.location_id
    dead = [call_id for call_id, work in open_calls.items() if _is_dead(work)]
    calls.announce_all(
        connection, [(location_id, call_id) for call_id in (*unknown, *dead)], origin=window.origin, lane=window.lane,
        wants_follow_ups=window.wants_follow_ups,
    )  # fmt: skip
    wanted = {call_id for call_id, call in stored.items() if window.wants_follow_ups and not call.wants_follow_ups}
    again = [call_id for call_id in differing | wanted if call_id not in open_calls]
    listed_calls.fetch_again(connection, location_id, again, lane=window.lane)
    metrics.LISTED.labels("announced").inc(len(unknown))
    return len(again)


def _is_over(call_log: CallLog, now: datetime) -> bool:
    return call_log.ended_at is None or now - call_log.ended_at > WEBHOOK_PATIENCE
