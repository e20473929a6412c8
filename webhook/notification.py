"""Reads the body of a call-completed notification, whatever its dialect, into a `Notification`.

Nothing that a sender can write makes this raise: what cannot be read becomes a notification with a reason.

Four dialects are told apart, because a bare `id` means a different thing in each. In a flat VoiceAiCallEnd it is the
call. In a workflow's body (known by `contact_id`, `workflow`, `triggerData` or `customData`) it is the contact, the
opportunity or the appointment that triggered the workflow, so there only fields that say "call" are believed. A `type`
that says VoiceAiCallEnd outweighs the shape. A nested `location` or `contact` alone does not make a body a workflow's:
people write those into bodies of their own.

Leadway's call ids are opaque. An id is anything that fits `[A-Za-z0-9_-]{1,128}` and is not also the contact's or the
location's; that it is of the wrong kind (a telephone provider's call id under `callId`) only the API can tell. Fields
named after such an id (`call_sid`) are not read: without a call id the call is found by contact, number and time.
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
"""Larger bodies are refused unread. The longest call an agent may hold, 15 minutes, is a tenth of it as text."""

_WANTED_EVENT = "VoiceAiCallEnd"
_DEEPEST = 32  # a real body has 8 levels; whoever walks the document later may recurse
_MOST_DIGITS = 308  # what a double holds, for whole numbers too
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
# Never `date_created`: in a workflow's body that is the contact's.
_TIME = ("createdAt", "startedAt", "started_at", "startTime", "start_time", "date")
_STARTED_AT_NESTED = (*(f"customData.{name}" for name in _TIME), *(f"data.{name}" for name in _TIME))

_NO_VALUE = frozenset({"", "null", "none", "undefined", "nan"})
_PHONE = re.compile(r"\+?[0-9 ().-]{3,32}")
_EPOCH = re.compile(r"[0-9]{10}(?:[0-9]{3})?")


class Dialect(StrEnum):
    """Whose way of writing a notification a body follows."""

    MARKETPLACE = "marketplace"
    """Flat, the call's fields at the top, keyed `id`; a marketplace app's subscription sends it, signed."""
    ENVELOPE = "envelope"
    """The same within `data`."""
    WORKFLOW = "workflow"
    """A workflow's webhook step: the contact's fields, `workflow`, `location.id`, own fields in `customData`."""
    THIN = "thin"
    """Little more than `callId`, composed by whoever set up the webhook."""
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Notification:
    """What a body says. Ids are well-formed or None; what identifies a person stays out of the repr."""

    body_digest: str
    """SHA-256 of the raw body, hex."""
    dialect: Dialect = Dialect.UNKNOWN
    reason: Reason | None = None
    call_id: str | None = None
    location_id: str | None = None
    contact_id: str | None = None
    from_number: str | None = field(default=None, repr=False)
    """Digits, with a leading + if it came with one."""
    started_at: datetime | None = None
    """UTC."""
    webhook_id: str | None = None
    event_type: str | None = None
    document: dict[str, Any] = field(default_factory=dict, repr=False)
    """The parsed body, not redacted. A database takes every string in it: NUL and lone surrogates are replaced."""

    @property
    def status(self) -> ReceiptStatus:
        """`accepted`, or as the reason has it: `unresolved` (no usable call id) or `ignored`."""
        return ReceiptStatus.ACCEPTED if self.reason is None else self.reason.status


def read(raw_body: bytes) -> Notification:
    """Reads a body that is already known to be genuine and not too large. Never raises."""
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
    """What two deliveries of the same notification to the same account have in common, and no others.

    The call id stands beside the webhook id because some senders' webhook ids are written by hand: one that is always
    the same must not hide every call after the first. The vendor's retries repeat the whole body.
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
    """The body's JSON object. Raises `_UnreadableError`.

    Line breaks inside strings are let through: a webhook body composed from merge tags has them unescaped.
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
    if len(found) != len(pairs):  # readers differ on which of the two counts, so neither does
        raise _UnreadableError(Reason.DUPLICATE_KEYS)
    return found


def _whole_number(text: str) -> int:
    if len(text.lstrip("-")) > _MOST_DIGITS:
        raise _UnreadableError(Reason.NUMBER_OUT_OF_RANGE)
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # 1e999; written back it would not be JSON
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
    """The first usable id; without one, why the call id is not usable."""
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
    """A moment, from ISO 8601 with a zone or from seconds or milliseconds since 1970. Without a zone it is none."""
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
    """What stands at each path (names joined by dots), None where nothing does."""
    for path in paths:
        value: Any = document
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        yield value
