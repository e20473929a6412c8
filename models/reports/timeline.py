"""The timeline of one call: everything that is known about the call, and what happened to it in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from models.calls import calls
from models.calls.calls import CALL, Call, CallAction
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUp, FollowUpState
from models.intake import notifications
from models.intake.notifications import StoredNotification
from models.reports.call_filter import COMPLETE
from models.work import history, open_work
from models.work.history import EndedAttempt
from models.work.open_work import OpenWork
from models.work.work_rows import Request, WorkStatus


@dataclass(frozen=True)
class _Owed:
    """Something with its work, while that is open or dead. None: nothing is left to do."""

    work: OpenWork | None

    @property
    def is_running(self) -> bool:
        return self.work is not None and self.work.status is WorkStatus.RUNNING

    @property
    def due_at(self) -> datetime | None:
        """While it runs: the end of its lease."""
        return self.work.due_at if self.work else None

    @property
    def attempts(self) -> int | None:
        return self.work.attempts if self.work else None

    @property
    def last_error(self) -> str | None:
        return self.work.last_error if self.work else None

    @property
    def dead_cause(self) -> str | None:
        return self.work.dead_cause if self.work else None


@dataclass(frozen=True)
class KnownCall(_Owed):
    """A call that is known: stored, or still to be read, or both."""

    location_id: str
    call_id: str
    stored: Call | None

    @property
    def status(self) -> str:
        """complete, or the status of its work."""
        return COMPLETE if self.work is None else str(self.work.status)

    @property
    def first_heard_at(self) -> datetime | None:
        if self.stored is not None:
            return self.stored.first_heard_at
        return self._request.first_heard_at if self._request else None

    @property
    def origin(self) -> str | None:
        if self.stored is not None:
            return self.stored.origin
        return self._request.origin if self._request else None

    @property
    def is_settled(self) -> bool:
        return self.stored is not None and self.stored.settled_at is not None

    @property
    def _request(self) -> Request | None:
        return self.work.request if self.work else None


@dataclass(frozen=True)
class OwedFollowUp(_Owed):
    """A follow-up with its work."""

    follow_up: FollowUp

    @property
    def status(self) -> str:
        """The follow-up's own; of a pending one running while a worker has it."""
        is_pending = self.follow_up.status is FollowUpState.PENDING
        return WorkStatus.RUNNING if is_pending and self.is_running else self.follow_up.status

    @property
    def needs_a_person(self) -> bool:
        """Whether its outcome is unclear and only a person can settle it."""
        return self.follow_up.is_unclear and self.due_at is None


@dataclass(frozen=True)
class Timeline:
    """A call and the rows of other tables that belong to it, each list in order of time."""

    call: KnownCall
    notifications: Sequence[StoredNotification]
    attempts: Sequence[EndedAttempt]
    """Of the call and of its follow-ups."""
    actions: Sequence[CallAction]
    follow_ups: Sequence[OwedFollowUp]


@dataclass(frozen=True)
class Event:
    """Something that happened to the call."""

    at: datetime
    text: str
    """Holds ids, counts and words of our own, never a person's words."""


def known_call(connection: Connection, location_id: str, call_id: str) -> KnownCall | None:
    """The call, if it is stored or still to be read."""
    stored = calls.get(connection, location_id, call_id)
    work = open_work.of_subjects(connection, CALL, location_id, [call_id]).get(call_id)
    return None if stored is None and work is None else KnownCall(work, location_id, call_id, stored)


def owed(connection: Connection, follow_up: FollowUp) -> OwedFollowUp:
    """The follow-up with its work."""
    return OwedFollowUp(open_work.get(connection, follow_up.key), follow_up)


def of_call(connection: Connection, call: KnownCall) -> Timeline:
    key = (call.location_id, call.call_id)
    planned = follow_ups.of_call(connection, *key)
    ids = [each.follow_up_id for each in planned]
    work = open_work.of_subjects(connection, FOLLOW_UP, call.location_id, ids)
    return Timeline(
        call=call,
        notifications=notifications.of_call(connection, *key),
        attempts=history.of_subjects(connection, call.location_id, [call.call_id, *ids]),
        actions=calls.actions_of(connection, *key),
        follow_ups=[OwedFollowUp(work.get(each.follow_up_id), each) for each in planned],
    )


def events(timeline: Timeline) -> list[Event]:
    """What happened, oldest first."""
    call, follow_ups = timeline.call, [each.follow_up for each in timeline.follow_ups]
    log = call.stored
    steps: list[tuple[datetime | None, str]] = [
        (call.first_heard_at, f"heard of, by {call.origin}"),
        (log.stored_at if log else None, "log stored"),
        (log.settled_at if log else None, "log settled"),
        *((each.received_at, _taken_in(each)) for each in timeline.notifications),
        *((each.planned_at, f"follow-up {each.follow_up_id} planned") for each in follow_ups),
        *((each.ended_at, of_attempt(each)) for each in timeline.attempts),
        *((each.done_at, f"follow-up {each.follow_up_id} done{_remote(each)}") for each in follow_ups),
    ]
    return sorted((Event(at, text) for at, text in steps if at is not None), key=lambda event: event.at)


def of_attempt(attempt: EndedAttempt) -> str:
    """The text of an attempt's event, which stands at the attempt's end: who lost the lease has no known start."""
    facts = [
        attempt.error,
        attempt.http_status and f"HTTP {attempt.http_status}",
        attempt.started_at and f"{max(0.0, (attempt.ended_at - attempt.started_at).total_seconds()):.1f} s",
        attempt.trace_id and f"trace {attempt.trace_id}",
    ]
    details = ", ".join(str(fact) for fact in facts if fact)
    what = f"follow-up {attempt.subject}" if attempt.kind == FOLLOW_UP.name else "fetch"
    return f"{what}: {attempt.outcome}" + (f" ({details})" if details else "")


def _taken_in(notification: StoredNotification) -> str:
    repeats = f", repeated {notification.repeats} times" if notification.repeats else ""
    reason = f": {notification.reason}" if notification.reason else ""
    how = f"{notification.dialect}, by {notification.authenticated_by}{repeats}"
    return f"notification {notification.status}{reason} ({how})"


def _remote(follow_up: FollowUp) -> str:
    return f": {follow_up.kind} {follow_up.remote_id}" if follow_up.remote_id else ""
