"""With an intake secret a readable call id decides, however the body that names it was written, wrapped or encoded."""

import base64
import json
from collections.abc import Iterator
from urllib.parse import quote, urlencode

import pytest

from models.intake.reasons import Reason
from tests.webhook.conftest import PATH, Intake

CALL = "5f0c2b9d81a44e37bd60c9aa"
CONTACT = "hT3kQmZpWc81LxVbNd0s"

FORM = "application/x-www-form-urlencoded"
MULTIPART = (
    b'--xYzZy\r\nContent-Disposition: form-data; name="customData[Call Id]"\r\n\r\n' + CALL.encode() + b"\r\n"
    b'--xYzZy\r\nContent-Disposition: form-data; name="contact_id"\r\n\r\n' + CONTACT.encode() + b"\r\n--xYzZy--\r\n"
)
THIN = json.dumps({"callId": CALL, "contactId": CONTACT})
N8N = {"headers": {"host": "flows.example.com"}, "params": {}, "query": {}, "body": {"call_id": CALL}}

ACCEPTED: dict[str, tuple[bytes, str]] = {
    "a type of its own": (json.dumps({"type": "call_ended", "callId": CALL}).encode(), "application/json"),
    "the type of another event": (json.dumps({"type": "ContactCreate", "call_id": CALL}).encode(), "application/json"),
    "a form": (urlencode({"callId": CALL, "contact_id": CONTACT}).encode(), FORM),
    "a form with nested names": (f"customData%5BcallId%5D={CALL}&contact%5Bid%5D={CONTACT}".encode(), FORM),
    "a form that is called JSON": (urlencode({"Call ID": CALL}).encode(), "application/json"),
    "JSON that is called a form": (THIN.encode(), FORM),
    "JSON in a field of a form": (urlencode({"payload": THIN}).encode(), FORM),
    "JSON, percent-encoded": (quote(THIN).encode(), FORM),
    "a multipart form": (MULTIPART, "multipart/form-data; boundary=xYzZy"),
    "JSON twice": (json.dumps(THIN).encode(), "application/json"),
    "JSON three times": (json.dumps(json.dumps(THIN)).encode(), "application/json"),
    "a list of one": (f"[{THIN}]".encode(), "application/json"),
    "a list of one within a list": (f"[[{THIN}]]".encode(), "application/json"),
    "n8n": (json.dumps(N8N).encode(), "application/json"),
    "n8n, as a list": (json.dumps([N8N]).encode(), "application/json"),
    "the body as JSON text": (json.dumps({"headers": {}, "body": THIN}).encode(), "application/json"),
    "the body as a form's text": (json.dumps({"body": f"call_id={CALL}&x=1"}).encode(), "application/json"),
    "payload": (json.dumps({"event": "done", "payload": {"callId": CALL}}).encode(), "application/json"),
    "data within event": (json.dumps({"event": {"data": {"callId": CALL}}}).encode(), "application/json"),
    "a wrapper of any name": (json.dumps({"bundle": {"cleaned": {"callId": CALL}}}).encode(), "application/json"),
    "the call as an object": (json.dumps({"id": "evt_1", "call": {"id": CALL}}).encode(), "application/json"),
    "names joined by dots": (json.dumps({"body.customData.callId": CALL}).encode(), "application/json"),
    "names joined by underscores": (json.dumps({"data__Call ID": CALL}).encode(), "application/json"),
    "pairs of key and value": (
        json.dumps({"customData": [{"key": "callId", "value": CALL}]}).encode(), "application/json",
    ),
    "a list of one value": (json.dumps({"callId": [CALL]}).encode(), "application/json"),
    "a byte order mark": (b"\xef\xbb\xbf" + THIN.encode(), "application/json"),
    "UTF-16 with a mark": (THIN.encode("utf-16"), "application/json; charset=utf-16"),
    "UTF-16 without": (THIN.encode("utf-16-le"), "application/json"),
    "a form in UTF-16": (f"callId={CALL}".encode("utf-16-be"), FORM),
    "the charset of the header": (
        json.dumps({"callId": CALL, "name": "Peña"}, ensure_ascii=False).encode("windows-1252"),
        "application/json; charset=windows-1252",
    ),
    "no UTF-8, and no charset": (b'{"callId": "' + CALL.encode() + b'", "name": "Pe\xf1a"}', "application/json"),
    "a charset that nobody knows": (THIN.encode(), 'application/json; charset="x-none"'),
    "a form in lines": (f"contact_id={CONTACT}\r\ncallId={CALL}\r\n".encode(), "text/plain"),
    "a multipart form without quotes": (MULTIPART.replace(b'"customData[Call Id]"', b"callId"), "multipart/form-data"),
    "JSON in base64": (
        json.dumps({"isBase64Encoded": True, "body": base64.b64encode(THIN.encode()).decode()}).encode(),
        "application/json",
    ),
    "JSON in HTML's characters": (THIN.replace('"', "&quot;").encode(), "application/json"),
    "a value in HTML": (json.dumps({"callId": f"<p>{CALL}&nbsp;</p>"}).encode(), "application/json"),
    "a missing comma": (f'{{"contactId": "{CONTACT}" "callId": "{CALL}"}}'.encode(), "application/json"),
    "UTF-16 with half a character": (THIN.encode("utf-16") + b"\n", "application/json"),
    "a number without an end": (f'{{"callId": "{CALL}", "duration": NaN, "x": 1e999}}'.encode(), "application/json"),
    "a name that comes twice": (f'{{"callId": "{CALL}", "tag": 1, "tag": 2}}'.encode(), "application/json"),
    "the same id twice": (f'{{"callId": "{CALL}", "callId": "{CALL}"}}'.encode(), "application/json"),
    "too deep": (f'{{"callId": "{CALL}", "x": {"[" * 9000}{"]" * 9000}}}'.encode(), "application/json"),
    "quotes that a merge tag brought": (
        f'{{"callId":"{CALL}","summary":"the "best" dentist"}}'.encode(), "application/json",
    ),
    "quotes before the id": (
        f'{{"transcript":"bot:say "hi"\nhuman:"hi"", "Call ID" : "{CALL}"}}'.encode(), "application/json",
    ),
    "broken JSON in a wrapper": (
        json.dumps({"headers": {}, "body": f'{{"callId":"{CALL}","summary":"the "best""}}'}).encode(),
        "application/json",
    ),
    "broken JSON twice": (json.dumps(f'{{"callId":"{CALL}","summary":"the "best""}}').encode(), "application/json"),
    "broken JSON in a form": (urlencode({"payload": f'{{"summary":"the "best"", "callId":"{CALL}"}}'}).encode(), FORM),
    "JSON twice, with quotes of its own": (
        f'"{{\\"summary\\":\\"the "best"\\",\\"callId\\":\\"{CALL}\\"}}"'.encode(), "application/json",
    ),
    "an id without quotes": (f'{{"contactId": "{CONTACT}", "callId": {CALL}}}'.encode(), "application/json"),
    "single quotes": (f"{{'callId': '{CALL}'}}".encode(), "application/json"),
    "a comma too many": (f'{{"callId": "{CALL}",}}'.encode(), "application/json"),
    "no end": (f'{{"callId": "{CALL}", "transcript": "bot:Hel'.encode(), "application/json"),
    "lines": (f"Contact ID: {CONTACT}\nCall ID: {CALL}\n".encode(), "text/plain"),
    "XML": (f"<call><contactId>{CONTACT}</contactId><callId>{CALL}</callId></call>".encode(), "text/xml"),
}  # fmt: skip

INVISIBLE = ["\u200b", "\ufeff", "\u00a0", "\u200e", "\u2060", "\u00ad", "\u202a", "\ufe0f", "\t", "\u2028"]
NAMES = ["Call ID", "call-id", "CALLID", "Call_Id ", "callid", "CallId", "call id:", "\ufeffcallId", "call\u00a0id",
         "Voice AI Call ID", "call_log_id", "CALL\u200bID", "call.id"]  # fmt: skip


@pytest.fixture
def intake(sqlite_url: str, redis_url: str) -> Iterator[Intake]:
    with Intake(sqlite_url, redis_url) as intake:
        yield intake


def assert_accepted(intake: Intake, body: bytes, content_type: str = "application/json", *, path: str = PATH) -> None:
    answer = intake.send(body, {**intake.secret, "Content-Type": content_type}, path=path)
    assert (answer.status_code, answer.json) == (202, {"status": "accepted"})
    assert intake.only_row("inbox")["call_id"] == CALL


@pytest.mark.parametrize("how", ACCEPTED)
def test_a_call_id_is_read_however_the_body_was_written(intake: Intake, how: str) -> None:
    assert_accepted(intake, *ACCEPTED[how])


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_call_id_is_read_whatever_the_spelling_of_its_name(intake: Intake, name: str) -> None:
    assert_accepted(intake, json.dumps({name: CALL}).encode())


@pytest.mark.parametrize("character", INVISIBLE, ids=ascii)
def test_characters_that_nobody_sees_are_no_part_of_an_id(intake: Intake, character: str) -> None:
    value = character + CALL[:7] + (character if character > "\u007f" else "") + CALL[7:] + character
    assert_accepted(intake, json.dumps({"callId": value}, ensure_ascii=False).encode())


@pytest.mark.parametrize("name", ["call_id", "callId", "Call%20ID", "data[callId]"])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"callId": "{{call.id}}"}', b"nothing", b"[]"])
def test_a_call_id_may_stand_in_the_query(intake: Intake, body: bytes, name: str) -> None:
    assert_accepted(intake, body, path=f"{PATH}?source=workflow&{name}={CALL}")


def test_the_body_outweighs_the_query(intake: Intake) -> None:
    assert_accepted(intake, THIN.encode(), path=f"{PATH}?callId=another0000001")


def test_the_contact_is_read_wherever_the_call_id_may_stand(intake: Intake) -> None:
    for how in ("a form", "a form with nested names", "a multipart form", "JSON twice", "a list of one", "lines"):
        body, content_type = ACCEPTED[how]
        intake.send(body, {**intake.secret, "Content-Type": content_type})
    assert [row["contact_id"] for row in intake.rows("inbox")] == [CONTACT] * 6


@pytest.mark.parametrize("contact", [{"contactId": CONTACT}, {"contact": {"id": CONTACT}}, {"Contact ID": CONTACT}])
def test_the_contact_is_read_in_a_wrapper_of_any_name(intake: Intake, contact: dict[str, object]) -> None:
    intake.send(json.dumps({"run": {"step": contact}}).encode())
    assert intake.only_row("inbox")["contact_id"] == CONTACT


@pytest.mark.parametrize("body", [b"{}", b'{"webhookId": "always-the-same"}'])
def test_contacts_that_the_query_names_are_no_repeats_of_each_other(intake: Intake, body: bytes) -> None:
    for contact_id in ("contact-1", "contact-2"):
        intake.send(body, path=f"{PATH}?contact_id={contact_id}")
    assert len({row["dedupe_key"] for row in intake.rows("inbox")}) == 2


def test_a_webhook_id_that_never_changes_makes_no_contact_a_repeat_of_another(intake: Intake) -> None:
    for contact_id in ("contact-1", "contact-2"):
        intake.send(json.dumps({"webhookId": "always-the-same", "contactId": contact_id}).encode())
    assert len({row["dedupe_key"] for row in intake.rows("inbox")}) == 2


@pytest.mark.parametrize(
    ("body", "query"),
    [(b"", f"?contact_id={CONTACT}"), (b"[]", f"?contact_id={CONTACT}"), (f"Contact ID: {CONTACT}".encode(), "")],
)
def test_the_contact_alone_is_enough_in_whatever_form(intake: Intake, body: bytes, query: str) -> None:
    assert intake.send(body, path=PATH + query).get_json()["status"] == "unresolved"
    assert intake.only_row("inbox")["contact_id"] == CONTACT


NEVER_A_CALL = {
    "a contact": {"id": CONTACT, "firstName": "Ana", "phone": "+14155550100"},
    "a contact, forwarded": {"body": {"id": CONTACT, "email": "ana@example.com"}},
    "a contact, by its type": {"type": "contact", "id": CONTACT},
    "a contact of a workflow": {"contact_id": CONTACT, "id": CALL},
    "a contact under a call's name": {"callId": CONTACT, "contact": {"id": CONTACT}},
    "a message": {"id": CALL, "messageType": "TYPE_CALL", "conversationId": "conv-1"},
    "a message under a call's name": {"callId": CALL, "messageId": CALL},
    "a workflow": {"workflow": {"id": CALL, "name": "Call ended"}, "contactId": CONTACT},
    "a workflow under a call's name": {"Call ID": CALL, "workflow": {"id": CALL}},
    "an envelope's own id": {"id": CALL, "type": "call.completed", "data": {"object": {"status": "completed"}}},
    "a placeholder": {"callId": "<call_id>"},
    "an event's own id": {"id": CALL, "event": {"name": "done"}, "type": "webhook.sent"},
    "another call": {"previousCall": {"callId": CALL}, "contactId": CONTACT},
    "the telephone company's": {"call_sid": "CA" + "0f" * 16, "transcript_generated": {"call_sid": CALL}},
    "an action's": {"executedCallActions": [{"callId": CALL}]},
}


@pytest.mark.parametrize("what", NEVER_A_CALL)
def test_the_id_of_something_else_is_never_taken_for_a_calls(intake: Intake, what: str) -> None:
    answer = intake.send(json.dumps(NEVER_A_CALL[what]).encode())
    assert answer.get_json()["status"] == "unresolved"
    assert intake.only_row("inbox")["call_id"] is None


def test_the_locations_id_is_never_taken_for_a_calls(intake: Intake) -> None:
    location = intake.double.location_id
    for body in ({"callId": location}, {"id": location, "location": {"id": location}}, {"x": 1, "call_id": location}):
        intake.send(json.dumps(body).encode())
    assert [row["call_id"] for row in intake.rows("inbox")] == [None, None, None]


def test_a_type_of_ones_own_that_says_call_is_no_event_of_something_else(intake: Intake) -> None:
    intake.send(json.dumps({"type": "CallStatus", "contactId": CONTACT}).encode())
    assert intake.only_row("inbox")["status"] == "unresolved"


UNRESOLVED: dict[Reason, list[bytes]] = {
    Reason.UNRESOLVED_MERGE_TAG: [
        b'{"Call ID": "{{call.id}}"}', b'[{"body": {"call_id": "{{call.id}}"}}]', b"callId=%7B%7Bcall.id%7D%7D",
        b'{"contactId": "c-12345", "callId": {{call.id}}}',
    ],
    Reason.SEVERAL_CALL_IDS: [
        b'[{"callId": "call-1"}, {"callId": "call-2"}]', b'{"callId": "call-1", "callId": "call-2"}',
        b'callId=call-1&callId=call-2', b'{"callId":"call-1","x":"a "b"","callId":"call-2"}',
    ],
    Reason.BROKEN_JSON: [
        b'{"body": "{\\"contactId\\": \\"c-12345\\""}', b'"{"contactId": "c-12345"}"',
        b'{"contactId": "c-12345", "summary": "she said "yes" twice"}', b'{"contactId": "c-12345"',
        b"[{'contactId': 'c-12345'}]",
    ],
    Reason.CALL_ID_UNUSABLE: [b'{"callId": 17}', b"callId=the+id+of+the+call", b'{"call": {"id": "a/b"}}'],
}  # fmt: skip


@pytest.mark.parametrize(("reason", "body"), [(reason, body) for reason in UNRESOLVED for body in UNRESOLVED[reason]])
def test_without_a_usable_call_id_the_reason_fits_the_case(intake: Intake, reason: Reason, body: bytes) -> None:
    answer = intake.send(body)
    assert answer.json == {"status": "unresolved", "reason": reason.value, "detail": reason.sentence}


def test_the_contact_is_found_in_broken_json_too(intake: Intake) -> None:
    intake.send(UNRESOLVED[Reason.BROKEN_JSON][0])
    assert intake.only_row("inbox")["contact_id"] == "c-12345"


def test_broken_json_and_a_wrong_content_type_get_different_advice() -> None:
    assert "escape" in Reason.BROKEN_JSON.sentence
    assert "content type" not in Reason.BROKEN_JSON.sentence
    assert "content type" in Reason.NOT_JSON.sentence


@pytest.mark.parametrize(
    "body", [{"body": {"callId": CALL, "locationId": "loc-b"}}, {"callId": CALL, "Location ID": "loc-b"}]
)
def test_a_body_in_a_wrapper_that_names_another_account_is_refused(intake: Intake, body: object) -> None:
    answer = intake.send(json.dumps(body).encode())
    assert (answer.status_code, answer.get_json()["reason"]) == (401, "wrong_account")


def test_what_a_forwarder_tells_of_its_own_request_is_not_written_down(intake: Intake) -> None:
    secret = intake.double.intake_secret
    request = {
        "headers": {"x-intake-secret": secret},
        "webhookUrl": f"https://flows.example.com/{secret}",
        "body": {"callId": CALL},
    }
    assert_accepted(intake, json.dumps(request).encode())
    assert secret not in json.dumps(intake.rows("inbox"), default=str)
    intake.send(json.dumps({"request": {**request, "body": {"call_id": CALL + "2"}}}).encode())
    assert secret not in json.dumps(intake.rows("inbox"), default=str)


@pytest.mark.parametrize("body", [ACCEPTED[how][0] for how in ("a form", "JSON twice", "a list of one", "n8n", "XML")])
def test_a_signature_counts_for_the_vendors_own_shapes_only(intake: Intake, body: bytes) -> None:
    assert intake.send_signed(body).get_json()["status"] == "ignored"
    assert intake.rows("inbox") == []
