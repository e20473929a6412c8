"""Calls as Leadway's list shows them: which of them we lack or have an older reading of, and whose work the list ends.

A list row is a whole log without `extractedData`, so it is stored like a fetched one (docs/decisions/0032).
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls.action_matching import StoredAction, match_actions
from models.calls.call_log import ActionType, CallLog
from models.calls.calls import CALL, Call, CallAction, as_call, calls_table, this_call, work_key
from models.calls.storing import Stored, log_columns
from models.work import lifecycle
from models.work.open_work import OpenWork
from models.work.work_rows import IS_LEASED, IS_THIS_ROW, REQUEST_COLUMNS, Lane, work_table

COMPARED = ("started_at", "duration_seconds", "contact_id", "from_number", "agent_handoff", "translation")
"""The columns that are compared beside words, trial flag and actions. `agent_deleted` is not one of them: it changes
without a change of the call."""


def stored_calls(connection: Connection, location_id: str, call_ids: Collection[str]) -> dict[str, Call]:
    """Our rows of these calls by call id."""
    rows = connection.execute(sa.select(calls_table).where(_are(location_id, call_ids)))
    return {row.call_id: as_call(row) for row in rows}


def brings_news(call: Call, actions: Sequence[CallAction], call_log: CallLog) -> bool:
    """Whether the listed log says something that our stored row does not. Compares only what a list can carry.

    A value that is absent or empty is no news, nor is a text that is only the beginning of ours. A row that was emptied
    or erased never gets news.
    """
    if call.emptied_at is not None or call.erased_at is not None:
        return False
    listed = log_columns(call_log)
    if any(listed[name] not in (None, "", {}) and listed[name] != getattr(call, name) for name in COMPARED):
        return True
    if call_log.trial_call and not call.trial_call:
        return True
    if any(not (getattr(call, name) or "").startswith(listed[name] or "") for name in ("summary", "transcript")):
        return True
    known = {each.action_key for each in actions}
    matched = match_actions([StoredAction(each.action_key, each.action) for each in actions], call_log.actions)
    return any(key not in known for key in matched)


def want_follow_ups(connection: Connection, location_id: str, call_ids: Collection[str]) -> None:
    """From now on the calls' follow-ups are planned, also of calls that were made known without any."""
    keys = [work_key(location_id, call_id) for call_id in sorted(call_ids)]
    if keys:
        connection.execute(_WANT_OF_STORED, [{"this_location": location_id, "this_call": key.subject} for key in keys])
        connection.execute(_WANT_OF_UNREAD, [key.parameters for key in keys])


_WANT_OF_STORED, _WANT_OF_UNREAD = (
    sa.update(table).where(this_row, ~table.c.wants_follow_ups).values(wants_follow_ups=sa.true())
    for table, this_row in ((calls_table, this_call), (work_table, IS_THIS_ROW))
)


def end_work(
    connection: Connection,
    location_id: str,
    stored: Mapping[str, Stored],
    before: Mapping[str, OpenWork],
    *,
    lane: Lane,
    reread_seconds: float,
) -> None:
    """Ends the work of calls that a page has settled, and gives work to those that it has not; dead work is revived.
    Work that goes on forgets its request, which is stored now.

    Work that a person asked for (of a call that was settled before), that is leased, or that was requested again since
    `before` was read, goes on. Work that died of poison stays dead.
    """
    for call_id, each in sorted(stored.items()):
        if call_id not in before:
            if not each.settled:
                lifecycle.add(connection, work_key(location_id, call_id), lane=lane, delay_seconds=reread_seconds)
            continue
        as_before = _is_work_of(location_id, [call_id]) & (work_table.c.requested == before[call_id].requested)
        ends = each.settled and not each.was_settled
        ended = ends and connection.execute(sa.delete(work_table).where(as_before, ~IS_LEASED)).rowcount
        if each.is_new and not ended:
            connection.execute(sa.update(work_table).where(as_before).values(dict.fromkeys(REQUEST_COLUMNS)))
        if not each.settled and before[call_id].may_be_revived:
            lifecycle.request(connection, work_key(location_id, call_id), lane=lane)


def fetch_again(connection: Connection, location_id: str, call_ids: Collection[str], *, lane: Lane) -> None:
    """Makes stored calls due: the list shows another log than ours, and LEADWAY_LIST_FETCH=off forbids storing it."""
    for call_id in sorted(call_ids):
        lifecycle.request(connection, work_key(location_id, call_id), lane=lane)


def read_singly(connection: Connection, location_id: str, call_logs: Collection[CallLog]) -> int:
    """Makes listed calls due in the lowest lane whose agents extract data, which no list carries. Returns how many.

    An agent extracts if its action in the log says so, or if a stored call of it has extracted data.
    """
    agents = {log.agent_id for log in call_logs if log.agent_id is not None}
    extracting = set(connection.execute(_EXTRACTING, {"this_location": location_id, "these": sorted(agents)}).scalars())
    number = 0
    for log in sorted(call_logs, key=lambda each: each.call_id):
        extracts = log.agent_id in extracting or any(each.action_type in _EXTRACTS for each in log.actions)
        number += extracts and lifecycle.add(connection, work_key(location_id, log.call_id), lane=Lane.BACKFILLED)
    return number


_EXTRACTS = (ActionType.DATA_EXTRACTION, ActionType.IN_CALL_DATA_EXTRACTION)
_EXTRACTING = (
    sa.select(calls_table.c.agent_id)
    .distinct()
    .where(
        calls_table.c.location_id == sa.bindparam("this_location"),
        calls_table.c.agent_id.in_(sa.bindparam("these", expanding=True)),
        calls_table.c.extracted_data.is_not(None),
    )
)


def count_stored(connection: Connection, location_id: str, *, since: datetime, until: datetime) -> int:
    """How many of our calls began between these times."""
    between = sa.and_(calls_table.c.location_id == location_id, calls_table.c.started_at.between(since, until))
    return int(connection.execute(sa.select(sa.func.count()).where(between)).scalar_one())


def _are(location_id: str, call_ids: Collection[str]) -> sa.ColumnElement[bool]:
    return sa.and_(calls_table.c.location_id == location_id, calls_table.c.call_id.in_(call_ids))


def _is_work_of(location_id: str, call_ids: Collection[str]) -> sa.ColumnElement[bool]:
    c = work_table.c
    return sa.and_(c.kind == CALL.name, c.location_id == location_id, c.subject.in_(call_ids))
