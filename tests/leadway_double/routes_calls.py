"""The call-log endpoints: one log by id, and the list with its filters and pages."""

import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.leadway_double.answers import NOT_THIS_LOCATION, Answer, Asked, error
from tests.leadway_double.faults import What
from tests.leadway_double.memory import Memory
from tests.leadway_double.nouns import PlacedCall, without

CALL_ID = re.compile(r"[0-9a-f]{24}|CALL_\w+")
ACTION_TYPES = (
    "CALL_TRANSFER",
    "DATA_EXTRACTION",
    "IN_CALL_DATA_EXTRACTION",
    "WORKFLOW_TRIGGER",
    "SMS",
    "APPOINTMENT_BOOKING",
    "CUSTOM_ACTION",
    "KNOWLEDGE_BASE",
)
PARAMETERS = frozenset(
    {
        "locationId",
        "agentId",
        "contactId",
        "callType",
        "startDate",
        "endDate",
        "actionType",
        "sortBy",
        "sort",
        "page",
        "pageSize",
    }
)
PlaceCall = Callable[[str, datetime], object]
"""Places a call of a location that started at that time (needed by lists that shift while they are read)."""


def fetch(memory: Memory, asked: Asked) -> Answer:
    """200 the bare log; 404 unknown, not yet readable or another location's; 422 an id of the wrong kind."""
    if "locationId" not in asked.query:
        return error(403, NOT_THIS_LOCATION)
    call_id, now = asked.ids["callId"], memory.now()
    call = memory.calls.get(call_id)
    if call is None and not CALL_ID.fullmatch(call_id):
        return error(422, "Call ID is invalid")
    if call is None or call.location_id != asked.location_id or call.readable_at > now:
        return error(404, "Call log not found")
    if asked.fault and asked.fault.what is What.WRONG_DOCUMENT:
        call = next((other for other in memory.calls.values() if other.call_id != call_id), call)
    oldest = asked.fault is not None and asked.fault.what is What.OLDER_COPY
    return Answer(200, call.document(now, oldest=oldest))


def list_calls(memory: Memory, asked: Asked, place: PlaceCall) -> Answer:
    """200 one page; without `callType` only live calls; newest first unless `sortBy` says otherwise."""
    if "locationId" not in asked.query:
        return error(403, NOT_THIS_LOCATION)
    if complaints := _complaints(asked):
        return error(422, complaints)
    query = asked.query
    page, size = int(query.get("page", "1")), int(query.get("pageSize", "10"))
    matching = _matching(memory, asked)
    what, count = (asked.fault.what, asked.fault.count) if asked.fault else (None, 0)
    if what in (What.CAPPED, What.NO_TOTAL, What.UNDERTOLD, What.SHUFFLED) and count:
        size = min(size, count)
    if what is What.SHUFFLED:
        matching = sorted(matching, key=lambda call: (call.created_ms, random.random()))
    rows = matching[:size] if what is What.SAME_PAGE else matching[(page - 1) * size : page * size]
    oldest = asked.fault is not None and asked.fault.what is What.OLDER_COPY
    now = memory.now()
    documents = [_row(call, now, oldest=oldest) for call in rows]
    if asked.fault and asked.fault.what is What.SHORTENED:
        documents = documents[: asked.fault.count]
    if what is What.BARE:
        documents = [without(each, "executedCallActions") for each in documents]
    if asked.fault and asked.fault.what is What.SHIFTING and rows:
        _insert_before(asked, rows[0], place)
    if memory.envelope == "totalRecords":
        return Answer(200, {"totalRecords": len(matching), "callLogs": documents})
    if what is What.NO_TOTAL:
        return Answer(200, {"callLogs": documents})
    total = max(0, len(matching) + (count if what is What.WRONG_TOTAL else 0))
    total = min(total, size) if what is What.UNDERTOLD else total
    return Answer(200, {"total": total, "page": page, "pageSize": size, "callLogs": documents})


def _row(call: PlacedCall, now: float, *, oldest: bool) -> dict[str, Any]:
    """A list row: the log without `extractedData`, as live rows are."""
    return without(json.loads(call.document(now, oldest=oldest)), "extractedData")


def _matching(memory: Memory, asked: Asked) -> list[PlacedCall]:
    query = asked.query
    calls = memory.listed_calls(
        asked.location_id,
        trial=query.get("callType") == "TRIAL",
        from_ms=int(query["startDate"]) if "startDate" in query else None,
        to_ms=int(query["endDate"]) if "endDate" in query else None,
    )
    if "contactId" in query:
        wanted = set(query["contactId"].split(","))
        calls = [call for call in calls if call.contact_id in wanted]
    if "agentId" in query:
        calls = [call for call in calls if call.agent_id == query["agentId"]]
    if "actionType" in query:
        types = set(query["actionType"].split(","))
        calls = [call for call in calls if types.intersection(call.action_types)]
    if query.get("sortBy") == "duration":
        calls.sort(key=lambda call: call.duration)
    if "sortBy" not in query or query.get("sort", "descend") == "descend":
        calls.reverse()
    return calls


def _insert_before(asked: Asked, first: PlacedCall, place: PlaceCall) -> None:
    """A call that sorts just ahead of the page's first row: every later page moves on by one."""
    ascending = "sortBy" in asked.query and asked.query.get("sort") == "ascend"
    started_ms = first.created_ms + (-1 if ascending else 1)
    if "startDate" in asked.query:
        started_ms = min(max(started_ms, int(asked.query["startDate"])), int(asked.query["endDate"]))
    place(asked.location_id, datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=started_ms))


def _complaints(asked: Asked) -> list[str]:
    query = asked.query
    complaints = [f"property {name} should not exist" for name in query if name not in PARAMETERS]
    complaints += [
        f"{name} must be a number" for name in ("page", "pageSize", "startDate", "endDate") if _no_number(query, name)
    ]
    if complaints:
        return complaints
    if int(query.get("page", "1")) < 1:
        complaints.append("page must not be less than 1")
    if not 1 <= int(query.get("pageSize", "10")) <= 50:
        complaints.append("pageSize must not be greater than 50")
    if ("startDate" in query) != ("endDate" in query):
        complaints.append("startDate and endDate must be provided together")
    elif "startDate" in query and int(query["startDate"]) >= int(query["endDate"]):
        complaints.append("startDate must be less than endDate")
    choices = {"callType": ("LIVE", "TRIAL"), "sortBy": ("duration", "createdAt"), "sort": ("ascend", "descend")}
    for name, allowed in choices.items():
        if name in query and query[name] not in allowed:
            complaints.append(f"{name} must be one of the following values: {', '.join(allowed)}")
    if not set(query.get("actionType", "SMS").split(",")) <= set(ACTION_TYPES):
        complaints.append(f"each value in actionType must be one of: {', '.join(ACTION_TYPES)}")
    return complaints


def _no_number(query: Any, name: str) -> bool:
    return name in query and not query[name].isdecimal()
