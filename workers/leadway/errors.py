"""What can go wrong with Leadway, sorted by what the caller should do: later or never.

Each error also answers `reached`: may Leadway have executed the request? A write without a proof that it was not
executed has an unclear outcome, because the API has no idempotency key (Leadway's specifications). No error's text
holds a token, a body, a name or a number.
"""

import json
import math
import re
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

import requests
import urllib3.exceptions

LONGEST_WAIT = 3600.0
"""Seconds. No answer may make an account wait for longer."""
DAILY_WAIT = 900.0
"""Seconds to wait when the day's allowance is used up and no header tells when it is renewed."""
LONGEST_DAY = 86_400.0
"""Seconds. The day of the allowance is a window of 24 hours (vendor's rate-limit page, `X-RateLimit-Daily-Reset`)."""
LIMIT_HEADERS = ("X-RateLimit-Max", "X-RateLimit-Remaining", "X-RateLimit-Limit-Daily", "X-RateLimit-Daily-Remaining")
INTERVAL_WAIT = 10.0
"""Seconds to wait after a 429 that names no time: the vendor's interval (marketplace docs, rate limits)."""


class ErrorKind(StrEnum):
    """What happened: for metrics, for people, and for the failure policy."""

    THROTTLED = "throttled"
    BUDGET = "budget"
    """Our own request budget had no slot soon enough."""
    NO_TIME = "no_time"
    """The attempt's deadline was over before the request was sent."""
    OUTAGE = "outage"
    """5xx, 408, a time-out, a reset, a refused connection, no address, no TLS."""
    PUZZLING = "puzzling"
    """An answer that no source describes: unreadable, a redirect, the document of another call."""
    NOT_FOUND = "not_found"
    REFUSED = "refused"
    """400, 422 or `succeeded: false`, for a reason that is not known."""
    WRONG_KIND = "wrong_kind"
    """The id cannot be one of Leadway's, or names a thing of another kind (422 "Call ID is invalid")."""
    TOO_LARGE = "too_large"
    """An answer with more bytes, values or levels than are read of its kind."""
    CONTACT_UNKNOWN = "contact_unknown"
    TOKEN = "token"  # noqa: S105 - a kind, not a token
    LOCATION = "location"
    SCOPE = "scope"
    VERSION = "version"
    """The Version header, or a path that this version does not have: a configuration error."""


NOT_A_TRY = (ErrorKind.BUDGET, ErrorKind.NO_TIME)
"""Nothing was sent to Leadway: no attempt is counted, and the history keeps none."""


class LeadwayError(Exception):
    """Raised by everything that talks to Leadway, always as one of its two families."""

    def __init__(
        self,
        kind: ErrorKind,
        *,
        endpoint: str = "",
        http_status: int | None = None,
        reached: bool = True,
        trace_id: str | None = None,
        names_limit: bool = False,
    ) -> None:
        self.kind = kind
        self.endpoint = endpoint
        self.http_status = http_status
        self.reached = reached
        """Whether Leadway may have executed the request. False is a proof of absence."""
        self.names_limit = names_limit
        """Whether a 429 has the vendor's rate-limit headers: it comes from the limiter, which stands before the API."""
        self.trace_id = trace_id
        """Leadway's own id of the answer, for its support."""
        known = {"HTTP": http_status, "trace": trace_id}
        details = ", ".join(f"{name} {value}" for name, value in known.items() if value is not None)
        super().__init__(f"{endpoint or 'Leadway'}: {kind}" + (f" ({details})" if details else ""))


class RetryableLeadwayError(LeadwayError):
    """Later. `retry_after`: seconds that Leadway or the budget asked for; None: the caller's own backoff."""

    def __init__(
        self,
        kind: ErrorKind,
        *,
        retry_after: float | None = None,
        endpoint: str = "",
        http_status: int | None = None,
        reached: bool = True,
        trace_id: str | None = None,
        names_limit: bool = False,
    ) -> None:
        super().__init__(
            kind, endpoint=endpoint, http_status=http_status, reached=reached, trace_id=trace_id,
            names_limit=names_limit,
        )  # fmt: skip
        self.retry_after = retry_after


class PermanentLeadwayError(LeadwayError):
    """Never: the same request fails again until somebody changes something."""


class UnreadableDocument(RetryableLeadwayError):
    """JSON that is not what was asked for: no object, no usable id, an incomplete list."""

    def __init__(self, *, endpoint: str = "", http_status: int | None = None) -> None:
        super().__init__(ErrorKind.PUZZLING, endpoint=endpoint, http_status=http_status)


def sort_response(
    status: int, headers: Mapping[str, str], body: bytes, *, endpoint: str, writes: bool
) -> RetryableLeadwayError | PermanentLeadwayError:
    """The error to raise for an answer that is not a 2xx. `headers` must ignore case, as those of requests do.

    What does not come from the API, as an edge's plain text or a captive page, says nothing about the row: an outage.
    Missing scopes, wrong tokens and wrong locations come as 401 or as 403, so the message decides (seen live). On a
    write only a known message proves that nothing was executed; on a read an unknown answer is retried.
    """
    message, trace_id = _read_error_body(body, headers)

    def later(kind: ErrorKind, *, reached: bool = True, retry_after: float | None = None) -> RetryableLeadwayError:
        return RetryableLeadwayError(
            kind, endpoint=endpoint, http_status=status, reached=reached, trace_id=trace_id, retry_after=retry_after
        )

    def never(kind: ErrorKind) -> PermanentLeadwayError:
        return PermanentLeadwayError(kind, endpoint=endpoint, http_status=status, reached=False, trace_id=trace_id)

    if status == 429:
        return RetryableLeadwayError(
            ErrorKind.THROTTLED, endpoint=endpoint, http_status=status, reached=writes, trace_id=trace_id,
            retry_after=throttle_wait(headers), names_limit=any(name in headers for name in LIMIT_HEADERS),
        )  # fmt: skip
    if status >= 500 or status == 408 or not is_of_the_api(body):
        return later(ErrorKind.OUTAGE, retry_after=_wait_asked_for(headers))
    if status in (401, 403):
        kind = _kind_of_denial(message)
        if kind is None and message and not writes:
            kind = ErrorKind.TOKEN if status == 401 else ErrorKind.LOCATION
        return never(kind) if kind else later(ErrorKind.PUZZLING)
    if status in (400, 404) and _UNKNOWN_CONTACT.search(message):
        return never(ErrorKind.CONTACT_UNKNOWN)
    if writes:
        return later(ErrorKind.REFUSED if status in (400, 404, 422) else ErrorKind.PUZZLING)
    if status == 404 and message.startswith("cannot "):
        return never(ErrorKind.VERSION)
    if status == 422 and "id is invalid" in message:
        return never(ErrorKind.WRONG_KIND)
    # The status for a well-formed id that does not exist yet is not documented: 404, 400 or 422.
    if status == 404 or (status in (400, 422) and "not found" in message):
        return later(ErrorKind.NOT_FOUND)
    return later(ErrorKind.REFUSED if status in (400, 422) else ErrorKind.PUZZLING)


def throttle_wait(headers: Mapping[str, str]) -> float:
    """Seconds that the account waits after a 429. Its headers are not documented, so each of them may be missing."""
    day_is_used_up = _number(headers.get("X-RateLimit-Daily-Remaining", "")) == 0
    reset = _number(headers.get("X-RateLimit-Daily-Reset", ""))
    if day_is_used_up and reset is not None:
        return min(reset / 1000, LONGEST_DAY)
    asked = _wait_asked_for(headers)
    if asked:
        return asked
    if day_is_used_up:
        return DAILY_WAIT
    interval = _number(headers.get("X-RateLimit-Interval-Milliseconds", ""))
    return min(interval / 1000, LONGEST_WAIT) if interval else INTERVAL_WAIT


def sort_exception(
    error: requests.RequestException | urllib3.exceptions.HTTPError | OSError, *, endpoint: str
) -> RetryableLeadwayError:
    """The error to raise for what a connection raised.

    A request that was never sent was not executed: no address, a refused connection, no TLS, a connect time-out. Read
    time-outs and resets prove nothing. A TLS error proves it only if it is about the certificate: other TLS errors also
    happen after sending.
    """
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return RetryableLeadwayError(ErrorKind.PUZZLING, endpoint=endpoint)
    proofs = urllib3.exceptions.ConnectTimeoutError | ssl.SSLCertVerificationError  # the first includes "refused"
    reached = not any(isinstance(cause, proofs) for cause in _causes(error))
    return RetryableLeadwayError(ErrorKind.OUTAGE, endpoint=endpoint, reached=reached)


def is_of_the_api(body: bytes) -> bool:
    """Whether the API itself may have written the body: JSON, or nothing. Looks at the first sign only."""
    start = body[:64].lstrip(b"\xef\xbb\xbf \t\r\n")
    return start[:1] in (b"", b"{", b"[", b'"') or start.rstrip() == b"null"


_DENIALS = (
    (ErrorKind.VERSION, re.compile(r"version header")),
    (ErrorKind.SCOPE, re.compile(r"\bscopes?\b")),
    (ErrorKind.LOCATION, re.compile(r"access to this location|location is not active")),
    (
        ErrorKind.TOKEN,
        re.compile(r"private integration token|(access )?token is (invalid|expired)|invalid (token|jwt)"),
    ),
)
_UNKNOWN_CONTACT = re.compile(
    r"\bcontact(?: with)?(?: id)?:?(?: \S+)?(?: (?:is|was|could|can|does))? (?:(?:not|cannot) (?:be )?found|unknown"
    r"|not exist|doesn't exist|no longer exists?)|\b(?:no such|unknown) contact\b|\binvalid contact ?id\b"
    r"|\bcontact ?id\b(?: is)? (?:invalid|not valid)"
)
_TRACE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def _kind_of_denial(message: str) -> ErrorKind | None:
    return next((kind for kind, words in _DENIALS if words.search(message)), None)


def _read_error_body(body: bytes, headers: Mapping[str, str]) -> tuple[str, str | None]:
    """The message in lower case (422 sends a list of lines, other answers one string; empty: none) and the trace id."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        document = {}
    said = document.get("message")
    lines = said if isinstance(said, list) else [said]
    message = " ".join(line for line in lines if isinstance(line, str)).strip().lower()
    trace_id = str(document.get("traceId") or headers.get("X-Trace-Id") or "")
    return message, trace_id if _TRACE_ID.fullmatch(trace_id) else None


def _wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """`Retry-After` in seconds. A date in it is compared with the answer's own `Date`, both by Leadway's clock."""
    value = headers.get("Retry-After", "").strip()
    seconds = _number(value)
    if seconds is None and value:
        try:
            until, now = parsedate_to_datetime(value), datetime.now(UTC)
            if "Date" in headers:
                now = parsedate_to_datetime(headers["Date"])
            seconds = until.timestamp() - now.timestamp()
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else min(max(seconds, 0.0), LONGEST_WAIT)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and everything it wraps. requests and urllib3 keep causes in `args` and `reason` too."""
    waiting, seen = [error], set[int]()
    while waiting:
        cause = waiting.pop()
        if id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        inside = [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
        waiting.extend(item for item in inside if isinstance(item, BaseException))
