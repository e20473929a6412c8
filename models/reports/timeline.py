"""The timeline of one call: everything that is known about the call, and what happened to it in order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from models.calls import calls
from models.follow_ups import follow_ups
from models.intake import notifications
from models.work import history


@dataclass(frozen=True)
class Timeline:
    """The rows of a call as they are in the tables, each list in order of time."""

    call: sa.RowMapping
    notifications: Sequence[sa.RowMapping]
    attempts: Sequence[sa.RowMapping]
    """Of the call and of its follow-ups."""
    actions: Sequence[sa.RowMapping]
    follow_ups: Sequence[sa.RowMapping]


@dataclass(frozen=True)
class Event:
    """Something that happened to the call."""

    at: datetime
    text: str
    """Holds ids, counts and words of our own, never a person's words."""


def of_call(connection: Connection, call: sa.RowMapping) -> Timeline:
    """Reads the timeline of `call`, a row of `calls`."""
    key = (call["location_id"], call["call_id"])
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
    steps = (
        ("created_at", f"heard of, by {call['origin']}"),
        ("stored_at", "log stored"),
        ("settled_at", "log settled"),
    )
    found = [Event(call[name], text) for name, text in steps if call[name] is not None]
    found += [_of_notification(row) for row in timeline.notifications]
    found += [Event(row["planned_at"], f"follow-up {row['follow_up_id']} planned") for row in timeline.follow_ups]
    found += [of_attempt(row) for row in timeline.attempts]
    found += [
        Event(row["done_at"], f"follow-up {row['follow_up_id']} done{_remote(row)}")
        for row in timeline.follow_ups
        if row["done_at"] is not None
    ]
    return sorted(found, key=lambda event: event.at)


def of_attempt(row: sa.RowMapping) -> Event:
    """The event of a row of `attempts`, at the attempt's end: an attempt that lost its lease has no known start."""
    what = f"follow-up {row['follow_up_id']}" if row["follow_up_id"] else "fetch"
    facts = [row["error"]]
    if row["http_status"] is not None:
        facts.append(f"HTTP {row['http_status']}")
    if row["started_at"] is not None:
        facts.append(f"{max(0.0, (row['ended_at'] - row['started_at']).total_seconds()):.1f} s")
    if row["trace_id"]:
        facts.append(f"trace {row['trace_id']}")
    details = ", ".join(fact for fact in facts if fact)
    return Event(row["ended_at"], f"{what}: {row['outcome']}" + (f" ({details})" if details else ""))


def _of_notification(row: sa.RowMapping) -> Event:
    repeats = f", repeated {row['repeats']} times" if row["repeats"] else ""
    reason = f": {row['reason']}" if row["reason"] else ""
    text = f"notification {row['status']}{reason} ({row['dialect']}, by {row['authenticated_by']}{repeats})"
    return Event(row["received_at"], text)


def _remote(row: sa.RowMapping) -> str:
    return f": {row['kind']} {row['remote_id']}" if row["remote_id"] else ""
