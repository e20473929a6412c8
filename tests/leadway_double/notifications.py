"""The bodies that announce a finished call, in every dialect seen, and the headers or path that prove them."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from tests.leadway_double.nouns import Contact, Location, PlacedCall, iso_milliseconds, without
from tests.leadway_double.signing import Signer
from tests.leadway_double.wire import compact


class Dialect(StrEnum):
    FLAT = "flat"
    """Marketplace VoiceAiCallEnd: `id`, `type`, `webhookId`, `timestamp`; actions keyed `_id`."""
    FLAT_UNTYPED = "flat_untyped"
    """The same without `type`, `timestamp` and `webhookId`, as the vendor's page shows it."""
    DATA = "data"
    """The same nested in `data`."""
    WORKFLOW = "workflow"
    """The free workflow "Webhook" action: `contact_id`, `location.id`, own keys in `customData`."""
    THIN = "thin"
    """A custom webhook: only `callId`."""
    CALL_COMPLETED = "call_completed"
    """A "Call Completed" workflow: mixed cases of names and of `callStatus`."""
    UNRESOLVED = "unresolved"
    """A workflow body whose merge tag for the call id was never filled in."""


class Proof(StrEnum):
    ED25519 = "ed25519"
    RSA = "rsa"
    SECRET_HEADER = "secret_header"
    SECRET_PATH = "secret_path"
    NONE = "none"
    FORGED = "forged"
    """Signed by a stranger's key."""
    TAMPERED = "tampered"
    """Rightly signed, then one character of the body changed."""


@dataclass(frozen=True)
class Message:
    """One POST, ready to be sent and, byte for byte, repeated."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def usual_proof(dialect: Dialect) -> Proof:
    """Marketplace events are signed, workflows carry a secret."""
    signed = dialect in (Dialect.FLAT, Dialect.FLAT_UNTYPED, Dialect.DATA)
    return Proof.ED25519 if signed else Proof.SECRET_HEADER


def message(document: Any, *, url: str, proof: Proof, secret: str | None, signer: Signer) -> Message:
    """Raises ValueError when a secret is to be shown and the location has none."""
    body = document if isinstance(document, bytes) else compact(document)
    headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "axios/1.13.2"}
    match proof:
        case Proof.ED25519 | Proof.TAMPERED:
            headers["X-GHL-Signature"] = signer.ed25519(body)
        case Proof.FORGED:
            headers["X-GHL-Signature"] = signer.forged(body)
        case Proof.RSA:
            headers["X-WH-Signature"] = signer.rsa(body)
        case Proof.SECRET_HEADER:
            headers["X-Intake-Secret"] = _needed(secret)
        case Proof.SECRET_PATH:
            url = f"{url.rstrip('/')}/{_needed(secret)}"
    if proof is Proof.TAMPERED:
        body = body.replace(b":", b": ", 1)
    return Message(url, headers, body)


def document(
    dialect: Dialect,
    call: PlacedCall,
    *,
    location: Location,
    contact: Contact | None,
    now: float,
    timestamp: str,
    random_id: uuid.UUID,
) -> dict[str, Any]:
    """The body, before it is written as JSON."""
    match dialect:
        case Dialect.FLAT:
            return _event(call, now) | _envelope(location, timestamp, random_id)
        case Dialect.FLAT_UNTYPED:
            return _event(call, now) | {"locationId": location.location_id}
        case Dialect.DATA:
            envelope = _envelope(location, timestamp, random_id)
            return envelope | {"data": _event(call, now) | {"locationId": location.location_id}}
        case Dialect.WORKFLOW:
            return _workflow(call, location, contact, call_id=call.call_id)
        case Dialect.UNRESOLVED:
            return _workflow(call, location, contact, call_id="{{transcript_generated.call_sid}}")
        case Dialect.THIN:
            return {"callId": call.call_id}
        case Dialect.CALL_COMPLETED:
            return _call_completed(call, location)


def _envelope(location: Location, timestamp: str, random_id: uuid.UUID) -> dict[str, Any]:
    return {
        "type": "VoiceAiCallEnd",
        "locationId": location.location_id,
        "versionId": "68b0d2a1f3c9e4a7d5b1c2e3",
        "appId": "68b0d2a1f3c9e4a7d5b1c2e3",
        "timestamp": timestamp,
        "webhookId": str(random_id),
    }


def _event(call: PlacedCall, now: float) -> dict[str, Any]:
    """The event's own fields: the log with `_id` for `actionId`, without `isAgentDeleted`."""
    log = json.loads(call.document(now))
    actions = [
        ({"_id": action["actionId"]} if "actionId" in action else {}) | without(action, "actionId")
        for action in log["executedCallActions"]
    ]
    return without(log, "isAgentDeleted", "agentTransferOccurred") | {"executedCallActions": actions}


def _workflow(call: PlacedCall, location: Location, contact: Contact | None, *, call_id: str) -> dict[str, Any]:
    return (_person(contact) if contact else {"tags": ""}) | {
        "country": "US",
        "contact_type": "lead",
        "location": {"name": "Main office", "city": "", "country": "US", "id": location.location_id},
        "workflow": {"id": "0c1e7d1e-9a55-4f0e-8b8a-1f6f1f0f3a77", "name": "Voice AI call ended"},
        "triggerData": {},
        "contact": {"attributionSource": {}, "lastAttributionSource": {}},
        "attributionSource": {},
        "customData": {"callId": call_id},
    }


def _person(contact: Contact) -> dict[str, Any]:
    return {
        "contact_id": contact.contact_id,
        "first_name": contact.first_name,
        "last_name": contact.last_name,
        "full_name": f"{contact.first_name} {contact.last_name}",
        "email": contact.email,
        "phone": contact.phone,
        "tags": ",".join(contact.tags),
        "date_created": iso_milliseconds(contact.added_at),
    }


def _call_completed(call: PlacedCall, location: Location) -> dict[str, Any]:
    log = json.loads(call.versions[-1][1])
    return {
        "callId": call.call_id,
        "callStatus": "Answered",
        "direction": "inbound",
        "from": log.get("fromNumber", ""),
        "to": "+14155550100",
        "duration": call.duration,
        "contact_id": call.contact_id or "",
        "locationId": location.location_id,
        "messageId": log.get("messageId", ""),
    }


def _needed(secret: str | None) -> str:
    if not secret:
        raise ValueError("this proof needs an intake secret, and the location has none")
    return secret
