"""Reads the body of a call-completed notification, in any dialect, into a `Notification`.

No body makes `read` raise: an unreadable body becomes a `Notification` with a reason.

Four dialects are distinguished, because a bare `id` means something else in each. In a flat
VoiceAiCallEnd, `id` is the call. In a workflow's body (recognised by `contact_id`, `workflow`, `triggerData` or
`customData`), `id` is the contact, the opportunity or the appointment that triggered the workflow; so only fields whose
name says "call" are read there. A `type` of VoiceAiCallEnd outweighs the shape. A nested `location` or `contact` alone
does not make a body a workflow's: people write these into bodies of their own.

Leadway's call ids are opaque. A call id is any text that matches `[A-Za-z0-9_-]{1,128}` and differs from the contact's
and the location's id. Only the API can tell that an id is of the wrong kind, such as a telephone provider's call id
under `callId`. Fields named after a provider's id (`call_sid`) are not read: a call without an id is found by contact,
number and time.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NoReturn

from models.calls.call_log import LEADWAY_ID
from models.calls.redaction import storable_text
from webhook.rejections import Reason, ReceiptStatus

MAX_BODY_BYTES = 256 * 1024
"""Larger bodies are rejected unread. The words of the longest call that an agent may hold, 15 minutes, are a tenth."""

_WANTED_EVENT = "VoiceAiCallEnd"
_DEEPEST = 32  # levels; a real body has 8. Code that walks the document later may recurse
_MOST_DIGITS = 308  # a whole number with 308 digits always fits a double
_LONGEST_EVENT_NAME = 64

_CALL_ID = (
    "id",
    "callId",
    "call_id",
    "customData.callId",
    "customData.call_id",
    "data.id",
    "data.callId",
    "data.call_id",
)
_CALL_ID_IN_WORKFLOW = tuple(path for path in _CALL_ID if path not in ("id", "data.id"))
_LOCATION_ID = (
    *("locationId", "location_id", "location.id"),
    *("customData.locationId", "customData.location_id", "data.locationId", "data.location_id"),
)
_CONTACT_ID = (
    *("contactId", "contact_id", "contact.id"),
    *("customData.contactId", "customData.contact_id", "data.contactId", "data.contact_id"),
)
_FROM_NUMBER = (
    *("fromNumber", "from_number", "from"),
    *("customData.fromNumber", "customData.from_number", "customData.from", "customData.phone"),
    *("data.fromNumber", "data.from_number", "data.from", "data.callerPhone"),
    *("phone", "contact.phone"),
)
# Never `date_created`: in a workflow's body it is the time of the contact.
_TIME = ("createdAt", "startedAt", "started_at", "startTime", "start_time", "date")
_STARTED_AT_NESTED = (*(f"customData.{name}" for name in _TIME), *(f"data.{name}" for name in _TIME))

_NO_VALUE = frozenset({"", "null", "none", "undefined", "nan"})
_PHONE = re.compile(r"\+?[0-9 ().-]{3,32}")
_EPOCH = re.compile(r"[0-9]{10}(?:[0-9]{3})?")


class Dialect(StrEnum):
    """Which shape a body has, by who composed it."""

    MARKETPLACE = "marketplace"
    """Flat: the call's fields at the top level, its id under `id`. Sent by a marketplace app's subscription, signed."""
    ENVELOPE = "envelope"
    """The marketplace's fields within `data`."""
    WORKFLOW = "workflow"
    """A workflow's webhook step: the contact's fields, `workflow`, `location.id`; own fields within `customData`."""
    THIN = "thin"
    """Little more than `callId`, composed by whoever set up the webhook."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Notification:
    """What a body says. Ids are well-formed or None. The repr contains nothing that identifies a person."""

    body_digest: str
    """SHA-256 of the raw body, hex."""
    dialect: Dialect = Dialect.UNKNOWN
    reason: Reason | None = None
    call_id: str | None = None
    location_id: str | None = None
    contact_id: str | None = None
    from_number: str | None = field(default=None, repr=False)
    """Digits, with a leading + if the body has one."""
    started_at: datetime | None = None
    """UTC."""
    webhook_id: str | None = None
    event_type: str | None = None
    document: dict[str, Any] = field(default_factory=dict, repr=False)
    """The parsed body, not redacted. NUL and lone surrogates are replaced, so a database can store every string."""

    @property
    def status(self) -> ReceiptStatus:
        """`accepted` without a reason; else the reason's status: `unresolved` (no usable call id) or `ignored`."""
        return ReceiptStatus.ACCEPTED if self.reason is None else self.reason.status


def read(raw_body: bytes) -> Notification:
    """Reads a body that was authenticated and is not larger than MAX_BODY_BYTES. Never raises."""
    body_digest = hashlib.sha256(raw_body).hexdigest()
    try:
        document = _parse(raw_body)
    except _UnreadableError as unreadable:
        return Notification(body_digest, reason=unreadable.reason)

    event_type = _event_type(document)
    dialect = _dialect(document, event_type)
    in_workflow = dialect is Dialect.WORKFLOW
    location_id, _ = _first_id(document, _LOCATION_ID)
    contact_id, _ = _first_id(document, _CONTACT_ID)
    call_id, reason = _first_id(
        document, _CALL_ID_IN_WORKFLOW if in_workflow else _CALL_ID, other_ids={location_id, contact_id}
    )
    if event_type not in (None, _WANTED_EVENT):
        reason = Reason.EVENT_TYPE_NOT_WANTED
    return Notification(
        body_digest,
        dialect=dialect,
        reason=reason,
        call_id=call_id,
        location_id=location_id,
        contact_id=contact_id,
        from_number=_first_number(document),
        started_at=_first_time(document, _STARTED_AT_NESTED if in_workflow else (*_TIME, *_STARTED_AT_NESTED)),
        webhook_id=_first_id(document, ("webhookId", "data.webhookId"))[0],
        event_type=event_type,
        document=document,
    )


def dedupe_key(notification: Notification, location_id: str | None) -> str:
    """The key that deliveries of one notification to one account share, and no other deliveries.

    The call id is part of the key beside the webhook id: some webhook ids are written by hand, and a constant one would
    hide every call after the first. A retry of the vendor repeats the whole body, so its key is the same.
    """
    account = location_id or ""
    if notification.webhook_id:
        return f"webhook:{account}:{notification.webhook_id}:{notification.call_id or ''}"
    if notification.call_id:
        return f"call:{account}:{notification.call_id}:{notification.dialect}"
    return f"body:{account}:{notification.body_digest}"


class _UnreadableError(Exception):
    def __init__(self, reason: Reason) -> None:
        self.reason = reason


def _parse(raw_body: bytes) -> dict[str, Any]:
    """The body's JSON object. Raises _UnreadableError.

    Unescaped line breaks within strings are accepted: a body composed from merge tags contains them.
    """
    try:
        value = json.loads(
            raw_body.decode("utf-8-sig"),
            strict=False,
            object_pairs_hook=_object,
            parse_int=_whole_number,
            parse_float=_number,
            parse_constant=_not_a_number,
        )
        if not isinstance(value, dict):
            raise _UnreadableError(Reason.NOT_AN_OBJECT)
        return {storable_text(name): _storable(entry, depth=2) for name, entry in value.items()}
    except UnicodeDecodeError:
        raise _UnreadableError(Reason.NOT_UTF8) from None
    except ValueError:
        raise _UnreadableError(Reason.NOT_JSON) from None
    except RecursionError:
        raise _UnreadableError(Reason.TOO_DEEP) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # JSON readers differ on which of two values counts, so neither does
        raise _UnreadableError(Reason.DUPLICATE_KEYS)
    return found


def _whole_number(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise _UnreadableError(Reason.NUMBER_OUT_OF_RANGE)
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # 1e999 is infinite, which JSON cannot express
        raise _UnreadableError(Reason.NUMBER_OUT_OF_RANGE)
    return number


def _not_a_number(_text: str) -> NoReturn:
    raise _UnreadableError(Reason.NUMBER_OUT_OF_RANGE)


def _storable(value: Any, *, depth: int) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, (dict, list)) and depth > _DEEPEST:
        raise _UnreadableError(Reason.TOO_DEEP)
    if isinstance(value, dict):
        return {storable_text(name): _storable(entry, depth=depth + 1) for name, entry in value.items()}
    if isinstance(value, list):
        return [_storable(entry, depth=depth + 1) for entry in value]
    return value


def _event_type(document: dict[str, Any]) -> str | None:
    for value in _values(document, ("type", "data.type")):
        if isinstance(value, str) and value.strip() and "{{" not in value:
            return value.strip()[:_LONGEST_EVENT_NAME]
    return None


def _dialect(document: dict[str, Any], event_type: str | None) -> Dialect:
    enveloped = isinstance(document.get("data"), dict)
    if event_type == _WANTED_EVENT:
        return Dialect.ENVELOPE if enveloped else Dialect.MARKETPLACE
    if "contact_id" in document or any(
        isinstance(document.get(name), dict) for name in ("workflow", "customData", "triggerData")
    ):
        return Dialect.WORKFLOW
    if "id" in document:
        return Dialect.MARKETPLACE
    if "callId" in document or "call_id" in document:
        return Dialect.THIN
    return Dialect.ENVELOPE if enveloped else Dialect.UNKNOWN


def _first_id(
    document: dict[str, Any], paths: Iterable[str], *, other_ids: Iterable[str | None] = ()
) -> tuple[str | None, Reason | None]:
    """The first usable id at `paths` and None; without one, None and why a call id is not usable."""
    reason = Reason.CALL_ID_MISSING
    for value in _values(document, paths):
        text = value.strip() if isinstance(value, str) else None
        if value is None or (text is not None and text.lower() in _NO_VALUE):
            continue
        if text is not None and "{{" in text:
            reason = Reason.UNRESOLVED_MERGE_TAG
        elif text is not None and LEADWAY_ID.fullmatch(text) and text not in other_ids:
            return text, None
        elif reason is Reason.CALL_ID_MISSING:
            reason = Reason.CALL_ID_UNUSABLE
    return None, reason


def _first_number(document: dict[str, Any]) -> str | None:
    for value in _values(document, _FROM_NUMBER):
        if isinstance(value, str) and _PHONE.fullmatch(value.strip()):
            digits = re.sub(r"[^0-9]", "", value)
            if digits:
                return "+" + digits if value.strip().startswith("+") else digits
    return None


def _first_time(document: dict[str, Any], paths: Iterable[str]) -> datetime | None:
    return next((time for value in _values(document, paths) if (time := _time(value))), None)


def _time(value: Any) -> datetime | None:
    """The instant, in UTC, of ISO 8601 with a zone or of seconds or milliseconds since 1970. None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        return None
    try:
        if _EPOCH.fullmatch(value.strip()):
            seconds = int(value) / (1000 if len(value.strip()) == 13 else 1)
            return datetime.fromtimestamp(seconds, UTC)
        moment = datetime.fromisoformat(value.strip())
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _values(document: dict[str, Any], paths: Iterable[str]) -> Iterable[Any]:
    """The value at each path (names joined by dots); None where the path leads nowhere."""
    for path in paths:
        value: Any = document
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        yield value
