"""The endpoints that receive call-completed notifications: each is authenticated, committed, then answered.

The answer depends on receipt only, never on later processing, and is decided within a second. What cannot be written
down by then is answered 429, which every sender repeats.
"""

import json
import logging
import time
from dataclasses import dataclass, replace
from functools import cache
from uuid import uuid4

import structlog
from flask import Blueprint, Response, current_app, request
from prometheus_client import Counter

from models.calls.redaction import redact
from models.intake.notifications import Arrival, NotificationStatus
from models.intake.reasons import RETRY_AFTER_SECONDS, Reason, ReceiptStatus
from webhook import authentication, notification
from webhook.authentication import Headers, NotAuthenticated, Proof, PublicKeys
from webhook.inbox_writer import CannotWriteDown, InboxWriter
from webhook.known_accounts import KnownAccounts, Undecided
from webhook.notification import MAX_BODY_BYTES, Notification
from webhook.rejection_counter import RejectionCounter
from workers.telemetry import metrics

log = structlog.get_logger(__name__)
_LOGGER = logging.getLogger(__name__)

EXTENSION = "leadway_receiver"

blueprint = Blueprint("receiver", __name__)


class NotificationRefused(Exception):
    """The notification is rejected, for `reason`; nothing of it is stored."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True)
class Receiver:
    """What the endpoints need; one per process."""

    keys: PublicKeys
    redaction_key: bytes
    known: KnownAccounts
    writer: InboxWriter
    rejection_counter: RejectionCounter


@blueprint.post("/webhooks/leadway", strict_slashes=False)
def receive() -> Response:
    return _answer(intake_secret=None)


@blueprint.post("/webhooks/leadway/<intake_secret>", strict_slashes=False)
def receive_by_path(intake_secret: str) -> Response:
    return _answer(intake_secret=intake_secret)


@dataclass(frozen=True)
class Receipt:
    """What became of a notification."""

    status: ReceiptStatus
    reason: Reason | None
    """None: accepted or duplicate."""
    method: str = "none"
    is_kept: bool = False
    """Whether a row was written; else it is counted."""


def _answer(*, intake_secret: str | None) -> Response:
    started = time.monotonic()
    this: Receiver = current_app.extensions[EXTENSION]
    try:
        receipt = _receipt(this, intake_secret)
    except NotificationRefused as refused:
        receipt = Receipt(ReceiptStatus.REFUSED, refused.reason)
    if receipt.reason is not None and not receipt.is_kept:
        this.rejection_counter.count(receipt.reason, headers=request.headers, size=request.content_length)
    _notifications(receipt.status, receipt.method).inc()
    if receipt.reason is not None:
        metrics.REJECTIONS.labels(receipt.reason).inc()
    metrics.RECEIPT_SECONDS.observe(time.monotonic() - started)
    return _as_response(receipt.status, receipt.reason)


def _receipt(this: Receiver, intake_secret: str | None) -> Receipt:
    """Raises NotificationRefused."""
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise NotificationRefused(Reason.TOO_LARGE)
    raw_body = request.get_data(cache=False)
    if len(raw_body) > MAX_BODY_BYTES:
        raise NotificationRefused(Reason.TOO_LARGE)
    query = request.query_string.decode("ascii", "replace")
    try:
        return receive_body(this, raw_body, request.headers, intake_secret=intake_secret, query=query)
    except NotAuthenticated as refused:
        raise NotificationRefused(refused.reason) from None
    except Undecided:
        raise NotificationRefused(Reason.CANNOT_LOOK_UP) from None
    except CannotWriteDown:
        raise NotificationRefused(Reason.CANNOT_WRITE_DOWN) from None


def receive_body(
    this: Receiver, raw_body: bytes, headers: Headers, *, intake_secret: str | None, query: str
) -> Receipt:
    """Authenticates a notification, reads it, and commits one row of the inbox, which `workers.take_in` takes in.

    What Leadway signs for others is only counted: one key signs for all of its customers, so anybody's events may come
    here (docs/decisions/0074). Raises NotAuthenticated, NotificationRefused, Undecided, CannotWriteDown.
    """
    proof = authentication.verify(
        raw_body,
        headers,
        path_secret=intake_secret,
        keys=this.keys,
        account_for_secret=this.known.location_for_secret,
    )
    if proof.is_signature:
        read = notification.read_signed(raw_body)
    else:
        content_type = headers.get("Content-Type") or ""
        read = notification.read_composed(raw_body, content_type=content_type, query=query, account=proof.location_id)
    if proof.location_id is not None and read.location_id not in (None, proof.location_id):
        raise NotificationRefused(Reason.WRONG_ACCOUNT)
    arrival = _arrival(this, read, proof)
    receipt = _written_down(this, arrival, is_signed=proof.is_signature)
    if _LOGGER.isEnabledFor(logging.INFO):  # else structlog would find that out for 60 µs
        _log_receipt(receipt, arrival, read, proof)
    return receipt


def _log_receipt(receipt: Receipt, arrival: Arrival, read: Notification, proof: Proof) -> None:
    log.info(
        "notification_received", status=str(receipt.status), reason=receipt.reason and str(receipt.reason),
        location_id=arrival.location_id, call_id=read.call_id, dialect=str(read.dialect),
        authenticated_by=str(proof.method),
    )  # fmt: skip


def _written_down(this: Receiver, arrival: Arrival, *, is_signed: bool) -> Receipt:
    is_ignored = arrival.status is NotificationStatus.IGNORED
    if is_ignored and (is_signed or arrival.reason == Reason.EVENT_TYPE_NOT_WANTED):
        return Receipt(*_status(arrival, is_served=False, is_repeat=False), arrival.authenticated_by)
    is_served, is_repeat = _is_served(this, arrival), False
    is_kept = is_served or not is_signed
    if is_kept:
        is_repeat = this.writer.write_down(arrival)
    return Receipt(*_status(arrival, is_served=is_served, is_repeat=is_repeat), arrival.authenticated_by, is_kept)


def _is_served(this: Receiver, arrival: Arrival) -> bool:
    """Also when nobody can tell now: `workers.take_in` decides."""
    try:
        return arrival.location_id is not None and this.known.is_served(arrival.location_id)
    except Undecided:
        return True


def _arrival(this: Receiver, read: Notification, proof: Proof) -> Arrival:
    """What is written down, by the body and its proof alone. What is ignored leaves no document."""
    location_id = proof.location_id or read.location_id
    if location_id is None and read.status is not ReceiptStatus.IGNORED:
        read = replace(read, reason=Reason.LOCATION_MISSING)
    kept = None if read.status is ReceiptStatus.IGNORED else redact(read.document, key=this.redaction_key)
    return Arrival(
        arrival_id=str(uuid4()),
        dedupe_key=notification.dedupe_key(read, location_id),
        dialect=read.dialect,
        authenticated_by=proof.method,
        status=NotificationStatus(read.status),
        reason=read.reason,
        location_id=location_id,
        call_id=read.call_id if read.status is ReceiptStatus.ACCEPTED else None,
        contact_id=read.contact_id,
        from_number=read.from_number,
        started_at=read.started_at,
        webhook_id=read.webhook_id,
        event_type=read.event_type,
        document=kept or None,
    )


def _status(arrival: Arrival, *, is_served: bool, is_repeat: bool) -> tuple[ReceiptStatus, Reason | None]:
    """What the sender is told: the best that is known without a lock. `workers.take_in` decides."""
    if arrival.status is not NotificationStatus.IGNORED and not is_served:
        return ReceiptStatus.IGNORED, Reason.LOCATION_NOT_SERVED  # a signature only proves that Leadway sent it
    if arrival.status is NotificationStatus.ACCEPTED and is_repeat:
        return ReceiptStatus.DUPLICATE, None
    return ReceiptStatus(arrival.status), None if arrival.reason is None else Reason(arrival.reason)


def _as_response(status: ReceiptStatus, reason: Reason | None) -> Response:
    http_status = 202 if reason is None else reason.http_status
    response = Response(_body(status, reason), http_status, content_type="application/json")
    if http_status == 429:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


@cache
def _body(status: ReceiptStatus, reason: Reason | None) -> bytes:
    body = {"status": status.value}
    if reason is not None:
        body |= {"reason": reason.value, "detail": reason.sentence}
    return json.dumps(body).encode()


@cache
def _notifications(status: ReceiptStatus, method: str) -> Counter:
    """The counter with these labels: to look it up costs more than to count."""
    return metrics.NOTIFICATIONS.labels(status, method)
