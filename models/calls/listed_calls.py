"""Calls as Leadway's list shows them: which of them we lack or have an older reading of, and storing those readings.

A list row is a whole log without `extractedData`, so it is stored like a fetched one (docs/decisions/0032). Storing it
raises the fence of the call's row in the same transaction: a fetch that is running meanwhile writes nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.action_matching import StoredAction, match_actions
from models.calls.call_log import Action, CallLog
from models.calls.calls import CALL, Origin, action_row, call_actions_table, calls_table, log_columns
from models.database import insert, now
from models.work import lifecycle
from models.work.lifecycle import Claim
from models.work.work_rows import NEVER_TRIED, Lane, WorkStatus

COMPARED = ("started_at", "duration_seconds", "contact_id", "from_number", "transferred", "translation")
"""The columns that are compared beside words, trial flag and actions. `agent_deleted` is not one of them: it changes
without a change of the call."""

_STORED_COLUMNS = tuple(
    calls_table.c[name]
    for name in ("call_id", "status", "stored_at", "plans_follow_ups", "trial_call", "summary", "transcript", *COMPARED)
)


def stored_rows(connection: Connection, location_id: str, call_ids: Collection[str]) -> dict[str, sa.RowMapping]:
    """Our rows of these calls by call id, with the columns that `brings_news` compares.

    `is_kept` tells whether the row has its document: false before the first storing and after retention emptied it.
    """
    columns = (*_STORED_COLUMNS, calls_table.c.document.is_not(None).label("is_kept"))
    rows = connection.execute(sa.select(*columns).where(_are(location_id, call_ids)))
    return {row.call_id: row._mapping for row in rows}


def stored_actions(
    connection: Connection, location_id: str, call_ids: Collection[str]
) -> dict[str, list[StoredAction]]:
    """The stored actions of these calls by call id, in the order of the log, without their parameters."""
    rows = connection.execute(
        sa.select(call_actions_table)
        .where(call_actions_table.c.location_id == location_id, call_actions_table.c.call_id.in_(call_ids))
        .order_by(call_actions_table.c.call_id, call_actions_table.c.position)
    )
    found: dict[str, list[StoredAction]] = {}
    for row in rows:
        action = Action(row.action_type, row.action_name, row.action_id, {}, row.executed_at, row.trigger_received_at)
        found.setdefault(row.call_id, []).append(StoredAction(row.action_key, action))
    return found


def brings_news(row: Mapping[Any, Any], actions: Sequence[StoredAction], call_log: CallLog) -> bool:
    """Whether the listed log says something that our stored row does not. Compares only what a list can carry.

    A value that is absent or empty is no news, nor is a text that is only the beginning of ours. A row that retention
    emptied never gets news.
    """
    if row["stored_at"] is None:
        return True
    if not row["is_kept"]:
        return False
    listed = log_columns(call_log)
    if any(listed[name] not in (None, "", {}) and listed[name] != row[name] for name in COMPARED):
        return True
    if call_log.trial_call and not row["trial_call"]:
        return True
    if any(not (row[name] or "").startswith(listed[name]) for name in ("summary", "transcript")):
        return True
    known = {each.action_key for each in actions}
    return any(key not in known for key in match_actions(actions, call_log.actions))


def store_new(
    connection: Connection,
    location_id: str,
    call_logs: Sequence[CallLog],
    *,
    read_at: datetime,
    origin: Origin,
    lane: Lane,
    plans_follow_ups: bool,
    reread_seconds: float,
) -> dict[str, list[tuple[str, Action]]]:
    """Stores calls that had no row, in a few statements for all. An unsettled one is due again in `reread_seconds`.

    Returns the actions with their keys by call id. A call that got a row meanwhile is left out.
    """
    if not call_logs:
        return {}
    at = now(connection)
    rows = [
        {
            **log_columns(call_log), **NEVER_TRIED,
            **_schedule(call_log, read_at=read_at, at=at, reread_seconds=reread_seconds),
            "location_id": location_id, "call_id": call_log.call_id, "lane": lane, "origin": origin,
            "plans_follow_ups": plans_follow_ups, "created_at": at, "stored_at": at, "read_at": read_at,
            "read_from": call_log.source, "requested": 1,
        }
        for call_log in call_logs
    ]  # fmt: skip
    # The values are parameters of one short statement, so that it is compiled once for all pages.
    statement = insert(connection, calls_table).on_conflict_do_nothing().returning(calls_table.c.call_id)
    inserted = set(connection.execute(statement, rows).scalars())
    keyed = {
        call_log.call_id: list(zip(match_actions((), call_log.actions), call_log.actions, strict=True))
        for call_log in call_logs
        if call_log.call_id in inserted
    }
    actions = [
        action_row(location_id, call_id, key, position, action)
        for call_id, keyed_actions in keyed.items()
        for position, (key, action) in enumerate(keyed_actions)
    ]
    if actions:
        connection.execute(sa.insert(call_actions_table), actions)
    return keyed


def take_over(
    connection: Connection, location_id: str, call_id: str, *, read_at: datetime, worker: str
) -> Claim | None:
    """Claims the call's row whatever its status, for a reading of `read_at`. Returns None if ours is not older.

    In the same transaction the caller completes or reschedules the row, then stores the reading, as `store_reading`
    does for every reading.

    A fetch that a person asked for is not replaced by a list row: the call is still due afterwards.
    """
    refetch = calls_table.c.settled_at.is_not(None) & (calls_table.c.status == WorkStatus.PENDING)
    row = connection.execute(
        sa.update(calls_table)
        .where(
            CALL.matches((location_id, call_id)),
            sa.or_(calls_table.c.read_at.is_(None), calls_table.c.read_at < read_at),
        )
        .values(
            status=WorkStatus.RUNNING,
            fence=calls_table.c.fence + 1,
            attempts=calls_table.c.attempts + 1,
            replayed=sa.or_(calls_table.c.replayed, refetch),
            claimed_at=read_at,
            running_on=worker,
        )
        .returning(*calls_table.c)
    ).first()
    if row is None:
        return None
    return Claim(CALL, (location_id, call_id), row.fence, row.attempts, row.failures, read_at, 0.0, dict(row._mapping))


def want_follow_ups(connection: Connection, location_id: str, call_ids: Collection[str]) -> None:
    """From now on the calls' follow-ups are planned, also of calls that were made known without any."""
    these = _are(location_id, call_ids)
    connection.execute(
        sa.update(calls_table).where(these, ~calls_table.c.plans_follow_ups).values(plans_follow_ups=sa.true())
    )


def fetch_again(connection: Connection, location_id: str, call_ids: Collection[str], *, lane: Lane) -> None:
    """Makes done calls due: the list shows another log than ours, and LEADWAY_LIST_FETCH=off forbids storing it."""
    done = sa.update(calls_table).where(_are(location_id, call_ids), calls_table.c.status == WorkStatus.DONE)
    connection.execute(done.values(lane=lane, **lifecycle.revive(calls_table)))


def count_stored(connection: Connection, location_id: str, *, since: datetime, until: datetime) -> int:
    """How many of our calls began between these times."""
    between = sa.and_(calls_table.c.location_id == location_id, calls_table.c.started_at.between(since, until))
    return int(connection.execute(sa.select(sa.func.count()).where(between)).scalar_one())


def _are(location_id: str, call_ids: Collection[str]) -> sa.ColumnElement[bool]:
    return sa.and_(calls_table.c.location_id == location_id, calls_table.c.call_id.in_(call_ids))


def _schedule(call_log: CallLog, *, read_at: datetime, at: datetime, reread_seconds: float) -> dict[str, Any]:
    settled = call_log.is_settled_after(read_at - (call_log.ended_at or read_at))
    return {
        "status": WorkStatus.DONE if settled else WorkStatus.PENDING,
        "next_attempt_at": None if settled else at + timedelta(seconds=reread_seconds),
        "settled_at": at if settled else None,
    }
