"""Reads the body of a call-completed notification into a `Notification`, by who vouches for it.

What is signed has the vendor's shape: a flat object, or the same within `data`; anything else is none of its calls
(`read_signed`). What comes with an intake secret was composed by whoever set the webhook up, and by what forwards it: a
readable call id decides there, whatever the type, the wrapper and the encoding (`read_composed`). No body makes either
raise: an unreadable one becomes a `Notification` with a reason.

Leadway's call ids are opaque. A call id is any text that matches `[A-Za-z0-9_-]{1,128}` and differs from the contact's
and the location's id. Only the API can tell that an id is of the wrong kind, such as a telephone provider's call id
under `callId`. Fields named after a provider's id (`call_sid`) are not read: a call without an id is found by contact,
number and time.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from models.intake.reasons import Reason, ReceiptStatus
from webhook import bodies, composed_body
from webhook.bodies import UnreadableError
from webhook.body_fields import WANTED_EVENT
from webhook.field_values import NoId, id_of, number_of, time_of

MAX_BODY_BYTES = 256 * 1024
"""Larger bodies are rejected unread. The words of the longest call that an agent may hold, 15 minutes, are a tenth."""

_LONGEST_EVENT_NAME = 64


def _paths(*paths: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(path.split(".")) for path in paths)


_CALL_ID = _paths("id", "callId", "call_id", "data.id", "data.callId", "data.call_id")
_CALL_ID_IN_WORKFLOW = _paths("callId", "call_id", "data.callId", "data.call_id")
_LOCATION_ID = _paths("locationId", "location_id", "location.id", "data.locationId", "data.location_id")
_CONTACT_ID = _paths("contactId", "contact_id", "contact.id", "data.contactId", "data.contact_id")
_WEBHOOK_ID = _paths("webhookId", "data.webhookId")
_FROM_NUMBER = _paths(
    *("fromNumber", "from_number", "from", "data.fromNumber", "data.from_number", "data.from", "data.callerPhone"),
    *("phone", "contact.phone"),
)
_TIME = ("createdAt", "startedAt", "started_at", "startTime", "start_time", "date")
_STARTED_AT = _paths(*_TIME, *(f"data.{name}" for name in _TIME))
_TYPE = _paths("type", "data.type")


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
    """SHA-256 of the raw body, and of the query where it may say something; hex."""
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
    """The parsed body; `models.calls.redaction.redact` makes it fit for storing."""

    @property
    def status(self) -> ReceiptStatus:
        """`accepted` without a reason; else the reason's status: `unresolved` (no usable call id) or `ignored`."""
        return ReceiptStatus.ACCEPTED if self.reason is None else self.reason.status


def read_signed(raw_body: bytes) -> Notification:
    """Reads a body that Leadway signed and that is not larger than MAX_BODY_BYTES. Never raises."""
    body_digest = hashlib.sha256(raw_body).hexdigest()
    try:
        document = bodies.signed_object(raw_body)
    except UnreadableError as unreadable:
        return Notification(body_digest, reason=unreadable.reason)

    event_type = _event_type(document)
    dialect = _dialect(document, event_type)
    location_id, _ = _first_id(document, _LOCATION_ID)
    contact_id, _ = _first_id(document, _CONTACT_ID)
    paths = _CALL_ID_IN_WORKFLOW if dialect is Dialect.WORKFLOW else _CALL_ID
    call_id, reason = _first_id(document, paths, other_ids={location_id, contact_id})
    if event_type not in (None, WANTED_EVENT):
        reason = Reason.EVENT_TYPE_NOT_WANTED
    return Notification(
        body_digest,
        dialect=dialect,
        reason=reason,
        call_id=call_id,
        location_id=location_id,
        contact_id=contact_id,
        from_number=next(filter(None, map(number_of, _values(document, _FROM_NUMBER))), None),
        started_at=next(filter(None, map(time_of, _values(document, _STARTED_AT))), None),
        webhook_id=_first_id(document, _WEBHOOK_ID)[0],
        event_type=event_type,
        document=document,
    )


def read_composed(
    raw_body: bytes, *, content_type: str = "", query: str = "", account: str | None = None
) -> Notification:
    """Reads a body that came with an intake secret and is not larger than MAX_BODY_BYTES. Never raises.

    `content_type`: the header, `query`: that of the URL, both as they came. `account`: the location id of the account
    whose secret it was.
    """
    found = composed_body.find(bodies.decoded(raw_body, content_type=content_type), query=query, account=account)
    return Notification(
        hashlib.sha256(raw_body + query.encode()).hexdigest(),
        dialect=_dialect(found.document, found.event_type),
        reason=found.reason,
        call_id=found.call_id,
        location_id=found.location_id,
        contact_id=found.contact_id,
        from_number=found.from_number,
        started_at=found.started_at,
        webhook_id=found.webhook_id,
        event_type=found.event_type,
        document=found.document,
    )


def dedupe_key(notification: Notification, location_id: str | None) -> str:
    """The key that deliveries of one notification to one account share, and no other deliveries.

    The call id, or else the body, is part of the key beside the webhook id: some webhook ids are written by hand, and a
    constant one would hide every call after the first. A retry of the vendor repeats the whole body, so its key is the
    same.
    """
    account = location_id or ""
    if notification.webhook_id:
        return f"webhook:{account}:{notification.webhook_id}:{notification.call_id or notification.body_digest}"
    if notification.call_id:
        return f"call:{account}:{notification.call_id}:{notification.dialect}"
    return f"body:{account}:{notification.body_digest}"


def _event_type(document: dict[str, Any]) -> str | None:
    for value in _values(document, _TYPE):
        if isinstance(value, str) and value.strip() and "{{" not in value:
            return value.strip()[:_LONGEST_EVENT_NAME]
    return None


def _dialect(document: dict[str, Any], event_type: str | None) -> Dialect:
    enveloped = isinstance(document.get("data"), dict)
    if event_type == WANTED_EVENT:
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
    document: dict[str, Any], paths: Iterable[tuple[str, ...]], *, other_ids: Iterable[str | None] = ()
) -> tuple[str | None, Reason | None]:
    """The first usable id at `paths` and None; without one, None and why a call id is not usable."""
    reason = Reason.CALL_ID_MISSING
    for value in _values(document, paths):
        found = id_of(value)
        if isinstance(found, str) and found not in other_ids:
            return found, None
        if found is NoId.MERGE_TAG:
            reason = Reason.UNRESOLVED_MERGE_TAG
        elif found is not NoId.NO_VALUE and reason is Reason.CALL_ID_MISSING:
            reason = Reason.CALL_ID_UNUSABLE
    return None, reason


def _values(document: dict[str, Any], paths: Iterable[tuple[str, ...]]) -> Iterable[Any]:
    """The value at each path; None where the path leads nowhere."""
    for path in paths:
        value: Any = document
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        yield value
