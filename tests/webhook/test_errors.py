"""What is answered whatever is sent: one answer of the table, never an exception, never a 5xx, on both databases."""

import contextlib
import gzip
import http.client
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.leadway_double.notifications import Dialect, Proof
from tests.support.world import World
from tests.webhook.conftest import PATH, Intake
from webhook.notification import MAX_BODY_BYTES

MANY = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TEXTS = st.text(st.characters(), max_size=20) | st.sampled_from(
    [
        "\x00",
        "a\x00b",
        "\ud800",
        "\udfff\ud800",
        "{{contact.id}}",
        "2024-05-06T07:08:09Z",
        "0001-01-01T00:00:00+14:00",
        "9",
    ]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**307, -(10**400), 2**63, 1e308, 10**12, 0.1])
NAMES = TEXTS | st.sampled_from(
    [
        "id", "callId", "call_id", "type", "webhookId", "locationId", "location", "contactId", "contact_id", "data",
        "customData", "workflow", "createdAt", "from", "phone", "executedCallActions", "actionParameters", "apiDetails",
        "headers", "authenticationValue",
    ]
)  # fmt: skip
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=8),
    max_leaves=25,
)

HAND_MADE = [
    b"",
    b"\x00",
    b"\xef\xbb\xbf{}",
    b"null",
    b"0",
    b'"' + b"x" * 1000 + b'"',
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"callId": "call-1", "x": ' + b"[" * 40 + b"]" * 40 + b"}",
    b'{"callId": "call-1", "x": [' + b"0," * 100_000 + b"0]}",
    b"{" + b",".join(b'"%d": 0' % number for number in range(20_000)) + b"}",
    b'{"callId": "call-1", "callId": "call-1"}',
    b'{"callId": "call-1", "x": NaN}',
    b'{"callId": "call-1", "x": -Infinity}',
    b'{"callId": "call-1", "x": 1' + b"0" * 200_000 + b"}",
    b'{"callId": "call-1", "x": 1e400}',
    b'{"callId": "call-1", "x": 1e-400}',
    b'{"callId": "call-1", "x": -0.0}',
    b'{"callId": "call-1", "x\\u0000": "\\u0000", "\\ud800": "\\udc00"}',
    b'{"callId": "call\\u0000"}',
    b'{"callId": "' + b"a" * 128 + b'", "locationId": "loc_demo"}',
    b'{"callId": "' + b"a" * 129 + b'"}',
    b'{"callId": {"$gt": ""}}',
    b'{"callId": ["call-1"]}',
    b'{"callId": true, "createdAt": 99999999999999999999}',
    b'{"callId": "call-1", "createdAt": "0001-01-01T00:00:00+14:00"}',
    b'{"callId": "call-1", "createdAt": "9999-12-31T23:59:59-14:00"}',
    b'{"callId": "call-1", "createdAt": 9999999999999}',
    b'{"callId": "\'; DROP TABLE calls; --", "locationId": "loc_demo"}',
    gzip.compress(b'{"callId": "call-1"}'),
]
PATHS = [
    PATH + "/a/b", PATH + "/%00", PATH + "/%ff%fe", PATH + "/../../etc/passwd", PATH + "/" + "x" * 5000, "/webhooks",
    "/", "/%2e%2e/", "/WEBHOOKS/LEADWAY", "//webhooks//leadway", PATH + "/%F0%9F%98%80", PATH + "?x=" + "y" * 5000,
]  # fmt: skip
HEADERS = [
    {"X-GHL-Signature": "\xff" * 88},
    {"X-GHL-Signature": "A" * 20_000},
    {"X-WH-Signature": "=" * 684},
    {"X-Intake-Secret": "\xe9" * 20},
    {"X-Intake-Secret": "x" * 20_000},
    {"X-GHL-Signature": "N/A", "X-Intake-Secret": " "},
    {"Content-Type": "multipart/form-data; boundary=x"},
    {"Content-Type": "application/json; charset=utf-7"},
    {"Content-Encoding": "gzip"},
    {"Content-Length": "-1"},
    {"Content-Length": "many"},
]


@MANY
@given(body=st.binary(max_size=2000))
def test_no_bytes_break_it(intake: Intake, body: bytes) -> None:
    _assert_accepted(intake, body)


@MANY
@given(document=DOCUMENTS)
def test_no_json_breaks_it(intake: Intake, document: Any) -> None:
    _assert_accepted(intake, json.dumps(document).encode())


@MANY
@given(fields=st.dictionaries(NAMES, DOCUMENTS, max_size=5))
def test_no_field_of_a_real_notification_breaks_it(intake: Intake, fields: dict[str, Any]) -> None:
    real = json.loads(intake.message(dialect=Dialect.WORKFLOW).body)
    _assert_accepted(intake, json.dumps(real | fields).encode())


@pytest.mark.parametrize("body", HAND_MADE, ids=range(len(HAND_MADE)))
def test_no_body_made_to_break_it_does(intake: Intake, body: bytes) -> None:
    _assert_accepted(intake, body)


@MANY
@given(name=st.sampled_from(["X-GHL-Signature", "X-WH-Signature", "X-Intake-Secret"]), value=st.text(
    st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=100))  # fmt: skip
def test_no_credential_that_is_guessed_opens_it_or_breaks_it(intake: Intake, name: str, value: str) -> None:
    answer = intake.send(b'{"callId": "call-1"}', {name: value})

    assert (answer.status_code, answer.get_json()["status"]) == (401, "refused")
    assert intake.rows("inbox") == []


@pytest.mark.parametrize("headers", HEADERS, ids=range(len(HEADERS)))
def test_no_header_breaks_it(intake: Intake, headers: dict[str, str]) -> None:
    answer = intake.send(b'{"callId": "call-1"}', headers)

    assert answer.status_code in (400, 401)
    assert answer.is_json


@pytest.mark.parametrize("path", PATHS, ids=range(len(PATHS)))
def test_paths_and_methods_that_are_not_there_are_refused_in_json(intake: Intake, path: str) -> None:
    for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "TRACE"):
        answer = intake.app.test_client().open(path, method=method, data=b"{}")

        assert answer.status_code in (308, 401, 404, 405)
        assert answer.status_code == 308 or answer.is_json
    assert intake.rows("inbox") == []


@pytest.mark.parametrize("size", [MAX_BODY_BYTES, MAX_BODY_BYTES + 1])
def test_256_kib_are_read_and_a_byte_more_is_not(intake: Intake, size: int) -> None:
    frame = b'{"callId": "call-1", "x": "%s"}'
    answer = intake.send(frame % (b"x" * (size - len(frame) + 2)))

    assert answer.status_code == (202 if size == MAX_BODY_BYTES else 413)


def test_a_compressed_body_is_written_down_as_unreadable_and_never_unpacked(intake: Intake) -> None:
    bomb = gzip.compress(b"0" * 10_000_000)
    answer = intake.send(bomb, {**intake.secret, "Content-Encoding": "gzip"})

    assert answer.get_json()["reason"] == "not_utf8"
    assert intake.only_row("inbox")["document"] is None


@pytest.fixture
def web(sqlite_url: str, redis_url: str, tmp_path: Path) -> Iterator[World]:
    with World(tmp_path, database_url=sqlite_url, redis_url=redis_url, settings={"LOG_LEVEL": "DEBUG"}) as world:
        world.start("web")
        yield world


def test_the_real_server_refuses_what_is_too_large_or_malformed_and_logs_no_secret(web: World) -> None:
    secret_path = f"{PATH}/{web.double.intake_secret}"
    over = MAX_BODY_BYTES + 1

    assert _ask(web, secret_path, _chunks(b"x" * 1000, times=over // 1000 + 1)) == 413
    assert _ask(web, secret_path, _chunks(b"x" * 65536, times=40)) == 413
    assert _ask(web, secret_path, b"x" * over) == 413
    assert _ask(web, secret_path, b"x", {"Content-Length": "99999999999"}) == 413
    assert _ask(web, secret_path, b"", {"Content-Length": "-5"}) == 400
    assert _ask(web, secret_path, b"", {"X-Long": "x" * 100_000}) in (400, 431)
    assert _ask(web, secret_path + "/more", b"{}") == 404
    assert _ask(web, secret_path, b"{}", method="PUT") == 405
    assert web.scalar("SELECT count(*) FROM inbox") == 0

    assert _ask(web, secret_path, _chunks(b'{"callId": "call-%d"}' % 1, times=1)) == 202
    message = web.double.message(web.double.place_call(), dialect=Dialect.THIN, proof=Proof.SECRET_PATH)[0]
    assert _ask(web, secret_path, message.body) == 202

    assert web.double.intake_secret not in web.processes.log("web")
    assert web.double.token not in web.processes.log("web")


def _assert_accepted(intake: Intake, body: bytes) -> None:
    """With a secret, signed, and with neither."""
    expected = 202 if len(body) <= MAX_BODY_BYTES else 413
    answer = intake.send(body)
    assert answer.is_json
    assert answer.status_code == expected or answer.get_json()["reason"] == "wrong_account"
    signed = intake.send_signed(body)
    assert signed.status_code == expected
    assert intake.send(body, {}).status_code == (401 if len(body) <= MAX_BODY_BYTES else 413)


def _chunks(chunk: bytes, *, times: int) -> Iterator[bytes]:
    for _ in range(times):
        yield chunk


def _ask(web: World, path: str, body: Any, headers: dict[str, str] | None = None, *, method: str = "POST") -> int:
    """The status, also when the server answers and hangs up before everything was sent."""
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
    with contextlib.closing(connection):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(
                method, path, io.BytesIO(body) if isinstance(body, bytes) and headers else body, headers or {}
            )
        return connection.getresponse().status
