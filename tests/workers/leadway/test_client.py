"""The client against a real server on the loopback that answers, drips, hangs, resets and lies."""

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from workers.leadway.client import CREATE_NOTE, CallType, LeadwayClient
from workers.leadway.documents import Note, Task
from workers.leadway.errors import (
    ErrorKind,
    LeadwayError,
    PermanentLeadwayError,
    RetryableLeadwayError,
    UnreadableDocument,
)
from workers.leadway.transport import open_session

Answer = Callable[["Handler"], None]
TOKEN = "pit-0000-secret"
PERSON = "+34600111222"


@dataclass(frozen=True)
class Received:
    path: str
    headers: Mapping[str, str]
    payload: bytes
    client_address: Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Server"

    def do_GET(self) -> None:
        payload = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append(Received(self.path, self.headers, payload, self.client_address))
        self.server.answer(self)

    do_POST = do_GET  # noqa: N815

    def reply(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    answer: Answer

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[Received] = []
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *args: Any) -> None:
        pass  # clients hang up on purpose


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


def client_of(
    url: str, *, seconds: float = 5, session: requests.Session | None = None, **changes: Any
) -> LeadwayClient:
    settings: dict[str, Any] = {
        "version": "2021-07-28",
        "token": lambda: TOKEN,
        "location_id": "loc1",
        "redaction_key": b"k",
        "zone": UTC,
        "deadline": time.monotonic() + seconds,
        "acquire": lambda: None,
        "observe": lambda *seen: None,
    }
    return LeadwayClient(session or open_session(pool_size=4), url=url, **(settings | changes))


def replying(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
    return lambda handler: handler.reply(status, document, headers)


def window() -> dict[str, Any]:
    return {"since": datetime(2026, 1, 1, tzinfo=UTC), "until": datetime(2026, 1, 2, tzinfo=UTC)}


def test_a_call_log_is_asked_for_with_every_header_and_the_location_in_the_query_only(server: Server) -> None:
    server.answer = replying(200, {"id": "c1", "duration": 3, "new": 1})
    call_log = client_of(server.url + "/").get_call_log("c1")
    assert (call_log.call_id, call_log.duration_seconds, call_log.unknown_fields) == ("c1", 3, ("new",))
    (request,) = server.requests
    assert request.path == "/voice-ai/dashboard/call-logs/c1?locationId=loc1"
    sent = {name.lower(): value for name, value in request.headers.items()}
    assert sent["authorization"] == f"Bearer {TOKEN}"
    assert sent["version"] == "2021-07-28"
    assert sent["accept"] == "application/json"
    assert "location-id" not in sent


def test_the_token_is_asked_for_per_request_and_never_taken_from_a_netrc(
    server: Server, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    tokens = iter(["first", "second"])
    server.answer = replying(200, {"notes": []})
    client = client_of(server.url, token=lambda: next(tokens))
    client.list_notes("p1")
    client.list_notes("p1")
    assert [request.headers["Authorization"] for request in server.requests] == ["Bearer first", "Bearer second"]


def test_cookies_are_not_carried_from_one_account_to_the_next(server: Server) -> None:
    server.answer = replying(200, {"notes": []}, {"Set-Cookie": "a=b"})
    client = client_of(server.url)
    client.list_notes("p1")
    client.list_notes("p1")
    assert all("Cookie" not in request.headers for request in server.requests)
    assert len({request.client_address for request in server.requests}) == 1, "the connection is used again"


def test_a_page_of_calls_is_asked_for_oldest_first_with_both_ends_in_milliseconds(server: Server) -> None:
    rows = [{"id": "c1"}, "junk", {"id": ""}]
    server.answer = replying(200, {"totalRecords": 3, "callLogs": rows})
    page = client_of(server.url).list_call_logs(**window(), call_type=CallType.TRIAL, page=1, contact_id="p1")
    assert ([row.call_id for row in page.rows], page.total, len(page.refused), page.is_empty) == (["c1"], 3, 2, False)
    query = parse_qs(urlsplit(server.requests[0].path).query)
    assert query == {
        "locationId": ["loc1"],
        "startDate": ["1767225600000"],
        "endDate": ["1767312000000"],
        "callType": ["TRIAL"],
        "sortBy": ["createdAt"],
        "sort": ["ascend"],
        "page": ["1"],
        "pageSize": ["50"],
        "contactId": ["p1"],
    }


def test_writes_send_what_the_api_wants_and_return_ids(server: Server) -> None:
    due = datetime(2026, 1, 1, 12, tzinfo=UTC)
    client = client_of(server.url)
    server.answer = replying(201, {"note": {"id": "n1", "body": "ñ"}})
    assert client.create_note("p1", body="ñ") == Note("n1", body="ñ", added_at=None)
    server.answer = replying(201, {"task": {"id": "t1"}})
    assert client.create_task("p1", title="T", body="B", due_at=due, assigned_to="u1") == Task("t1", body="")
    server.answer = replying(201, {"tags": ["x"]})
    client.add_tags("p1", tags=["x"])
    server.answer = replying(200, {"succeded": True})
    client.enrol_in_workflow("p1", workflow_id="w1")
    assert [(request.path, json.loads(request.payload)) for request in server.requests] == [
        ("/contacts/p1/notes", {"body": "ñ"}),
        (
            "/contacts/p1/tasks",
            {"title": "T", "body": "B", "dueDate": "2026-01-01T12:00:00.000Z", "completed": False, "assignedTo": "u1"},
        ),
        ("/contacts/p1/tags", {"tags": ["x"]}),
        ("/contacts/p1/workflow/w1", {}),
    ]
    assert {request.headers["Content-Type"] for request in server.requests} == {"application/json"}


def test_an_enrolment_that_did_not_succeed_is_unclear(server: Server) -> None:
    server.answer = replying(200, {"succeded": False})
    with pytest.raises(RetryableLeadwayError) as caught:
        client_of(server.url).enrol_in_workflow("p1", workflow_id="w1")
    assert (caught.value.kind, caught.value.reached) == (ErrorKind.REFUSED, True)


def test_lists_and_single_documents_are_read(server: Server) -> None:
    client = client_of(server.url)
    server.answer = replying(200, {"notes": [{"id": "n1", "body": None, "contactId": "p1"}, {"id": "n2", "body": "b"}]})
    assert [(note.note_id, note.body) for note in client.list_notes("p1")] == [("n1", ""), ("n2", "b")]
    server.answer = replying(200, {"tasks": [{"id": "t1", "title": "T", "body": "B"}]})
    assert [(task.task_id, task.body) for task in client.list_tasks("p1")] == [("t1", "B")]
    server.answer = replying(200, {"events": [{"id": "e1", "startTime": "2026-01-01 10:00:00"}]})
    assert client.list_appointments("p1")[0].zoneless == {"starts_at"}
    server.answer = replying(200, {"event": {"id": "e1", "startTime": "2026-01-01T10:00:00+02:00"}})
    appointment = client.get_appointment("e1")
    assert (appointment.starts_at, appointment.zoneless) == (datetime(2026, 1, 1, 8, tzinfo=UTC), frozenset())


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b'{"notes": [{"id": "n1", "body": "b"}',
        b'{"\xff',
        [],
        {"notes": None},
        {"notes": [{"id": "n1"}, "junk"]},
        {"notes": [{"body": "without id"}]},
        {"notes": [{"id": "n1", "body": ["b"]}]},
        {"notes": [{"id": "n1", "contactId": "somebody-else"}]},
        {"notes": [{"id": "n1"}], "total": 2},
        {"notes": [{"id": "n1"}], "hasMore": True},
        {"notes": [{"id": "n1"}], "count": 3},
        {"notes": [{"id": "n1"}], "meta": {"nextPageUrl": "/contacts/p1/notes?page=2"}},
        {"notes": [{"id": "n1"}], "pagination": {"total_pages": 2}},
        {"notes": [{"id": "n1"}], "links": {"next": "…"}},
        {"notes": [{"id": "n1"}], "cursor": "n1"},
        {"notes": [{"id": "n1"}], "limit": 1},
    ],
)
def test_a_list_of_notes_that_is_cut_or_malformed_is_never_taken_for_the_whole(server: Server, document: Any) -> None:
    server.answer = replying(200, document)
    with pytest.raises(UnreadableDocument):
        client_of(server.url).list_notes("p1")


@pytest.mark.parametrize(
    "extra",
    [{"total": 1}, {"hasMore": False}, {"meta": {"nextPage": None, "total": 1, "currentPage": 1}}, {"limit": 100}],
)
def test_a_list_that_says_that_it_is_whole_is_read(server: Server, extra: dict[str, Any]) -> None:
    server.answer = replying(200, {"notes": [{"id": "n1", "body": "b"}], **extra})
    assert len(client_of(server.url).list_notes("p1")) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>Sign in to this network</html>"), (403, b"Access denied"), (404, b"<!doctype html>"), (401, b"no")],
)
def test_an_answer_that_does_not_come_from_the_api_is_an_outage(server: Server, status: int, body: bytes) -> None:
    server.answer = replying(status, body)
    for ask in (
        lambda client: client.get_call_log("c1"),
        lambda client: client.create_note("p1", body="b"),
        lambda client: client.list_notes("p1"),
    ):
        with pytest.raises(RetryableLeadwayError) as caught:
            ask(client_of(server.url))
        assert (caught.value.kind, caught.value.reached) == (ErrorKind.OUTAGE, True)


@pytest.mark.parametrize(
    "body", [b'{"id": "c1", "x": [' + b"{}," * 1_000_000 + b"{}]}", b"[" * 100_000], ids=["values", "levels"]
)
def test_an_answer_of_too_many_values_or_levels_is_too_large_and_is_not_read(server: Server, body: bytes) -> None:
    server.answer = replying(200, body)
    with pytest.raises(PermanentLeadwayError) as caught:
        client_of(server.url).get_call_log("c1")
    assert caught.value.kind == ErrorKind.TOO_LARGE


@pytest.mark.parametrize("document", [{"id": "c2"}, {"callId": "c1"}, [], b"{", b'{"id": ' + b"9" * 5000 + b"}"])
def test_a_log_of_another_call_or_of_none_is_puzzling(server: Server, document: Any) -> None:
    server.answer = replying(200, document)
    with pytest.raises(RetryableLeadwayError) as caught:
        client_of(server.url).get_call_log("c1")
    assert caught.value.kind == ErrorKind.PUZZLING


def test_numbers_beyond_all_bounds_do_not_hide_a_call(server: Server) -> None:
    server.answer = replying(200, b'{"id": "c1", "duration": ' + b"9" * 5000 + b', "x": [1e999, NaN]}')
    call_log = client_of(server.url).get_call_log("c1")
    assert (call_log.duration_seconds, call_log.document) == (None, {"duration": None, "x": [None, None]})


def hang(handler: Handler) -> None:
    handler.server.over.wait(30)


def drip_headers(handler: Handler) -> None:
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: y" if handler.requestline else b"")
        handler.requestline = ""
        handler.wfile.write(b"y")


def drip_body(handler: Handler) -> None:
    handler.reply(200, b"", {"Content-Length": "100000"})
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b" ")


def drip_chunks(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not handler.server.over.wait(0.02):
        handler.wfile.write(b"1\r\n \r\n")


def reset(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    handler.close_connection = True
    handler.connection.close()


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def cut(handler: Handler) -> None:
    handler.reply(201, b'{"note": {"id"', {"Content-Length": "1000"})
    handler.close_connection = True


def broken_compression(handler: Handler) -> None:
    handler.reply(201, b"not gzip", {"Content-Encoding": "gzip"})


UNCLEAR = [
    (hang, ErrorKind.OUTAGE),
    (drip_headers, ErrorKind.OUTAGE),
    (drip_body, ErrorKind.OUTAGE),
    (drip_chunks, ErrorKind.OUTAGE),
    (reset, ErrorKind.OUTAGE),
    (hang_up, ErrorKind.OUTAGE),
    (cut, ErrorKind.OUTAGE),
    (broken_compression, ErrorKind.PUZZLING),
    (replying(201, b" " * (CREATE_NOTE.largest + 1)), ErrorKind.TOO_LARGE),
    (replying(201, b"{"), ErrorKind.PUZZLING),
    (replying(201, {"note": {}}), ErrorKind.PUZZLING),
    (replying(201, {"note": {"id": None}}), ErrorKind.PUZZLING),
    (replying(204, b""), ErrorKind.PUZZLING),
    (replying(302, b"", {"Location": "/elsewhere"}), ErrorKind.PUZZLING),
    (replying(422, {"message": ["body must be a string"]}), ErrorKind.REFUSED),
    (replying(500, b"<html>"), ErrorKind.OUTAGE),
]


@pytest.mark.parametrize(("answer", "kind"), UNCLEAR)
def test_a_write_without_a_clear_answer_is_unclear_and_over_by_the_deadline(
    server: Server, answer: Answer, kind: ErrorKind
) -> None:
    server.answer = answer
    observed: list[Any] = []
    client = client_of(server.url, seconds=0.5, observe=lambda *seen: observed.append(seen))
    with pytest.raises(LeadwayError) as caught:
        client.create_note("p1", body=PERSON)
    assert (caught.value.kind, caught.value.reached) == (kind, True)
    assert len(server.requests) == 1, "nothing is repeated, no redirect followed"
    assert len(observed) == 1
    assert_tells_nothing(caught.value)


def assert_tells_nothing(error: BaseException) -> None:
    assert error.__cause__ is None
    assert error.__context__ is None
    for secret in (TOKEN, PERSON, "p1"):
        assert secret not in str(error)


def test_what_was_given_up_is_thrown_away_and_not_sent_when_the_line_is_whole_again() -> None:
    """The line is a server that takes nothing for a while."""
    body = "b" * 500_000
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(RetryableLeadwayError) as caught:
            client_of(f"http://127.0.0.1:{listener.getsockname()[1]}", seconds=1).create_note("p1", body=body)
        assert caught.value.reached
        line, _ = listener.accept()
        with line, line.makefile("rb") as arriving, pytest.raises(ConnectionResetError):
            arriving.read()


def test_after_a_time_out_the_connection_is_not_used_again(server: Server) -> None:
    server.answer = drip_body
    session = open_session(pool_size=1)
    first = client_of(server.url, seconds=0.2, session=session)
    with pytest.raises(RetryableLeadwayError):
        first.list_notes("p1")
    server.answer = replying(200, {"notes": []})
    second = client_of(server.url, session=session)
    assert second.list_notes("p1") == ()
    assert len({request.client_address for request in server.requests}) == 2


def test_what_was_left_for_one_answer_does_not_limit_the_next_on_the_same_connection(server: Server) -> None:
    def slowly(handler: Handler) -> None:
        handler.server.over.wait(0.3)
        handler.reply(200, {"notes": []})

    session = open_session(pool_size=1)
    for seconds, answer in ((0.25, replying(200, {"notes": []})), (5, slowly)):
        server.answer = answer
        client = client_of(server.url, seconds=seconds, session=session)
        assert client.list_notes("p1") == ()
    assert len({request.client_address for request in server.requests}) == 1


def test_a_refusal_whose_body_is_cut_is_still_that_refusal(server: Server) -> None:
    def throttle_and_cut(handler: Handler) -> None:
        handler.reply(429, b"{", {"Content-Length": "1000", "Retry-After": "7"})
        handler.close_connection = True

    server.answer = throttle_and_cut
    with pytest.raises(RetryableLeadwayError) as caught:
        client_of(server.url).create_note("p1", body="b")
    error = caught.value
    assert (error.kind, error.reached, error.retry_after) == (ErrorKind.THROTTLED, True, 7)


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def test_what_was_never_sent_proves_absence(server: Server) -> None:
    server.answer = hang
    no_tls_there = server.url.replace("http:", "https:")
    for url in (f"http://127.0.0.1:{unused_port()}", "http://no-such-host.invalid", no_tls_there):
        with pytest.raises(RetryableLeadwayError) as caught:
            client_of(url).create_note("p1", body="b")
        assert (caught.value.kind, caught.value.reached) == (ErrorKind.OUTAGE, False), url
        assert_tells_nothing(caught.value)


def test_a_server_that_never_finishes_the_tls_handshake_proves_absence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(RetryableLeadwayError) as caught:
            client_of(url, seconds=0.3).create_note("p1", body="b")
    assert (caught.value.kind, caught.value.reached) == (ErrorKind.OUTAGE, False)


def test_a_tls_connection_cut_after_the_request_is_unclear_and_a_wrong_certificate_is_not(
    server: Server, certificate: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = server.url.replace("http:", "https:")
    server.answer = hang_up
    with pytest.raises(RetryableLeadwayError) as caught:
        client_of(url).create_note("p1", body="b")
    assert caught.value.reached is False
    assert server.requests == []
    session = open_session(pool_size=4)
    session.verify = certificate
    client = client_of(url, session=session)
    with pytest.raises(RetryableLeadwayError) as caught:
        client.create_note("p1", body="b")
    assert caught.value.reached is True
    assert len(server.requests) == 1
    server.answer = replying(200, {"notes": []})
    assert client.list_notes("p1") == ()


@pytest.fixture
def certificate(tmp_path: Any) -> str:
    """A self-signed one for 127.0.0.1, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return str(path)


@pytest.mark.parametrize("wrong", ["", "../x", "a/b", "a b", "ñ", "x" * 129, "{{contact.id}}", "a\n"])
def test_an_id_that_cannot_be_one_is_refused_before_anything_is_sent(server: Server, wrong: str) -> None:
    client = client_of(server.url, acquire=lambda: pytest.fail("no budget is spent on it"))
    requests: list[Callable[[], Any]] = [
        lambda: client.get_call_log(wrong),
        lambda: client.create_note(wrong, body="b"),
        lambda: client.enrol_in_workflow("p1", workflow_id=wrong),
        lambda: client.list_call_logs(**window(), call_type=CallType.LIVE, contact_id=wrong),
    ]
    for request in requests:
        with pytest.raises(PermanentLeadwayError) as caught:
            request()
        assert (caught.value.kind, caught.value.reached) == (ErrorKind.WRONG_KIND, False)
    assert server.requests == []


@pytest.mark.parametrize("token", ["", "a\r\nX: y", "pit–dash", "a b"])
def test_a_token_that_no_header_can_carry_is_a_token_error_that_does_not_quote_it(server: Server, token: str) -> None:
    with pytest.raises(PermanentLeadwayError) as caught:
        client_of(server.url, token=lambda: token).list_notes("p1")
    assert (caught.value.kind, caught.value.reached) == (ErrorKind.TOKEN, False)
    assert not token or token not in str(caught.value)
    assert server.requests == []


def test_after_the_deadline_nothing_is_sent(server: Server) -> None:
    with pytest.raises(RetryableLeadwayError) as caught:
        client_of(server.url, seconds=0).create_note("p1", body="b")
    assert (caught.value.kind, caught.value.reached) == (ErrorKind.NO_TIME, False)
    assert server.requests == []


def test_the_budget_is_asked_before_every_request_and_may_refuse_it(server: Server) -> None:
    class NoBudgetError(LeadwayError):
        pass

    def refuse() -> None:
        raise NoBudgetError(ErrorKind.BUDGET, reached=False)

    with pytest.raises(NoBudgetError):
        client_of(server.url, acquire=refuse).list_notes("p1")
    assert server.requests == []


def test_every_request_is_observed_with_its_outcome_and_headers(server: Server) -> None:
    observed: list[tuple[str, int | ErrorKind, str | None]] = []

    def observe(endpoint: str, outcome: int | ErrorKind, seconds: float, headers: Mapping[str, str]) -> None:
        observed.append((endpoint, outcome, headers.get("x-ratelimit-remaining")))

    client = client_of(server.url, observe=observe)
    server.answer = replying(200, {"notes": []}, {"X-RateLimit-Remaining": "99"})
    client.list_notes("p1")
    server.answer = replying(429, {}, {"X-RateLimit-Remaining": "0"})
    with pytest.raises(RetryableLeadwayError):
        client.get_call_log("c1")
    server.answer = reset
    with pytest.raises(RetryableLeadwayError):
        client.list_tasks("p1")
    assert observed == [
        ("list_notes", 200, "99"),
        ("get_call_log", 429, "0"),
        ("list_tasks", ErrorKind.OUTAGE, None),
    ]
