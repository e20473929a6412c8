"""Every known answer of Leadway, and what the caller is told to do about it."""

import ssl
from typing import Any

import pytest
import requests
import urllib3
from hypothesis import given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from workers.leadway.errors import (
    DAILY_WAIT,
    INTERVAL_WAIT,
    LONGEST_DAY,
    LONGEST_WAIT,
    ErrorKind,
    LeadwayError,
    PermanentLeadwayError,
    RetryableLeadwayError,
    UnreadableDocument,
    sort_exception,
    sort_response,
    throttle_wait,
)

LATER, NEVER = RetryableLeadwayError, PermanentLeadwayError


def sort(status: int, body: bytes | str, *, writes: bool = False, **headers: str) -> LeadwayError:
    raw = body if isinstance(body, bytes) else body.encode()
    return sort_response(status, CaseInsensitiveDict(headers), raw, endpoint="an_endpoint", writes=writes)


def saying(message: str) -> str:
    return f'{{"statusCode": 400, "message": "{message}", "traceId": "t-1"}}'


SEEN_LIVE = [
    (401, saying("version header was not found."), NEVER, ErrorKind.VERSION),
    (401, saying("version header is invalid"), NEVER, ErrorKind.VERSION),
    (401, saying("The token is not authorized for this scope."), NEVER, ErrorKind.SCOPE),
    (401, saying("Invalid Private Integration token"), NEVER, ErrorKind.TOKEN),
    (403, saying("The token does not have access to this location"), NEVER, ErrorKind.LOCATION),
    (403, saying("Forbidden resource"), NEVER, ErrorKind.LOCATION),  # locationId left out
    (422, saying("Call ID is invalid"), NEVER, ErrorKind.WRONG_KIND),
    (422, '{"message": ["Call ID is invalid"], "error": "Unprocessable Entity"}', NEVER, ErrorKind.WRONG_KIND),
    (422, '{"message": ["property limit should not exist"]}', LATER, ErrorKind.REFUSED),
    (404, saying("Cannot GET /voice-ai/v3-only"), NEVER, ErrorKind.VERSION),
    (404, saying("Call log not found"), LATER, ErrorKind.NOT_FOUND),
    (400, saying("Call log not found"), LATER, ErrorKind.NOT_FOUND),
    (422, '{"message": ["Call log not found"]}', LATER, ErrorKind.NOT_FOUND),
]
IN_THE_SPECIFICATION = [
    (400, saying("Bad Request"), LATER, ErrorKind.REFUSED),
    (401, saying("Invalid token: access token is invalid"), NEVER, ErrorKind.TOKEN),
    (401, saying("Invalid JWT"), NEVER, ErrorKind.TOKEN),
    (403, saying("This needs another scope"), NEVER, ErrorKind.SCOPE),
    (404, "", LATER, ErrorKind.NOT_FOUND),
    (429, "", LATER, ErrorKind.THROTTLED),
]
UNHEARD_OF = [
    (302, "", LATER, ErrorKind.PUZZLING),
    (401, "<html>", LATER, ErrorKind.OUTAGE),
    (403, "<html>blocked</html>", LATER, ErrorKind.OUTAGE),
    (401, saying("something new"), NEVER, ErrorKind.TOKEN),
    (408, "", LATER, ErrorKind.OUTAGE),
    (409, "[]", LATER, ErrorKind.PUZZLING),
    (410, "null", LATER, ErrorKind.PUZZLING),
    (422, '{"message": [null, {"a": 1}]}', LATER, ErrorKind.REFUSED),
    (500, b"\xff", LATER, ErrorKind.OUTAGE),
    (503, "[" * 100_000, LATER, ErrorKind.OUTAGE),
    (524, "", LATER, ErrorKind.OUTAGE),
]


@pytest.mark.parametrize(("status", "body", "family", "kind"), SEEN_LIVE + IN_THE_SPECIFICATION + UNHEARD_OF)
def test_a_reads_failure_is_sorted_by_what_to_do(status: int, body: Any, family: type, kind: ErrorKind) -> None:
    error = sort(status, body)
    assert (type(error), error.kind, error.http_status) == (family, kind, status)


NOT_EXECUTED = [
    (401, saying("version header was not found."), NEVER, ErrorKind.VERSION),
    (401, saying("The token is not authorized for this scope."), NEVER, ErrorKind.SCOPE),
    (401, saying("Invalid Private Integration token"), NEVER, ErrorKind.TOKEN),
    (403, saying("The token does not have access to this location"), NEVER, ErrorKind.LOCATION),
    (400, saying("Contact with id abc123 not found"), NEVER, ErrorKind.CONTACT_UNKNOWN),
    (404, saying("Contact not found"), NEVER, ErrorKind.CONTACT_UNKNOWN),
    (404, saying("The contact does not exist"), NEVER, ErrorKind.CONTACT_UNKNOWN),
    (404, saying("Contact could not be found for id: x"), NEVER, ErrorKind.CONTACT_UNKNOWN),
    (400, saying("Unknown contact"), NEVER, ErrorKind.CONTACT_UNKNOWN),
    (400, saying("contactId is invalid"), NEVER, ErrorKind.CONTACT_UNKNOWN),
]
UNCLEAR = [
    (302, "", ErrorKind.PUZZLING),
    (400, saying("Bad Request"), ErrorKind.REFUSED),
    (400, saying("The contact's assigned user was not found"), ErrorKind.REFUSED),
    (401, saying("something new"), ErrorKind.PUZZLING),
    (403, saying("Forbidden resource"), ErrorKind.PUZZLING),
    (403, "<html>", ErrorKind.OUTAGE),
    (429, "", ErrorKind.THROTTLED),
    (404, saying("Cannot POST /contacts/x/notes"), ErrorKind.REFUSED),
    (408, "", ErrorKind.OUTAGE),
    (409, "", ErrorKind.PUZZLING),
    (422, '{"message": ["body should not be empty"]}', ErrorKind.REFUSED),
    (422, saying("Contact not found"), ErrorKind.REFUSED),
    (500, "", ErrorKind.OUTAGE),
    (502, "", ErrorKind.OUTAGE),
    (504, "", ErrorKind.OUTAGE),
]


@pytest.mark.parametrize(("status", "body", "family", "kind"), NOT_EXECUTED)
def test_a_write_with_a_known_refusal_was_not_executed(status: int, body: str, family: type, kind: ErrorKind) -> None:
    error = sort(status, body, writes=True)
    assert (type(error), error.kind, error.reached) == (family, kind, False)


@pytest.mark.parametrize(("status", "body", "kind"), UNCLEAR)
def test_a_write_with_any_other_answer_is_unclear(status: int, body: str, kind: ErrorKind) -> None:
    error = sort(status, body, writes=True)
    assert (type(error), error.kind, error.reached) == (RetryableLeadwayError, kind, True)


@given(st.integers(300, 599), st.one_of(st.binary(), st.text()), st.booleans())
def test_any_answer_is_sorted(status: int, body: bytes | str, writes: bool) -> None:
    error = (
        sort(status, body, writes=writes)
        if isinstance(body, bytes)
        else sort(status, b"" + body.encode(errors="replace"))
    )
    assert isinstance(error, RetryableLeadwayError | PermanentLeadwayError)


NOW = "Sun, 22 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, INTERVAL_WAIT),
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "7.5"}, 7.5),
        ({"Retry-After": "999999"}, LONGEST_WAIT),
        ({"Retry-After": "Sun, 22 Nov 2026 10:00:30 GMT", "Date": NOW}, 30),
        ({"Retry-After": "Sun, 22 Nov 2026 09:00:00 GMT", "Date": NOW}, INTERVAL_WAIT),
        ({"Retry-After": "Sun, 22 Nov 2099 10:00:00 GMT"}, LONGEST_WAIT),
        ({"Retry-After": "soon"}, INTERVAL_WAIT),
        ({"Retry-After": "nan"}, INTERVAL_WAIT),
        ({"Retry-After": "-5"}, INTERVAL_WAIT),
        ({"Retry-After": "0"}, INTERVAL_WAIT),
        ({"X-RateLimit-Interval-Milliseconds": "20000"}, 20),
        ({"X-RateLimit-Interval-Milliseconds": "x"}, INTERVAL_WAIT),
        ({"X-RateLimit-Interval-Milliseconds": "10000", "X-RateLimit-Daily-Remaining": "0"}, DAILY_WAIT),
        ({"X-RateLimit-Interval-Milliseconds": "10000", "X-RateLimit-Daily-Remaining": "5"}, 10),
        ({"Retry-After": "3", "X-RateLimit-Daily-Remaining": "0"}, 3),
        ({"X-RateLimit-Daily-Remaining": "0", "X-RateLimit-Daily-Reset": "84322000"}, 84_322),
        ({"Retry-After": "3", "X-RateLimit-Daily-Remaining": "0", "X-RateLimit-Daily-Reset": "5000"}, 5),
        ({"X-RateLimit-Daily-Remaining": "5", "X-RateLimit-Daily-Reset": "84322000"}, INTERVAL_WAIT),
        ({"X-RateLimit-Daily-Remaining": "0", "X-RateLimit-Daily-Reset": "9e12"}, LONGEST_DAY),
    ],
)
def test_a_throttled_request_waits_as_long_as_leadway_says(headers: dict[str, str], seconds: float) -> None:
    error = sort(429, "", **headers)
    assert isinstance(error, RetryableLeadwayError)
    assert error.retry_after == throttle_wait(CaseInsensitiveDict(headers)) == seconds


def test_an_outage_waits_only_if_leadway_says_how_long() -> None:
    error = sort(503, "", **{"Retry-After": "5"})
    other = sort(503, "", **{"X-RateLimit-Interval-Milliseconds": "10000"})
    assert isinstance(error, RetryableLeadwayError)
    assert isinstance(other, RetryableLeadwayError)
    assert (error.retry_after, other.retry_after) == (5, None)


def test_an_errors_text_names_the_endpoint_and_the_trace_and_nothing_else() -> None:
    error = sort(404, saying("Contact +34600111222 not found"))
    assert str(error) == "an_endpoint: contact_unknown (HTTP 404, trace t-1)"
    assert error.trace_id == "t-1"
    assert sort(500, '{"traceId": "a name\\n"}').trace_id is None
    assert sort(500, "{}", **{"X-Trace-Id": "t-2"}).trace_id == "t-2"
    assert str(UnreadableDocument()) == "Leadway: puzzling"


def wrapped(cause: Exception) -> requests.ConnectionError:
    pool = urllib3.HTTPConnectionPool("127.0.0.1")
    return requests.ConnectionError(urllib3.exceptions.MaxRetryError(pool, "/", cause))


CONNECTION = urllib3.connection.HTTPConnection("127.0.0.1")


@pytest.mark.parametrize(
    ("cause", "reached"),
    [
        (wrapped(urllib3.exceptions.NewConnectionError(CONNECTION, "refused")), False),
        (wrapped(urllib3.exceptions.NameResolutionError("h", CONNECTION, OSError())), False),  # type: ignore[arg-type]
        (wrapped(urllib3.exceptions.ConnectTimeoutError()), False),
        (wrapped(urllib3.exceptions.SSLError(ssl.SSLCertVerificationError())), False),
        (wrapped(urllib3.exceptions.SSLError(ssl.SSLEOFError())), True),
        (wrapped(urllib3.exceptions.ReadTimeoutError(None, "/", "")), True),  # type: ignore[arg-type]
        (requests.ReadTimeout(), True),
        (requests.ConnectionError(urllib3.exceptions.ProtocolError("x", ConnectionResetError())), True),
        (requests.exceptions.ChunkedEncodingError(), True),
        (ConnectionResetError(), True),
        (TimeoutError(), True),
    ],
)
def test_only_a_request_that_was_never_sent_proves_absence(cause: Any, reached: bool) -> None:
    error = sort_exception(cause, endpoint="create_note")
    assert (error.kind, error.reached, error.retry_after) == (ErrorKind.OUTAGE, reached, None)


def test_an_answer_that_cannot_be_decompressed_is_puzzling() -> None:
    error = sort_exception(requests.exceptions.ContentDecodingError(), endpoint="get_contact")
    assert (error.kind, error.reached) == (ErrorKind.PUZZLING, True)
