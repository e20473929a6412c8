"""What redaction takes out of a document, and what it leaves alone."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calls.redaction import redact, storable_text

KEY = b"a key for tests"
SECRET = "sk-live-4242"


def custom_action(**api_details: Any) -> dict[str, Any]:
    return {"_id": "a1", "actionType": "CUSTOM_ACTION", "actionParameters": {"apiDetails": api_details}}


def details_of(document: Any) -> Any:
    return document["actionParameters"]["apiDetails"]


@pytest.mark.parametrize(
    "details",
    [
        {"authenticationValue": SECRET},
        {"headers": [{"key": "X-Custom", "value": SECRET}]},
        {"headers": [{"name": "Authorization", "value": SECRET, "example": SECRET}]},
        {"headers": {"X-Anything": SECRET}},
        {"headers": [f"X-Anything: {SECRET}"]},
        {"headers": f"X-Anything: {SECRET}"},
        {"parameters": [{"name": "api_key", "value": SECRET}]},
        {"parameters": [{"name": "apiKey", "type": "string", "example": SECRET}]},
        {"body": {"deep": [{"down": {"client_secret": SECRET}}]}},
        {"body": {"password": {"value": [SECRET]}}},
        {"body": json.dumps({"token": SECRET})},
        {"body": '{"token": "' + SECRET},
        {"url": f"https://user:{SECRET}@api.example.com/orders"},
        {"url": f"https://api.example.com/orders?a=1&access_token={SECRET}#x"},
        {"url": f"https://api.example.com/orders?%74oken={SECRET}"},
        {"url": f"api.example.com/orders?key={SECRET}"},
        {"note": f"send Bearer {SECRET}-with-some-length"},
        {"pin": {"secret": 4242}, "url": "https://x/?sig=sk-live-4242"},
    ],
)
def test_a_secret_in_a_custom_actions_parameters_is_replaced_wherever_it_stands(details: dict[str, Any]) -> None:
    redacted = json.dumps(redact(custom_action(**details), key=KEY))
    assert "4242" not in redacted
    assert "[redacted:" in redacted


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: {"data": a}, lambda a: {"customData": {"call": a}}])
def test_every_dialect_of_the_document_is_covered(wrap: Any) -> None:
    action = custom_action(authenticationValue=SECRET)
    assert SECRET not in json.dumps(redact(wrap({"executedCallActions": [action]}), key=KEY))
    assert SECRET not in json.dumps(redact(wrap({"executedCallActions": json.dumps([action])}), key=KEY))


def test_the_fingerprint_tells_same_from_changed_and_depends_on_the_key() -> None:
    first, again, other = (
        details_of(redact(custom_action(authenticationValue=value), key=KEY)) for value in (SECRET, SECRET, "other")
    )
    assert first == again != other
    assert first != details_of(redact(custom_action(authenticationValue=SECRET), key=b"another key"))


def test_what_is_harmless_stays_as_it_is() -> None:
    document = {
        "id": "c1",
        "transcript": "bot: your password? token=abc https://u:p@h/?token=1 Bearer abcdefghijklmnop1",
        "summary": "authorization: none",
        "extractedData": {"token": "seven", "password": "eight"},
        "executedCallActions": [
            {
                "actionType": "CUSTOM_ACTION",
                "actionName": "Token",
                "actionParameters": {
                    "triggerPrompt": "When caller provides the basic order number: {{order}}",
                    "apiDetails": {
                        "url": "https://api.example.com/orders?id=7",
                        "method": "GET",
                        "authenticationRequired": True,
                        "authenticationValue": "",
                        "headers": [{"key": "Content-Type", "value": "application/json"}],
                        "parameters": [{"name": "orderId", "description": "…", "type": "string", "example": "ORD-1"}],
                    },
                    "responsePathsToExtract": ["data.orderId", "status"],
                },
            },
            {"actionType": "CALL_TRANSFER", "actionParameters": {"transferToValue": "+12345678901"}},
        ],
        "customData": {"transcript": '[bot] is your password "seven": yes?', "call_id": "c1"},
        "duration": 18.5,
        "translation": None,
    }
    copy = redact(document, key=KEY)
    assert copy == document
    assert copy is not document
    assert copy["executedCallActions"] is not document["executedCallActions"]


def test_what_a_database_cannot_hold_is_replaced_or_null() -> None:
    assert storable_text("a\x00b\ud800c\U0001f600") == "a\ufffdb\ufffdc\U0001f600"
    document = {"k\x00": "v\x00", "nan": float("nan"), "inf": [float("-inf")], "huge": 10**5000, "ok": 2**63}
    assert redact(document, key=KEY) == {"k\ufffd": "v\ufffd", "nan": None, "inf": [None], "huge": None, "ok": 2**63}


@pytest.mark.parametrize("nul", ["\x00", "\ud800"])
@pytest.mark.parametrize(
    "text",
    [
        "Bearer abcdefgh|ijklmnop1",
        "Bearer abcdefghijklmnop1|qrstuvwxyz",
        "Bea|rer abcdefghijklmnop1",
        "Bearer| abcdefghijklmnop1",
        "Bearer |abcdefghijklmnop1",
        "x|basic abcdefghijklmnop1",
        '|{"token": "abcdefghijklmnop1"}',
        '{"to|ken": "abcdefghijklmnop1"}',
    ],
)
def test_a_credential_is_found_wherever_a_nul_stands_in_it(text: str, nul: str) -> None:
    redacted = redact({"actionParameters": {"note": text.replace("|", nul)}}, key=KEY)
    stored = redacted["actionParameters"]["note"]
    assert "[redacted:" in stored
    assert not any(part in stored for part in ("abcdefgh", "ijklmnop1", "qrstuvwxyz"))
    assert redact(redacted, key=KEY) == redacted


def test_nesting_without_end_is_cut_and_hides_nothing() -> None:
    document: Any = SECRET
    for _ in range(50_000):
        document = {"actionParameters": [document]}
    assert SECRET not in json.dumps(redact(document, key=KEY))


names = st.sampled_from(
    ["actionParameters", "headers", "name", "key", "value", "token", "url", "customData", "apiDetails", "a"]
)
urls = st.from_regex(
    r"(https?://)?([a-z0-9:@]{0,6}@)?h/?[?&;#a-z=:/@ \[\]]{0,12}(token=[a-z0-9@\]\[]{0,9})?", fullmatch=True
)
texts = st.one_of(st.text(), urls, st.sampled_from(['{"token": "x"}', "[{", "Basic abcdefghijklmnop12", "[redacted:0"]))
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), texts, st.text(st.characters()))
documents = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.one_of(names, st.text()), inner)),
    max_leaves=25,
)


@given(documents)
def test_any_document_is_redacted_without_error_once_and_for_all(document: Any) -> None:
    once = redact({"actionParameters": document, "other": document}, key=KEY)
    assert redact(once, key=KEY) == once
    text = json.dumps(once, allow_nan=False, ensure_ascii=False)
    assert "\x00" not in text
    text.encode()


@given(st.text(min_size=1))
def test_a_secret_of_any_spelling_never_survives(secret: str) -> None:
    redacted = details_of(redact(custom_action(authenticationValue=secret), key=KEY))["authenticationValue"]
    assert redacted == "" or not redacted.strip() or redacted.startswith("[redacted:")
