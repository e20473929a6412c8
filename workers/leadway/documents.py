"""Leadway's JSON as values: call logs, list pages, notes, tasks, appointments.

Reading is lenient, because the vendor's own samples break their schemas: a field of the wrong type counts as missing
and stays in the stored document. Only a document that cannot be used at all is an error, UnreadableDocument, whose text
holds no content.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Any, TypeVar

from models.calls.call_log import Action, CallLog, Source
from models.calls.redaction import redact, storable_text
from models.reconciling.quarantined_rows import RefusedRow
from models.settings.values import LEADWAY_ID
from workers.leadway.errors import UnreadableDocument

T = TypeVar("T")

# From voice-ai.json, the VoiceAiCallEnd page, and live answers.
# fmt: off
KNOWN_FIELDS = frozenset({
    "id", "contactId", "agentId", "isAgentDeleted", "fromNumber", "createdAt", "duration", "trialCall",
    "executedCallActions", "summary", "transcript", "translation", "extractedData", "messageId", "locationId",
    "traceId", "agentTransferOccurred", "transcriptWithToolCalls", "toNumber", "direction", "callStatus",
    "callType", "agentName", "workflowName", "contactName",
})
# fmt: on
_ALWAYS_THERE = frozenset({"createdAt", "duration", "transcript", "executedCallActions"})
"""Names that every log has (voice-ai.json, and live rows), if only with null or an empty value."""
_LONGEST_CALL = 10_000_000.0  # seconds
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Page:
    """One page of call logs. `unreadable`: the number of rows without a usable id."""

    rows: tuple[CallLog, ...]
    total: int | None
    """The number of calls in the whole list, as Leadway states it."""
    refused: tuple[RefusedRow, ...] = ()
    """Rows that are no call log."""

    @property
    def length(self) -> int:
        return len(self.rows) + len(self.refused)

    @property
    def is_empty(self) -> bool:
        return not self.length


@dataclass(frozen=True)
class Note:
    note_id: str
    body: str
    added_at: datetime | None


@dataclass(frozen=True)
class Task:
    task_id: str
    body: str


@dataclass(frozen=True)
class Appointment:
    """One booked appointment. Cancelled ones are listed too: see `status`."""

    appointment_id: str
    calendar_id: str | None
    title: str
    status: str
    """`appointmentStatus` in lower case: new, confirmed, cancelled, showed, noshow, invalid, …"""
    starts_at: datetime | None
    added_at: datetime | None
    zoneless: frozenset[str]
    """Names of the times above that came without a zone and were read as UTC. The contact's list has such times
    (contacts.json, "2021-07-16 11:00:00"); `get_appointment` has the exact ones."""


def read_call_log(document: Any, *, source: Source, redaction_key: bytes, zone: tzinfo = UTC) -> CallLog:
    """Reads one call log, a bare object, and redacts it. Raises UnreadableDocument if there is no object or no id.

    `zone`: the account's, in which times are read that name none.
    """
    _id_of(_object(document), "id")
    whole: dict[str, Any] = redact(_with_parsed_actions(document), key=redaction_key)
    zoneless = _give_zones(whole, zone)
    read = {name: how(whole.get(key)) for key, (name, how) in _FIELDS.items()}
    carried = {key for key, (name, _) in _FIELDS.items() if read[name] not in (None, "", {})}
    actions = _actions(whole.get("executedCallActions"))
    if whole.get("executedCallActions") and _are_read_whole(whole["executedCallActions"]):
        carried.add("executedCallActions")
    return CallLog(
        **{**read, "trial_call": bool(read["trial_call"])},
        source=source,
        actions=actions,
        document={key: value for key, value in whole.items() if key not in carried},
        unknown_fields=tuple(sorted(whole.keys() - KNOWN_FIELDS)),
        unread_fields=tuple(sorted(_unread(whole, read, actions))),
        zoneless_times=zoneless,
        is_partial=not whole.keys() >= _ALWAYS_THERE,
    )


def read_told_call(document: Mapping[str, Any], call_id: str) -> CallLog | None:
    """What a stored notification tells of the call: fields of its log at the top or in `data`. None: nothing. It was
    redacted when it came."""
    for told in (document, document.get("data")):
        if isinstance(told, dict) and told.get("id") == call_id:
            with suppress(UnreadableDocument):
                return read_call_log(told, source=Source.NOTIFICATION, redaction_key=b"redacted")
    return None


def _give_zones(log: dict[str, Any], zone: tzinfo) -> int:
    """Completes the times of a log that name no zone, in place. Returns how many there were."""
    actions = log.get("executedCallActions")
    entries = [entry for entry in actions if isinstance(entry, dict)] if isinstance(actions, list) else []
    times = [(log, "createdAt"), *((entry, name) for entry in entries for name in ("executedAt", "triggerReceivedAt"))]
    zoneless = [(holder, name) for holder, name in times if _is_zoneless(holder.get(name))]
    for holder, name in zoneless:
        holder[name] = datetime.fromisoformat(holder[name].strip()).replace(tzinfo=zone).isoformat()
    return len(zoneless)


def _unread(whole: Mapping[str, Any], read: Mapping[str, Any], actions: tuple[Action, ...]) -> Iterator[str]:
    """Names of described fields that say something which could not be read."""
    for key, (name, _) in _FIELDS.items():
        if whole.get(key) not in (None, "", {}, []) and read[name] in (None, "", {}):
            yield key
    if whole.get("executedCallActions") and not actions:
        yield "executedCallActions"


def read_list_page(document: Any, *, page: int, redaction_key: bytes, zone: tzinfo = UTC) -> Page:
    """Reads the answer of the list of call logs: {callLogs, total or totalRecords, page, pageSize}.

    Raises UnreadableDocument if there is no list of rows, or if this is not the page that was asked for.
    """
    entries = _object(document).get("callLogs")
    if not isinstance(entries, list) or _count(document.get("page", page)) != page:
        raise UnreadableDocument
    rows, refused = [], []
    for entry in entries:
        try:
            rows.append(read_call_log(entry, source=Source.LIST, redaction_key=redaction_key, zone=zone))
        except UnreadableDocument:
            refused.append(RefusedRow(_digest(entry), "no_call_id" if isinstance(entry, dict) else "no_object"))
    total = _count(document.get("total", document.get("totalRecords")))
    return Page(tuple(rows), total=total, refused=tuple(refused))


def _digest(entry: Any) -> str:
    try:
        return hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        return "too deep to tell from another"


def read_whole_list(document: Any, name: str, *, read: Callable[[Any], T]) -> tuple[T, ...]:
    """Reads every entry of a list without pages. Raises UnreadableDocument: a part of the list proves no absence.

    These lists have no paging parameters (contacts.json). One that says that it goes on counts as incomplete.
    """
    outer = _object(document)
    entries = outer.get(name)
    if not isinstance(entries, list):
        raise UnreadableDocument
    if _goes_on(outer, len(entries)):
        raise UnreadableDocument
    return tuple(read(entry) for entry in entries)


def _goes_on(outer: Mapping[str, Any], number: int) -> bool:
    """Whether anything beside the entries says that there are more than this number: in any API's usual words."""
    for name, value in outer.items():
        word = "".join(character for character in name.lower() if character.isalnum())
        if isinstance(value, dict) and _goes_on(value, number):
            return True
        counted = _count(value)
        if word in _TOTALS and counted is not None and counted > number:
            return True
        if word in _PAGES and counted is not None and counted > 1:
            return True
        if word in _SIZES and counted is not None and 0 < counted <= number:
            return True
        if value and word not in _TOTALS | _PAGES and any(part in word for part in ("next", "more", "cursor")):
            return True
    return False


_TOTALS = frozenset({"total", "count", "totalcount", "totalrecords", "totalitems"})
_PAGES = frozenset({"page", "pages", "currentpage", "totalpages", "pagecount", "lastpage"})
_SIZES = frozenset({"limit", "pagesize", "perpage", "size"})


def read_note(document: Any) -> Note:
    """Reads {id, body, dateAdded}. Raises UnreadableDocument if there is no id, or a body that is no text."""
    note = _object(document)
    return Note(_id_of(note, "id"), body=_body_of(note), added_at=read_time(note.get("dateAdded")))


def read_task(document: Any) -> Task:
    """Reads {id, body}. Raises UnreadableDocument if there is no id, or a body that is no text."""
    task = _object(document)
    return Task(_id_of(task, "id"), body=_body_of(task))


def read_appointment(document: Any) -> Appointment:
    """Reads an event, of the contact's list or of the calendars. Raises UnreadableDocument if there is no id."""
    event = _object(document)
    written = {name: event.get(key) for name, key in _APPOINTMENT_TIMES.items()}
    return Appointment(
        appointment_id=_id_of(event, "id"),
        calendar_id=_id_or_none(event.get("calendarId")),
        title=_line(event.get("title")),
        status=(_line(event.get("appointmentStatus")) or _line(event.get("status"))).lower(),
        starts_at=read_time(written["starts_at"]),
        added_at=read_time(written["added_at"]),
        zoneless=frozenset(name for name, value in written.items() if _is_zoneless(value)),
    )


def read_time(value: Any) -> datetime | None:
    """Reads ISO text (without a zone: UTC), or seconds or milliseconds since 1970, as a number or as text; else None.

    Times before 2000 or after 2199 are None too: most likely the value is missing or broken.
    """
    try:
        number = _finite(value)
        if number is not None:
            moment = datetime.fromtimestamp(number / 1000 if abs(number) >= 1e11 else number, UTC)
        elif isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    return moment if _EARLIEST <= moment < _LATEST else None


_APPOINTMENT_TIMES = {"starts_at": "startTime", "added_at": "dateAdded"}


def _is_zoneless(value: Any) -> bool:
    if not isinstance(value, str) or _finite(value) is not None or read_time(value) is None:
        return False
    return datetime.fromisoformat(value.strip()).tzinfo is None


def _with_parsed_actions(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its actions as a list, where they come as JSON text or as one object. Before redaction, which
    sees nothing inside of a text."""
    actions = document.get("executedCallActions")
    if isinstance(actions, str) and actions.strip()[:1] in ("[", "{"):
        try:
            actions = json.loads(actions)
        except (ValueError, RecursionError):
            return document
    if isinstance(actions, dict) and "actionType" in actions:
        actions = [actions]
    return {**document, "executedCallActions": actions} if isinstance(actions, list) else document


def _are_read_whole(entries: Any) -> bool:
    """Whether the list of actions says nothing that `call_actions` does not keep."""
    return isinstance(entries, list) and all(
        isinstance(entry, dict)
        and all(not value or (name in _ACTION_FIELDS and _ACTION_FIELDS[name](value)) for name, value in entry.items())
        and entry.get("actionId", entry.get("_id")) == entry.get("_id", entry.get("actionId"))
        for entry in entries
    )


def _actions(value: Any) -> tuple[Action, ...]:
    """Entries that are no objects are left out; they stay in the document. The same entry twice is one action, unless
    it tells no time."""
    entries = value if isinstance(value, list) else []
    read = [
        Action(
            action_type=_line(entry.get("actionType")).upper(),
            name=_line(entry.get("actionName")),
            action_id=_id_or_none(entry.get("actionId")) or _id_or_none(entry.get("_id")),
            parameters=_object_or_none(entry.get("actionParameters")) or {},
            executed_at=read_time(entry.get("executedAt")),
            trigger_received_at=read_time(entry.get("triggerReceivedAt")),
        )
        for entry in entries
        if isinstance(entry, dict)
    ]
    return tuple(each for at, each in enumerate(read) if each.executed_at is None or each not in read[:at])


def _transcript(value: Any) -> str:
    """Text as it is; a list of turns as lines `bot:…` and `human:…`, as Leadway writes a transcript itself."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _text(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        value = next((value[name] for name in _TURNS if isinstance(value.get(name), list)), None)
    if not isinstance(value, list):
        return ""
    lines = [_turn(turn) for turn in value]
    return "\n".join(line for line in lines if line)


def _turn(turn: Any) -> str:
    if isinstance(turn, str):
        return _text(turn).strip()
    if not isinstance(turn, dict):
        return ""
    words = next((turn[name] for name in _WORDS if isinstance(turn.get(name), str) and turn[name].strip()), "")
    speaker = next((_line(turn.get(name)).lower() for name in _SPEAKERS if _line(turn.get(name))), "")
    speaker = _SPEAKER_WORDS.get(speaker, speaker)
    said = " ".join(_text(words).split())
    return f"{speaker}:{said}" if speaker and said else said


_TURNS = ("turns", "messages", "transcript", "entries", "segments")
_WORDS = ("content", "text", "message", "words", "transcript", "utterance", "sentence")
_SPEAKERS = ("role", "speaker", "from", "sender", "participant", "type")
_SPEAKER_WORDS = {
    "agent": "bot", "assistant": "bot", "ai": "bot", "system": "bot", "voice_ai": "bot", "user": "human",
    "customer": "human", "caller": "human", "contact": "human", "client": "human",
}  # fmt: skip


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UnreadableDocument
    return value


def _object_or_none(value: Any) -> Mapping[str, Any] | None:
    return value if isinstance(value, dict) else None


def _id_of(document: dict[str, Any], name: str) -> str:
    found = _id_or_none(document.get(name))
    if found is None:
        raise UnreadableDocument
    return found


def _body_of(document: dict[str, Any]) -> str:
    """A body that is no text might hide a reference line, so the document counts as unreadable."""
    body = document.get("body")
    if body is not None and not isinstance(body, str):
        raise UnreadableDocument
    return _text(body)


def _id_or_none(value: Any) -> str | None:
    text = _line(value)
    return text if LEADWAY_ID.fullmatch(text) else None


def _text(value: Any) -> str:
    return storable_text(value) if isinstance(value, str) else ""


def _line(value: Any) -> str:
    """A short text; a whole number (a phone number, an id) becomes one."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 128:
        return str(value)
    return _text(value).strip()


def _flag(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "1": True, "false": False, "0": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, int) and value in (0, 1) else None


def _duration(value: Any) -> float | None:
    """Seconds: a number, also as text, or clock text such as `0:03:25`."""
    clock = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    seconds = _finite(value)
    if clock is not None:
        seconds = 3600 * int(clock["hours"] or 0) + 60 * int(clock["minutes"]) + float(clock["seconds"])
    return seconds if seconds is not None and 0 <= seconds <= _LONGEST_CALL else None


_CLOCK = re.compile(r"(?:(?P<hours>\d{1,3}):)?(?P<minutes>\d{1,2}):(?P<seconds>\d{2}(?:\.\d{1,6})?)")


def _count(value: Any) -> int | None:
    number = _finite(value)
    return int(number) if number is not None and number >= 0 else None


def _finite(value: Any) -> float | None:
    """A number, also one in text; None for everything else, NaN and infinities included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


_ACTION_FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "actionId": _id_or_none, "_id": _id_or_none, "actionType": _line, "actionName": _line,
    "actionParameters": _object_or_none, "executedAt": read_time, "triggerReceivedAt": read_time,
}  # fmt: skip
"""How each field of an action is read."""
_FIELDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "id": ("call_id", _id_or_none),
    "contactId": ("contact_id", _id_or_none),
    "agentId": ("agent_id", _id_or_none),
    "isAgentDeleted": ("agent_deleted", _flag),
    "messageId": ("message_id", _id_or_none),
    "fromNumber": ("from_number", lambda value: _line(value) or None),
    "toNumber": ("to_number", lambda value: _line(value) or None),
    "direction": ("direction", lambda value: _line(value).lower() or None),
    "callStatus": ("call_status", lambda value: _line(value) or None),
    "callType": ("call_type", lambda value: _line(value) or None),
    "agentName": ("agent_name", lambda value: _line(value) or None),
    "workflowName": ("workflow_name", lambda value: _line(value) or None),
    "createdAt": ("started_at", read_time),
    "duration": ("duration_seconds", _duration),
    "trialCall": ("trial_call", _flag),
    "agentTransferOccurred": ("agent_handoff", _flag),
    "summary": ("summary", _text),
    "transcript": ("transcript", _transcript),
    "translation": ("translation", _object_or_none),
    "extractedData": ("extracted_data", lambda value: _object_or_none(value) or None),
}
"""By the log's field: the field of CallLog, and how it is read. What was read has a column, so the stored document
leaves it out."""
