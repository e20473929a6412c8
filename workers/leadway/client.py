"""Asks Leadway, and writes to it: one method per endpoint, over one pooled session for the whole process.

Every request is bounded as a whole by the attempt's deadline, not read by read: threads have no other guard. Nothing is
repeated here and no redirect followed, for there is no idempotency key: the rows decide what is done again.
"""

import http.client
import io
import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http.cookiejar import DefaultCookiePolicy
from socket import socket
from typing import Any, TypeVar, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from models.calls.call_log import LEADWAY_ID, CallLog, Source
from workers.leadway import documents
from workers.leadway.documents import Appointment, Note, Page, Task
from workers.leadway.errors import (
    ErrorKind,
    PermanentLeadwayError,
    RetryableLeadwayError,
    UnreadableDocument,
    sort_exception,
    sort_response,
)

T = TypeVar("T")

CONNECT_SECONDS = 5.0
LARGEST_ANSWER = 16 * 1024 * 1024
"""Bytes, after decompression."""

Observer = Callable[[str, int | ErrorKind, float, Mapping[str, str]], None]
"""Told of every request: endpoint, HTTP status or what happened instead, seconds, the answer's headers."""


class CallType(StrEnum):
    LIVE = "LIVE"
    TRIAL = "TRIAL"


@dataclass(frozen=True)
class Endpoint:
    name: str
    method: str
    path: str

    @property
    def writes(self) -> bool:
        return self.method != "GET"


GET_CALL_LOG = Endpoint("get_call_log", "GET", "/voice-ai/dashboard/call-logs/{call_id}")
LIST_CALL_LOGS = Endpoint("list_call_logs", "GET", "/voice-ai/dashboard/call-logs")
GET_CONTACT = Endpoint("get_contact", "GET", "/contacts/{contact_id}")
LIST_NOTES = Endpoint("list_notes", "GET", "/contacts/{contact_id}/notes")
CREATE_NOTE = Endpoint("create_note", "POST", "/contacts/{contact_id}/notes")
LIST_TASKS = Endpoint("list_tasks", "GET", "/contacts/{contact_id}/tasks")
CREATE_TASK = Endpoint("create_task", "POST", "/contacts/{contact_id}/tasks")
ADD_TAGS = Endpoint("add_tags", "POST", "/contacts/{contact_id}/tags")
ENROL_IN_WORKFLOW = Endpoint("enrol_in_workflow", "POST", "/contacts/{contact_id}/workflow/{workflow_id}")
LIST_APPOINTMENTS = Endpoint("list_appointments", "GET", "/contacts/{contact_id}/appointments")
GET_APPOINTMENT = Endpoint("get_appointment", "GET", "/calendars/events/appointments/{event_id}")


class LeadwayClient:
    """Leadway for one account and one attempt, until its deadline. Cheap: what is shared is the session.

    Every method raises RetryableLeadwayError or PermanentLeadwayError, and may raise whatever `acquire` raises.

    `deadline` is absolute, by time.monotonic(). `token` is asked per request, so that a rotation needs no restart.
    `versions` overrides the Version header by endpoint name. `acquire(endpoint)` is called before every request and may
    wait or raise; `observe` after it. The location id goes into the query where wanted, never into a header (a
    Location-Id header can cause a 403).
    """

    def __init__(
        self,
        session: requests.Session,
        *,
        url: str,
        version: str,
        token: Callable[[], str],
        location_id: str,
        redaction_key: bytes,
        deadline: float,
        versions: Mapping[str, str] | None = None,
        acquire: Callable[[str], None] | None = None,
        observe: Observer | None = None,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._version = version
        self._versions = versions or {}
        self._token = token
        self._location_id = location_id
        self._redaction_key = redaction_key
        self._deadline = deadline
        self._acquire = acquire or (lambda endpoint: None)
        self._observe = observe or (lambda endpoint, outcome, seconds, headers: None)
        self._reserved = False

    def reserve(self) -> None:
        """Waits for the next request's slot now, so that nothing stands between an intent and its request."""
        self._acquire("reserve")
        self._reserved = True

    def get_call_log(self, call_id: str) -> CallLog:
        """GET /voice-ai/dashboard/call-logs/{callId}. Another call's log is an UnreadableDocument."""

        def read(answer: Any) -> CallLog:
            call_log = documents.read_call_log(answer, source=Source.FETCH, redaction_key=self._redaction_key)
            return _same(call_log, call_log.call_id == call_id)

        return self._ask(GET_CALL_LOG, {"call_id": call_id}, read=read, query={"locationId": self._location_id})

    def list_call_logs(
        self,
        *,
        since: datetime,
        until: datetime,
        call_type: CallType,
        page: int = 1,
        page_size: int = 50,
        contact_id: str | None = None,
    ) -> Page:
        """GET /voice-ai/dashboard/call-logs, oldest first. Pages count from 1 and hold at most 50.

        Whether both ends belong to the window is not documented: compare `started_at` with it yourself.
        """
        query = {
            "locationId": self._location_id,
            "startDate": str(math.floor(since.timestamp() * 1000)),
            "endDate": str(math.ceil(until.timestamp() * 1000)),
            "callType": call_type.value,
            "sortBy": "createdAt",
            "sort": "ascend",
            "page": str(page),
            "pageSize": str(page_size),
        }
        if contact_id is not None:
            query["contactId"] = _checked_id(contact_id, LIST_CALL_LOGS)

        def read(answer: Any) -> Page:
            return documents.read_list_page(answer, page=page, page_size=page_size, redaction_key=self._redaction_key)

        return self._ask(LIST_CALL_LOGS, {}, read=read, query=query)

    def get_contact(self, contact_id: str) -> Mapping[str, Any]:
        """GET /contacts/{contactId}: the raw contact."""
        return self._ask(GET_CONTACT, {"contact_id": contact_id}, read=lambda answer: _inner(answer, "contact"))

    def list_notes(self, contact_id: str) -> tuple[Note, ...]:
        """GET /contacts/{contactId}/notes: all of them or an error, never a part."""
        return self._list(LIST_NOTES, contact_id, name="notes", read=documents.read_note)

    def create_note(self, contact_id: str, *, body: str) -> str:
        """POST /contacts/{contactId}/notes: the new note's id."""

        def read(answer: Any) -> str:
            return documents.read_note(_inner(answer, "note")).note_id

        return self._ask(CREATE_NOTE, {"contact_id": contact_id}, read=read, payload={"body": body})

    def list_tasks(self, contact_id: str) -> tuple[Task, ...]:
        """GET /contacts/{contactId}/tasks: all of them or an error, never a part."""
        return self._list(LIST_TASKS, contact_id, name="tasks", read=documents.read_task)

    def create_task(
        self, contact_id: str, *, title: str, body: str, due_at: datetime, assigned_to: str | None = None
    ) -> str:
        """POST /contacts/{contactId}/tasks: the new task's id. `assigned_to` is a user's id."""
        payload = {"title": title, "body": body, "dueDate": _iso(due_at), "completed": False}
        if assigned_to is not None:
            payload["assignedTo"] = assigned_to

        def read(answer: Any) -> str:
            return documents.read_task(_inner(answer, "task")).task_id

        return self._ask(CREATE_TASK, {"contact_id": contact_id}, read=read, payload=payload)

    def add_tags(self, contact_id: str, *, tags: Sequence[str]) -> None:
        """POST /contacts/{contactId}/tags: adds to what is there; repeating it is harmless."""
        self._ask(ADD_TAGS, {"contact_id": contact_id}, read=lambda answer: None, payload={"tags": list(tags)})

    def enrol_in_workflow(self, contact_id: str, *, workflow_id: str, starts_at: datetime | None = None) -> None:
        """POST /contacts/{contactId}/workflow/{workflowId}. Its answer is spelt `succeded`, from v3 on also right."""

        def read(answer: Any) -> None:
            if isinstance(answer, dict) and False in (answer.get("succeded"), answer.get("succeeded")):
                raise RetryableLeadwayError(ErrorKind.REFUSED, endpoint=ENROL_IN_WORKFLOW.name)

        ids = {"contact_id": contact_id, "workflow_id": workflow_id}
        payload = {} if starts_at is None else {"eventStartTime": _iso(starts_at)}
        self._ask(ENROL_IN_WORKFLOW, ids, read=read, payload=payload)

    def list_appointments(self, contact_id: str) -> tuple[Appointment, ...]:
        """GET /contacts/{contactId}/appointments: all of them or an error. Their times may lack a zone."""
        return self._list(LIST_APPOINTMENTS, contact_id, name="events", read=documents.read_appointment)

    def get_appointment(self, event_id: str) -> Appointment:
        """GET /calendars/events/appointments/{eventId}: one appointment, with exact instants."""

        def read(answer: Any) -> Appointment:
            appointment = documents.read_appointment(_inner(answer, "event"))
            return _same(appointment, appointment.appointment_id == event_id)

        return self._ask(GET_APPOINTMENT, {"event_id": event_id}, read=read)

    def _list(self, endpoint: Endpoint, contact_id: str, *, name: str, read: Callable[[Any], T]) -> tuple[T, ...]:
        def read_entry(entry: Any) -> T:
            owner = entry.get("contactId") if isinstance(entry, dict) else None
            return _same(read(entry), owner in (None, contact_id))

        ids = {"contact_id": contact_id}
        return self._ask(endpoint, ids, read=lambda answer: documents.read_whole_list(answer, name, read=read_entry))

    def _ask(
        self,
        endpoint: Endpoint,
        ids: Mapping[str, str],
        *,
        read: Callable[[Any], T],
        query: Mapping[str, str] | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> T:
        """Send one request and read its answer. Errors are raised outside of `except`, so that what they came from,
        which may quote a header or the body, does not hang on to them."""
        path = endpoint.path.format(**{name: _checked_id(value, endpoint) for name, value in ids.items()})
        headers = self._headers(endpoint, payload)
        if not self._reserved:
            self._acquire(endpoint.name)
        self._reserved = False
        status, answer_headers, body = self._send(endpoint, path, query, payload, headers)
        if not 200 <= status < 300:
            raise sort_response(status, answer_headers, body, endpoint=endpoint.name, writes=endpoint.writes)
        try:
            return read(_parse(body))
        except UnreadableDocument:
            pass
        raise UnreadableDocument(endpoint=endpoint.name, http_status=status)

    def _headers(self, endpoint: Endpoint, payload: Mapping[str, Any] | None) -> dict[str, str]:
        token = self._token()
        if not _SENDABLE.fullmatch(token):  # else the error that says so would quote it
            raise PermanentLeadwayError(ErrorKind.TOKEN, endpoint=endpoint.name, reached=False)
        version = self._versions.get(endpoint.name, self._version)
        headers = {"Authorization": f"Bearer {token}", "Version": version, "Accept": "application/json"}
        return headers if payload is None else headers | {"Content-Type": "application/json"}

    def _send(
        self,
        endpoint: Endpoint,
        path: str,
        query: Mapping[str, str] | None,
        payload: Mapping[str, Any] | None,
        headers: Mapping[str, str],
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and the whole body, or raise RetryableLeadwayError."""
        started = time.monotonic()
        remaining = self._deadline - started
        if remaining <= 0:
            raise RetryableLeadwayError(ErrorKind.NO_TIME, endpoint=endpoint.name, reached=False)
        timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, remaining), total=remaining)
        status, answer_headers, body, error = 0, cast(Mapping[str, str], {}), b"", None
        try:
            # Prepared without the session's merging, which costs a quarter of the call: ours has nothing but headers.
            request = requests.Request(
                endpoint.method,
                self._url + path,
                params=query,
                data=None if payload is None else json.dumps(payload).encode(),
                headers={**self._session.headers, **headers},
            )
            with self._session.send(
                request.prepare(),
                timeout=cast(Any, timeout),  # requests passes it on as it is; its types do not know
                allow_redirects=False,
                stream=True,
            ) as response:
                status, answer_headers = response.status_code, response.headers
                body = _read_body(response)
        except _TooLarge:
            error = RetryableLeadwayError(ErrorKind.PUZZLING, endpoint=endpoint.name, http_status=status)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as cause:
            error = sort_exception(cause, endpoint=endpoint.name)
        if not 200 <= status < 300 and status:
            error = None  # a refusal whose body was cut is still that refusal
        self._observe(endpoint.name, error.kind if error else status, time.monotonic() - started, answer_headers)
        if error is not None:
            raise error
        return status, answer_headers, body


_SENDABLE = re.compile(r"[\x21-\x7e]+")


class _TooLarge(Exception):
    """The answer is larger than LARGEST_ANSWER."""


def _read_body(response: requests.Response) -> bytes:
    body = bytearray()
    for piece in response.iter_content(65536):
        body += piece
        if len(body) > LARGEST_ANSWER:
            raise _TooLarge
    return bytes(body)


def _parse(body: bytes) -> Any:
    """An empty body is null: a 2xx without words is fine where nothing is read from it."""
    try:
        return json.loads(body, parse_int=_parse_integer) if body.strip() else None
    except (ValueError, RecursionError):
        raise UnreadableDocument from None


def _parse_integer(digits: str) -> float:
    """Python refuses integers of more than 4,300 digits; such a number becomes infinity, and later null."""
    return int(digits) if len(digits) <= 400 else math.inf


def _inner(answer: Any, name: str) -> Mapping[str, Any]:
    inner = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(inner, dict):
        raise UnreadableDocument
    return inner


def _same(value: T, is_what_was_asked_for: bool) -> T:
    if not is_what_was_asked_for:
        raise UnreadableDocument
    return value


def _checked_id(value: str, endpoint: Endpoint) -> str:
    if not LEADWAY_ID.fullmatch(value):
        raise PermanentLeadwayError(ErrorKind.WRONG_KIND, endpoint=endpoint.name, reached=False)
    return value


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- how bytes travel ---


def open_session(*, pool_size: int) -> requests.Session:
    """Open the process's session: as many pooled connections as threads ask. Open it after any fork.

    It reads nothing from the environment: a netrc entry would replace the Authorization header, a proxy variable send
    tokens elsewhere. It keeps no cookies, which accounts would share. Nothing is retried (requests' default).
    """
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["User-Agent"] = "leadway-calls"
    adapter = _BoundedAdapter(pool_connections=4, pool_maxsize=pool_size)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _BoundedReader(io.RawIOBase):
    """A socket's bytes until a point in time: each read gets what is left of it, so that dripping does not help."""

    def __init__(self, raw: io.RawIOBase, sock: socket, deadline: float) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(remaining)
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    """Headers and body together within the read time-out, which `http.client` grants to every read anew."""

    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        limit = sock.gettimeout()
        if limit is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_BoundedReader(raw, sock, time.monotonic() + limit))


class _BoundedConnection(HTTPConnection):
    """Says exactly whether a request was sent: whatever fails in `connect`, TLS included, is a NewConnectionError."""

    response_class = _BoundedResponse

    def connect(self) -> None:
        started = time.monotonic()
        try:
            super().connect()
        except OSError as cause:
            self.close()
            raise NewConnectionError(self, "no connection") from cause
        # Names and several addresses are tried without a common limit: after that, it is too late to send.
        if self.timeout is not None and time.monotonic() - started > self.timeout:
            self.close()
            raise ConnectTimeoutError(self, "connected too late")

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:  # a used connection still has what was left for its last answer
            self.sock.settimeout(self.timeout)
        super().request(*args, **kwargs)


class _BoundedSecureConnection(_BoundedConnection, HTTPSConnection):
    """The same over TLS."""


class _BoundedPool(HTTPConnectionPool):
    ConnectionCls = _BoundedConnection


class _BoundedSecurePool(HTTPSConnectionPool):
    ConnectionCls = _BoundedSecureConnection


class _BoundedAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        pools = {"http": _BoundedPool, "https": _BoundedSecurePool}
        self.poolmanager.pool_classes_by_scheme = pools
