"""What a notification says, in every dialect it may be written in, and that nothing written there makes us stumble."""

import dataclasses
import hashlib
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calls.redaction import redact
from models.intake.reasons import Reason, ReceiptStatus
from webhook.notification import MAX_BODY_BYTES, Dialect, Notification, dedupe_key, read_composed, read_signed

CALL = "6a25186f17a921dd841b287b"
LOCATION = "ve9EPM428h8vShlRW1KT"
CONTACT = "ocQHyuzHvysMo5N5VsXc"
DELIVERY = "0f6f1d0e-5b6c-4a53-9a0e-2f9f8f2a7c11"

MARKETPLACE: dict[str, Any] = {
    "type": "VoiceAiCallEnd",
    "locationId": LOCATION,
    "versionId": "68d1a0b2c3",
    "appId": "68d1a0b2c3",
    "id": CALL,
    "agentId": "68a1f00c9b1d4e0012ab34cd",
    "contactId": CONTACT,
    "fromNumber": "+573001234567",
    "createdAt": "2026-03-02T15:04:05.678Z",
    "duration": 187,
    "summary": "Pide cita para el jueves.",
    "transcript": "bot:Buenos días\nhuman:Quiero una cita",
    "translation": {"transcript": "Good morning…", "language": "en"},
    "extractedData": {"name": "Ana"},
    "messageId": "Msg0000000000000001",
    "trialCall": False,
    "executedCallActions": [
        {
            "_id": "68a1f00c9b1d4e0012ab0001",
            "actionType": "CUSTOM_ACTION",
            "actionName": "Order status",
            "actionParameters": {"apiDetails": {"headers": [{"key": "Authorization", "value": "Bearer hidden"}]}},
            "executedAt": "2026-03-02T15:05:00.000Z",
        }
    ],
    "timestamp": "2026-03-02T15:07:20.001Z",
    "webhookId": DELIVERY,
}
WORKFLOW: dict[str, Any] = {
    "contact_id": CONTACT,
    "first_name": "Ana",
    "last_name": "Ríos",
    "full_name": "Ana Ríos",
    "email": "",
    "phone": "+57 300 123 4567",
    "tags": "lead,voice",
    "country": "CO",
    "date_created": "2024-01-01T00:00:00.000Z",
    "contact_type": "lead",
    "location": {"name": "Clínica Sur", "city": "Cali", "id": LOCATION},
    "workflow": {"id": "2f1c6c0e-1d8e-4e9e-9c53-000000000001", "name": "Call ended"},
    "triggerData": {},
    "contact": {"attributionSource": {}, "lastAttributionSource": {}},
    "attributionSource": {},
    "customData": {"callId": CALL, "createdAt": "2026-03-02T10:04:05-05:00"},
}
STARTED_AT = datetime(2026, 3, 2, 15, 4, 5, tzinfo=UTC)


def read_json(document: object) -> Notification:
    """As if Leadway had signed it."""
    return read_signed(json.dumps(document).encode())


def composed(document: object) -> Notification:
    """As if it came with an intake secret."""
    return read_composed(json.dumps(document).encode())


def without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


# Dialects


def test_a_marketplace_event_is_read_whole() -> None:
    raw_body = json.dumps(MARKETPLACE, ensure_ascii=False).encode()
    assert read_signed(raw_body) == Notification(
        hashlib.sha256(raw_body).hexdigest(),
        dialect=Dialect.MARKETPLACE,
        reason=None,
        call_id=CALL,
        location_id=LOCATION,
        contact_id=CONTACT,
        from_number="+573001234567",
        started_at=STARTED_AT.replace(microsecond=678000),
        webhook_id=DELIVERY,
        event_type="VoiceAiCallEnd",
        document=MARKETPLACE,
    )
    assert read_signed(raw_body).status is ReceiptStatus.ACCEPTED


def test_a_marketplace_event_without_a_type_is_known_by_its_shape() -> None:
    notification = read_json(without(MARKETPLACE, "type", "webhookId", "timestamp"))
    assert (notification.dialect, notification.call_id) == (Dialect.MARKETPLACE, CALL)
    assert (notification.event_type, notification.webhook_id) == (None, None)


def test_an_event_within_data_is_read() -> None:
    for key in ("id", "callId"):
        data = {key: CALL, "locationId": LOCATION, "contactId": CONTACT, "callerPhone": "+573001234567"}
        notification = read_json({"type": "VoiceAiCallEnd", "webhookId": DELIVERY, "data": data})
        assert notification.dialect is Dialect.ENVELOPE
        assert (notification.call_id, notification.location_id, notification.contact_id) == (CALL, LOCATION, CONTACT)
        assert (notification.from_number, notification.webhook_id) == ("+573001234567", DELIVERY)
        assert read_json({"data": data}).dialect is Dialect.ENVELOPE


def test_a_workflow_webhook_is_read() -> None:
    notification = composed(WORKFLOW)
    assert notification.dialect is Dialect.WORKFLOW
    assert notification.status is ReceiptStatus.ACCEPTED
    assert (notification.call_id, notification.location_id, notification.contact_id) == (CALL, LOCATION, CONTACT)
    assert notification.from_number == "+573001234567"
    assert notification.started_at == STARTED_AT


@pytest.mark.parametrize("key", ["callId", "call_id"])
def test_a_workflow_body_takes_the_call_id_from_a_field_that_says_call(key: str) -> None:
    assert composed({**without(WORKFLOW, "customData"), key: CALL}).call_id == CALL
    assert composed({**WORKFLOW, "customData": {key: CALL}}).call_id == CALL


@pytest.mark.parametrize("id_of_the_trigger", [CONTACT, "OPPORTUNITY00000001", CALL])
def test_a_workflow_bodys_own_id_is_never_taken_for_the_calls(id_of_the_trigger: str) -> None:
    notification = composed({**without(WORKFLOW, "customData"), "id": id_of_the_trigger})
    assert (notification.call_id, notification.status) == (None, ReceiptStatus.UNRESOLVED)
    assert notification.reason is Reason.CALL_ID_MISSING
    assert composed({**WORKFLOW, "id": "OPPORTUNITY00000001"}).call_id == CALL


def test_a_type_that_says_the_call_ended_outweighs_a_shape_like_a_workflows() -> None:
    notification = read_json({**MARKETPLACE, "contact_id": CONTACT})
    assert (notification.dialect, notification.call_id) == (Dialect.MARKETPLACE, CALL)


def test_a_nested_location_alone_does_not_make_a_body_a_workflows() -> None:
    notification = read_json({"id": CALL, "location": {"id": LOCATION}, "contact": {"id": CONTACT}})
    assert (notification.dialect, notification.call_id) == (Dialect.MARKETPLACE, CALL)
    assert (notification.location_id, notification.contact_id) == (LOCATION, CONTACT)


def test_the_contacts_creation_is_not_taken_for_the_calls_start() -> None:
    notification = composed({**WORKFLOW, "createdAt": "2024-01-01T00:00:00Z", "customData": {"callId": CALL}})
    assert notification.started_at is None


@pytest.mark.parametrize("key", ["callId", "call_id"])
def test_a_call_id_alone_is_enough(key: str) -> None:
    notification = composed({key: CALL})
    assert (notification.dialect, notification.call_id) == (Dialect.THIN, CALL)
    assert (notification.status, notification.location_id) == (ReceiptStatus.ACCEPTED, None)


def test_a_thin_body_may_say_more() -> None:
    notification = composed(
        {
            "callId": CALL,
            "callStatus": "Answered",
            "direction": "inbound",
            "from": "(300) 123-4567",
            "to": "+573000000000",
            "location_id": LOCATION,
            "contactId": CONTACT,
            "date": 1772463845000,
        }
    )
    assert (notification.call_id, notification.location_id, notification.contact_id) == (CALL, LOCATION, CONTACT)
    assert (notification.from_number, notification.started_at) == ("3001234567", STARTED_AT)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"id": "first", "callId": "second"}, "first"),
        ({"callId": "first", "call_id": "second"}, "first"),
        ({"call_id": "first", "data": {"callId": "second"}}, "first"),
        ({"callId": "{{call.id}}", "call_id": "usable"}, "usable"),
        ({"id": 17, "callId": "usable"}, "usable"),
        ({"id": CONTACT, "contactId": CONTACT, "callId": "usable"}, "usable"),
        ({"id": LOCATION, "locationId": LOCATION, "data": {"callId": "usable"}}, "usable"),
        ({"callId": f"  {CALL}\n"}, CALL),
        ({"callId": "CALL_abcdef123456"}, "CALL_abcdef123456"),
        ({"callId": "CA" + "0f" * 16}, "CA" + "0f" * 16),
    ],
)
def test_the_first_usable_call_id_counts(document: dict[str, Any], expected: str) -> None:
    assert read_json(document).call_id == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"id": "other", "callId": "first"}, "first"),
        ({"call_id": "second", "callId": "first"}, "first"),
        ({"call_id": "first", "customData": {"callId": "second"}}, "first"),
        ({"customData": {"call_id": "second", "callId": "first"}}, "first"),
        ({"customData": {"callId": "{{call.id}}", "call_id": "usable"}}, "usable"),
        ({"callId": "{{call.id}}", "customData": {"callId": "usable"}}, "usable"),
        ({"data": {"id": "inner"}, "id": "outer"}, "inner"),
    ],
)
def test_in_a_composed_body_a_name_that_says_call_comes_first(document: dict[str, Any], expected: str) -> None:
    assert composed(document).call_id == expected


def test_what_is_signed_has_the_vendors_own_fields_only() -> None:
    notification = read_json({"customData": {"callId": CALL, "locationId": LOCATION}, "Call ID": CALL})
    assert (notification.call_id, notification.location_id) == (None, None)


@pytest.mark.parametrize(
    "document",
    [
        {"locationId": LOCATION, "location_id": "x", "location": {"id": "y"}},
        {"location_id": LOCATION, "location": {"id": "y"}},
        {"location": {"id": LOCATION}, "data": {"locationId": "z"}},
        {"locationId": "{{location.id}}", "data": {"locationId": LOCATION}},
        {"locationId": 5, "data": {"locationId": LOCATION}},
    ],
)
def test_the_first_usable_location_counts(document: dict[str, Any]) -> None:
    assert read_json(document).location_id == LOCATION


# Ids that are none


@pytest.mark.parametrize(
    "document",
    [
        {"callId": "{{transcript_generated.call_sid}}"},
        {"callId": "call {{ id }}", "call_id": 17, "data": {"callId": ""}},
        {**WORKFLOW, "callId": "{{call.id}}", "call_id": "not / an id", "customData": {}},
        {**MARKETPLACE, "id": "{{call.id}}"},
    ],
)
def test_an_unresolved_merge_tag_leaves_the_notification_unresolved(document: dict[str, Any]) -> None:
    for notification in (read_json(document), composed(document)):
        assert (notification.call_id, notification.reason) == (None, Reason.UNRESOLVED_MERGE_TAG)
        assert notification.status is ReceiptStatus.UNRESOLVED


@pytest.mark.parametrize(
    "value",
    [
        17,
        1.5,
        True,
        [CALL],
        {"id": CALL},
        "x" * 129,
        "../contacts",
        "a/b",
        "a b",
        "a%2Fb",
        "a?b",
        "a.b",
        "a\nb",
        "a\x00b",
        "ñ",
        "\u0661\u0662",
        "the id of the call",
        CONTACT,
        LOCATION,
    ],
)
def test_a_value_that_is_no_id_leaves_the_notification_unresolved(value: object) -> None:
    for document in ({"callId": value}, {"id": value}, {"data": {"callId": value}}):
        notification = read_json({**document, "contactId": CONTACT, "locationId": LOCATION})
        assert (notification.call_id, notification.reason) == (None, Reason.CALL_ID_UNUSABLE)
        assert notification.status is ReceiptStatus.UNRESOLVED
        assert (notification.contact_id, notification.location_id) == (CONTACT, LOCATION)


@pytest.mark.parametrize("value", [None, "", "  ", "null", "undefined", "None"])
def test_a_value_that_says_nothing_counts_as_missing(value: object) -> None:
    notification = read_json({"callId": value, "contactId": value, "locationId": value, "webhookId": value})
    assert notification.reason is Reason.CALL_ID_MISSING
    assert (notification.contact_id, notification.location_id, notification.webhook_id) == (None, None, None)


def test_an_unresolved_notification_keeps_what_the_call_can_be_found_by() -> None:
    custom = {"callId": "{{x}}", "call_sid": "CA" + "0" * 32, "from": "+573001234567", "startTime": "1772463845"}
    notification = composed({**WORKFLOW, "customData": custom})
    assert notification.status is ReceiptStatus.UNRESOLVED
    assert (notification.location_id, notification.contact_id) == (LOCATION, CONTACT)
    assert (notification.from_number, notification.started_at) == ("+573001234567", STARTED_AT)


@pytest.mark.parametrize("number", ["anonymous", "{{contact.phone}}", "", "+", "...", 5, ["1"], "1" * 40, "sip:1@x"])
def test_what_is_no_phone_number_is_not_kept(number: object) -> None:
    assert read_json({"callId": CALL, "from": number}).from_number is None


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-02T15:04:05",
        "yesterday",
        "{{now}}",
        "",
        True,
        -5,
        10**18,
        10**300,
        1.5,
        [],
        "0001-01-01T00:00:00+14:00",
    ],
)
def test_what_names_no_moment_is_not_kept(time: object) -> None:
    assert read_json({"callId": CALL, "createdAt": time}).started_at is None


# Events


@pytest.mark.parametrize(
    "event",
    ["NoteCreate", "ContactTagUpdate", "OpportunityCreate", "InboundMessage", "INSTALL", "voiceaicallend", "x" * 5000],
)
def test_an_event_other_than_a_finished_call_is_ignored(event: str) -> None:
    for document in ({**MARKETPLACE, "type": event}, {"data": {**MARKETPLACE, "type": event}}, {"type": event}):
        notification = read_json(document)
        assert (notification.status, notification.reason) == (ReceiptStatus.IGNORED, Reason.EVENT_TYPE_NOT_WANTED)
        assert notification.event_type == event[:64]


@pytest.mark.parametrize("kind", [None, "", " ", 5, [], {}, "{{type}}"])
def test_a_type_that_names_no_event_counts_as_absent(kind: object) -> None:
    notification = read_json({**MARKETPLACE, "type": kind})
    assert (notification.status, notification.event_type) == (ReceiptStatus.ACCEPTED, None)


# Bodies that cannot be read


@pytest.mark.parametrize(
    ("raw_body", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"callId=" + CALL.encode(), Reason.NOT_JSON),
        (b'{"callId":"x"', Reason.NOT_JSON),
        (b'{"callId":"x"} {}', Reason.NOT_JSON),
        (b"{'callId':'x'}", Reason.NOT_JSON),
        (b"[]", Reason.NOT_AN_OBJECT),
        (b'[{"callId":"x"}]', Reason.NOT_AN_OBJECT),
        (b'"x"', Reason.NOT_AN_OBJECT),
        (b"null", Reason.NOT_AN_OBJECT),
        (b'{"callId":"\xf1"}', Reason.NOT_UTF8),
        ('{"callId":"x"}'.encode("utf-16"), Reason.NOT_UTF8),
        (b"\x1f\x8b\x08\x00", Reason.NOT_UTF8),
        (b'{"callId":"x","callId":"y"}', Reason.DUPLICATE_KEYS),
        (b'{"callId":"x","customData":{"a":1,"\\u0061":2}}', Reason.DUPLICATE_KEYS),
        (b'{"callId":"x","a":' + b"[" * 31 + b"]" * 31 + b"}", None),
        (b'{"callId":"x","a":' + b"[" * 32 + b"]" * 32 + b"}", Reason.TOO_DEEP),
        (b'{"callId":"x","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Reason.TOO_DEEP),
        (b'{"a":' * 40_000, Reason.TOO_DEEP),
        (b'{"callId":"x","a":NaN}', Reason.NUMBER_OUT_OF_RANGE),
        (b'{"callId":"x","a":-Infinity}', Reason.NUMBER_OUT_OF_RANGE),
        (b'{"callId":"x","a":1e999}', Reason.NUMBER_OUT_OF_RANGE),
        (b'{"callId":"x","a":' + b"9" * 308 + b"}", None),
        (b'{"callId":"x","a":' + b"9" * 309 + b"}", Reason.NUMBER_OUT_OF_RANGE),
        (b'{"callId":"x","a":-' + b"9" * 200_000 + b"}", Reason.NUMBER_OUT_OF_RANGE),
        (b'\xef\xbb\xbf{"callId":"x"}', None),
        (b'{"callId":"x","summary":"two\nlines"}', None),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, bytes) else str(value),
)
def test_a_body_that_cannot_be_read_is_ignored_with_the_reason(raw_body: bytes, reason: Reason | None) -> None:
    notification = read_signed(raw_body)
    assert notification.reason is reason
    assert notification.body_digest == hashlib.sha256(raw_body).hexdigest()
    if reason is None:
        assert (notification.status, notification.call_id) == (ReceiptStatus.ACCEPTED, "x")
    else:
        assert (notification.status, notification.call_id, notification.document) == (ReceiptStatus.IGNORED, None, {})


def test_characters_that_a_database_refuses_are_replaced() -> None:
    notification = read_signed(b'{"callId":"x","a\\u0000":["\\ud800","\\ud83d\\ude00","\x00"]}')
    assert notification.document == {"callId": "x", "a\ufffd": ["\ufffd", "😀", "\ufffd"]}


# Telling deliveries apart


def test_a_repeated_delivery_has_the_same_key_and_another_delivery_another() -> None:
    first = read_json(MARKETPLACE)
    assert dedupe_key(first, LOCATION) == dedupe_key(read_json(MARKETPLACE), LOCATION)
    assert dedupe_key(first, LOCATION) != dedupe_key(read_json({**MARKETPLACE, "webhookId": "other"}), LOCATION)
    assert dedupe_key(first, LOCATION) != dedupe_key(first, "OTHER")


def test_without_a_webhook_id_the_call_tells_deliveries_apart_within_one_dialect() -> None:
    key = dedupe_key(read_json({"callId": CALL, "callStatus": "completed"}), LOCATION)
    assert key == dedupe_key(read_json({"callId": CALL, "callStatus": "Answered"}), LOCATION)
    others = [read_json({"callId": "other"}), read_json(WORKFLOW), read_json(without(MARKETPLACE, "webhookId"))]
    assert len({key, *(dedupe_key(other, LOCATION) for other in others)}) == 4


def test_a_webhook_id_that_never_changes_hides_no_second_call() -> None:
    first, second = (read_json({"callId": call_id, "webhookId": "mine"}) for call_id in ("first", "second"))
    assert dedupe_key(first, LOCATION) != dedupe_key(second, LOCATION)


def test_without_any_id_the_body_and_the_account_tell_deliveries_apart() -> None:
    broken = read_signed(b"{")
    assert dedupe_key(broken, LOCATION) == dedupe_key(read_signed(b"{"), LOCATION)
    assert len({dedupe_key(broken, LOCATION), dedupe_key(read_signed(b"["), LOCATION), dedupe_key(broken, None)}) == 3


def test_a_reason_found_later_changes_the_status() -> None:
    notification = dataclasses.replace(read_json(MARKETPLACE), reason=Reason.LOCATION_NOT_SERVED)
    assert notification.status is ReceiptStatus.IGNORED


def test_the_repr_tells_nothing_about_a_person() -> None:
    assert not [word for word in ("3001234567", "Ana", "cita", "hidden") if word in repr(read_json(MARKETPLACE))]


# Anything at all

NAMES = [
    *("id", "callId", "call_id", "locationId", "location_id", "contactId", "contact_id", "webhookId", "type"),
    *("from", "phone", "createdAt", "date", "customData", "data", "location", "contact", "workflow"),
]
VALUES = st.sampled_from([CALL, CONTACT, LOCATION, "{{x}}", "VoiceAiCallEnd", "NoteCreate", "1772463845000"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes().map(str) | VALUES
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(), inner, max_size=8),
    max_leaves=30,
)


def assert_sound(notification: Notification) -> None:
    assert_consistent(notification)
    stored = json.dumps(redact(notification.document, key=b"k"), allow_nan=False, ensure_ascii=False)
    assert b"\x00" not in stored.encode()


def assert_consistent(notification: Notification) -> None:
    ids = (notification.call_id, notification.location_id, notification.contact_id, notification.webhook_id)
    assert all(found is None or re.fullmatch(r"[A-Za-z0-9_-]{1,128}", found) for found in ids)
    assert notification.call_id is None or notification.call_id not in (
        notification.contact_id,
        notification.location_id,
    )
    assert (notification.status is ReceiptStatus.ACCEPTED) == (notification.reason is None)
    assert notification.reason is None or notification.reason.http_status == 202
    assert notification.call_id or notification.reason
    assert notification.started_at is None or notification.started_at.tzinfo is UTC
    assert len(dedupe_key(notification, "x" * 128)) < 500


@pytest.mark.parametrize(
    "raw_body",
    [
        b'{"body": "eyJjYWxsSWQiO"}',
        b'{"callId": "&#' + b"9" * 9000 + b'"}',
        b"{&quot;callId&quot;: &quot;&#" + b"9" * 9000,
        b'{"body": "callId=\\ud800"}',
        b"callId=%ud800&%",
    ],
    ids=lambda raw_body: repr(raw_body[:30]),
)
def test_decoders_that_could_stumble_do_not(raw_body: bytes) -> None:
    assert_sound(read_composed(raw_body, query=raw_body.decode()))


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_without_an_exception(raw_body: bytes) -> None:
    assert_sound(read_signed(raw_body))
    assert_sound(read_composed(raw_body, query=raw_body.decode("latin-1")))


@settings(deadline=None)
@given(JSON | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=10))
def test_any_json_is_read_without_an_exception(document: object) -> None:
    assert_sound(read_json(document))
    assert_sound(composed(document))


@settings(deadline=None)
@given(st.text(alphabet='{}[]",:\\u0d8eE+-19.NaItrufls \n\x00', max_size=200).map(lambda text: '{"callId":' + text))
def test_anything_that_looks_like_json_is_read_without_an_exception(text: str) -> None:
    assert_sound(read_signed(text.encode()))
    assert_sound(read_composed(text.encode()))


NASTY = [
    *(
        "{",
        "}",
        "[",
        "]",
        '"',
        "\\",
        ",",
        ":",
        "=",
        "&",
        ";",
        "<",
        ">",
        "-",
        "--x\n",
        "\n\n",
        " ",
        "\t",
        "\u200b",
        "%7b",
        "%",
    ),
    *(
        "callId",
        '"call id":',
        '"callId":"',
        "callId=",
        "{{",
        "contactId",
        '{"body":"',
        '{"a":',
        '"a.b.c.d":',
        'name="x"',
    ),
    *("0", "9", "e", "x", "ñ", "\ud800", "\x00", "voice ai call", "+", "data[", "__", "&#", "&quot;", "<p", "eyJ"),
]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(NASTY), max_size=4).map("".join),
    st.lists(st.sampled_from(NASTY), min_size=1, max_size=4).map("".join),
    st.sampled_from(["", "application/x-www-form-urlencoded", "text/plain; charset=latin-1"]),
)
def test_the_largest_body_takes_linear_time(begin: str, repeated: str, content_type: str) -> None:
    """More than linear time on this many bytes would be minutes: the time limit of every test ends it."""
    body = (begin + repeated * MAX_BODY_BYTES).encode("utf-8", "surrogatepass")[:MAX_BODY_BYTES]
    assert_consistent(read_composed(body, content_type=content_type))
    assert_consistent(read_signed(body))
