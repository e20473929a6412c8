"""The timeline of one call: everything that is known about the call, and what happened to it in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from models.calls import calls
from models.calls.calls import Call, CallAction
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp
from models.intake import notifications
from models.intake.notifications import StoredNotification
from models.work import history
from models.work.history import Attempt


@dataclass(frozen=True)
class Timeline:
    """A call and the rows of other tables that belong to it, each list in order of time."""

    call: Call
    notifications: Sequence[StoredNotification]
    attempts: Sequence[Attempt]
    """Of the call and of its follow-ups."""
    actions: Sequence[CallAction]
    follow_ups: Sequence[FollowUp]


@dataclass(frozen=True)
class Event:
    """Something that happened to the call."""

    at: datetime
    text: str
    """Holds ids, counts and words of our own, never a person's words."""


def of_call(connection: Connection, call: Call) -> Timeline:
    key = (call.location_id, call.call_id)
    return Timeline(
        call=call,
        notifications=notifications.of_call(connection, *key),
        attempts=history.of_call(connection, *key),
        actions=calls.actions_of(connection, *key),
        follow_ups=follow_ups.of_call(connection, *key),
    )


def events(timeline: Timeline) -> list[Event]:
    """What happened, oldest first."""
    call = timeline.call
    steps = [
        (call.created_at, f"heard of, by {call.origin}"),
        (call.stored_at, "log stored"),
        (call.settled_at, "log settled"),
        *((each.received_at, _taken_in(each)) for each in timeline.notifications),
        *((each.planned_at, f"follow-up {each.follow_up_id} planned") for each in timeline.follow_ups),
        *((each.ended_at, of_attempt(each)) for each in timeline.attempts),
        *((each.done_at, f"follow-up {each.follow_up_id} done{_remote(each)}") for each in timeline.follow_ups),
    ]
    return sorted((Event(at, text) for at, text in steps if at is not None), key=lambda event: event.at)


def of_attempt(attempt: Attempt) -> str:
    """The text of an attempt's event, which stands at the attempt's end: who lost the lease has no known start."""
    facts = [
        attempt.error,
        attempt.http_status and f"HTTP {attempt.http_status}",
        attempt.started_at and f"{max(0.0, (attempt.ended_at - attempt.started_at).total_seconds()):.1f} s",
        attempt.trace_id and f"trace {attempt.trace_id}",
    ]
    details = ", ".join(str(fact) for fact in facts if fact)
    what = f"follow-up {attempt.follow_up_id}" if attempt.follow_up_id else "fetch"
    return f"{what}: {attempt.outcome}" + (f" ({details})" if details else "")


def _taken_in(notification: StoredNotification) -> str:
    repeats = f", repeated {notification.repeats} times" if notification.repeats else ""
    reason = f": {notification.reason}" if notification.reason else ""
    how = f"{notification.dialect}, by {notification.authenticated_by}{repeats}"
    return f"notification {notification.status}{reason} ({how})"


def _remote(follow_up: FollowUp) -> str:
    return f": {follow_up.kind} {follow_up.remote_id}" if follow_up.remote_id else ""
