"""Asks Leadway, and writes to it: one method per endpoint."""

import json
import math
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any, TypeVar

import requests

from models.accounts.accounts import Account
from models.calls.call_log import CallLog, Source
from models.settings.values import LEADWAY_ID
from workers.leadway import documents
from workers.leadway.documents import Appointment, Note, Page, Task
from workers.leadway.errors import (
    ErrorKind,
    LeadwayError,
    PermanentLeadwayError,
    RetryableLeadwayError,
    UnreadableDocument,
    is_of_the_api,
    sort_response,
)
from workers.leadway.transport import LARGEST_ANSWER, Observer, exchange

T = TypeVar("T")

MIB = 1024 * 1024
MOST_VALUES = 250_000
"""Values in one answer. Each costs a hundred times its bytes when it is read; a page of 50 long calls has 30,000."""
LARGE = MIB
"""Bytes of an answer that is read while no other large one is: together they could fill the memory."""
_one_large = threading.Lock()


class CallType(StrEnum):
    LIVE = "LIVE"
    TRIAL = "TRIAL"


@dataclass(frozen=True)
class Endpoint:
    name: str
    method: str
    path: str
    largest: int = 4 * MIB
    """Bytes of its answer; a larger one is not read."""

    @property
    def writes(self) -> bool:
        return self.method != "GET"


GET_CALL_LOG = Endpoint("get_call_log", "GET", "/voice-ai/dashboard/call-logs/{call_id}")
LIST_CALL_LOGS = Endpoint("list_call_logs", "GET", "/voice-ai/dashboard/call-logs", largest=LARGEST_ANSWER)
LIST_NOTES = Endpoint("list_notes", "GET", "/contacts/{contact_id}/notes")
CREATE_NOTE = Endpoint("create_note", "POST", "/contacts/{contact_id}/notes")
LIST_TASKS = Endpoint("list_tasks", "GET", "/contacts/{contact_id}/tasks")
CREATE_TASK = Endpoint("create_task", "POST", "/contacts/{contact_id}/tasks")
ADD_TAGS = Endpoint("add_tags", "POST", "/contacts/{contact_id}/tags")
ENROL_IN_WORKFLOW = Endpoint("enrol_in_workflow", "POST", "/contacts/{contact_id}/workflow/{workflow_id}")
LIST_APPOINTMENTS = Endpoint("list_appointments", "GET", "/contacts/{contact_id}/appointments")
GET_APPOINTMENT = Endpoint("get_appointment", "GET", "/calendars/events/appointments/{event_id}")


class LeadwayClient:
    """Leadway for one account and one attempt, until its deadline. Cheap to make: the session is shared.

    Every method raises RetryableLeadwayError or PermanentLeadwayError, and whatever `acquire` and `token` raise.

    `deadline`: by time.monotonic(). `token()`: called for each request, so that a rotation needs no restart.
    `acquire()`: called before each request; takes its slot of the budget, waits or raises. `observe`: called after
    each request. `zone`: of times that name none. The location id goes into the query where wanted, never into a header
    (a Location-Id header can cause a 403).
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
        zone: tzinfo,
        deadline: float,
        acquire: Callable[[], None],
        observe: Observer,
    ) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._version = version
        self._token = token
        self._location_id = location_id
        self._reading: dict[str, Any] = {"redaction_key": redaction_key, "zone": zone}
        self._deadline = deadline
        self._acquire = acquire
        self._observe = observe
        self._reserved = False

    def reserve(self) -> None:
        """Takes the next request's slot of the budget now, so that no wait lies between an intent and its request."""
        self._acquire()
        self._reserved = True

    def get_call_log(self, call_id: str) -> CallLog:
        """GET /voice-ai/dashboard/call-logs/{callId}. The log of another call is an UnreadableDocument."""

        def read(answer: Any) -> CallLog:
            call_log = documents.read_call_log(answer, source=Source.FETCH, **self._reading)
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
        """GET /voice-ai/dashboard/call-logs, oldest first. Pages count from 1 and hold at most 50 calls, or fewer
        than were asked for.

        Whether both ends belong to the window is not documented: callers compare `started_at` with their bounds.
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
            return documents.read_list_page(answer, page=page, **self._reading)

        return self._ask(LIST_CALL_LOGS, {}, read=read, query=query)

    def probe(self, account: Account) -> None:
        """GET /voice-ai/dashboard/call-logs for one second: the harmless request that tells whether Leadway lets us in.

        It needs the token, the location, the Version header and the scope voice-ai-dashboard.readonly.
        """
        since = account.added_at
        self.list_call_logs(since=since, until=since + timedelta(seconds=1), call_type=CallType.LIVE, page_size=1)

    def list_notes(self, contact_id: str) -> tuple[Note, ...]:
        """GET /contacts/{contactId}/notes: all of them or an error, never a part."""
        return self._list(LIST_NOTES, contact_id, name="notes", read=documents.read_note)

    def create_note(self, contact_id: str, *, body: str) -> Note:
        """POST /contacts/{contactId}/notes: the new note as Leadway returns it."""

        def read(answer: Any) -> Note:
            return documents.read_note(_inner(answer, "note"))

        return self._ask(CREATE_NOTE, {"contact_id": contact_id}, read=read, payload={"body": body})

    def list_tasks(self, contact_id: str) -> tuple[Task, ...]:
        """GET /contacts/{contactId}/tasks: all of them or an error, never a part."""
        return self._list(LIST_TASKS, contact_id, name="tasks", read=documents.read_task)

    def create_task(
        self, contact_id: str, *, title: str, body: str, due_at: datetime, assigned_to: str | None = None
    ) -> Task:
        """POST /contacts/{contactId}/tasks: the new task as Leadway returns it. `assigned_to` is a user's id."""
        payload = {"title": title, "body": body, "dueDate": _iso(due_at), "completed": False}
        if assigned_to is not None:
            payload["assignedTo"] = assigned_to

        def read(answer: Any) -> Task:
            return documents.read_task(_inner(answer, "task"))

        return self._ask(CREATE_TASK, {"contact_id": contact_id}, read=read, payload=payload)

    def add_tags(self, contact_id: str, *, tags: Sequence[str]) -> None:
        """POST /contacts/{contactId}/tags: adds to the contact's tags; a repetition is harmless."""
        self._ask(ADD_TAGS, {"contact_id": contact_id}, read=lambda answer: None, payload={"tags": list(tags)})

    def enrol_in_workflow(self, contact_id: str, *, workflow_id: str) -> None:
        """POST /contacts/{contactId}/workflow/{workflowId}. Its answer spells `succeded`, from v3 on `succeeded`."""

        def read(answer: Any) -> None:
            if isinstance(answer, dict) and False in (answer.get("succeded"), answer.get("succeeded")):
                raise RetryableLeadwayError(ErrorKind.REFUSED, endpoint=ENROL_IN_WORKFLOW.name)

        ids = {"contact_id": contact_id, "workflow_id": workflow_id}
        self._ask(ENROL_IN_WORKFLOW, ids, read=read, payload={})

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
        """Sends one request and reads its answer.

        Errors are raised outside of `except`: their causes may quote a header or the body, and would stay attached.
        """
        path = endpoint.path.format(**{name: _checked_id(value, endpoint) for name, value in ids.items()})
        headers = self._headers(endpoint, payload)
        if not self._reserved:
            self._acquire()
        self._reserved = False
        data = None if payload is None else json.dumps(payload).encode()
        request = requests.Request(endpoint.method, self._url + path, params=query, data=data, headers=headers)
        seconds = self._deadline - time.monotonic()  # the last check before connecting: a thawed process stops here
        if seconds <= 0:
            raise RetryableLeadwayError(ErrorKind.NO_TIME, endpoint=endpoint.name, reached=False)
        answer = exchange(
            self._session, request, endpoint=endpoint.name, seconds=seconds, largest=endpoint.largest,
            observe=self._observe,
        )  # fmt: skip
        if not 200 <= answer.status < 300:
            raise sort_response(
                answer.status, answer.headers, answer.body, endpoint=endpoint.name, writes=endpoint.writes
            )
        if not is_of_the_api(answer.body):
            raise RetryableLeadwayError(ErrorKind.OUTAGE, endpoint=endpoint.name, http_status=answer.status)
        if _values_at_most(answer.body) > MOST_VALUES:
            raise PermanentLeadwayError(ErrorKind.TOO_LARGE, endpoint=endpoint.name, http_status=answer.status)
        try:
            with self._one_at_a_time(answer.body, endpoint):
                return read(_parse(answer.body))
        except UnreadableDocument:
            error: LeadwayError = UnreadableDocument(endpoint=endpoint.name, http_status=answer.status)
        except RecursionError:
            error = PermanentLeadwayError(ErrorKind.TOO_LARGE, endpoint=endpoint.name, http_status=answer.status)
        raise error

    @contextmanager
    def _one_at_a_time(self, body: bytes, endpoint: Endpoint) -> Iterator[None]:
        """For a large answer, of all threads of the process. Raises RetryableLeadwayError at the deadline."""
        if len(body) <= LARGE:
            yield
            return
        if not _one_large.acquire(timeout=max(0.0, self._deadline - time.monotonic())):
            raise RetryableLeadwayError(ErrorKind.NO_TIME, endpoint=endpoint.name)
        try:
            yield
        finally:
            _one_large.release()

    def _headers(self, endpoint: Endpoint, payload: Mapping[str, Any] | None) -> dict[str, str]:
        token = self._token()
        if not _SENDABLE.fullmatch(token):  # http.client would refuse it, with an error that quotes it
            raise PermanentLeadwayError(ErrorKind.TOKEN, endpoint=endpoint.name, reached=False)
        headers = {"Authorization": f"Bearer {token}", "Version": self._version, "Accept": "application/json"}
        return headers if payload is None else headers | {"Content-Type": "application/json"}


_SENDABLE = re.compile(r"[\x21-\x7e]+")


def _values_at_most(body: bytes) -> int:
    """No JSON document of these bytes has more values. Signs inside of texts are counted too."""
    return body.count(b",") + body.count(b"[") + body.count(b"{") + 1


def _parse(body: bytes) -> Any:
    """Parses JSON; an empty body is null, which is fine for a 2xx that nothing is read from.

    Raises UnreadableDocument, and RecursionError if it is nested too deep.
    """
    try:
        return json.loads(body, parse_int=_parse_integer) if body.strip() else None
    except ValueError:
        raise UnreadableDocument from None


def _parse_integer(digits: str) -> float:
    """Python refuses integers of more than 4,300 digits. Such a number becomes infinity, and later null."""
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
