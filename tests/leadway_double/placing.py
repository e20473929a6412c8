"""Places calls in the double's memory: the log with its versions over time, the contact, the appointment."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.leadway_double import calls
from tests.leadway_double.memory import Memory
from tests.leadway_double.nouns import Appointment, Contact, Location, PlacedCall
from tests.leadway_double.phrases import LANGUAGES
from tests.leadway_double.wire import compact


@dataclass(frozen=True)
class Wish:
    """How a call shall be; what is left open is drawn by chance.

    - `actions`: types in order; `[]` none. `booked`: whether APPOINTMENT_BOOKING really led to an appointment.
    - `contact`: True a new or known one by chance, False none, or a contact id. `language`: en, es, pt, fr.
    - `started_at` (aware, or ISO text), or `ago`: seconds since the call *ended*.
    - `late`: answers 404 and is not listed for so many seconds from now; `listed_late`: the list's own lateness.
    - `empty_for`: transcript and summary are empty for so long; `actions_late`: no actions for so long;
      `booking_late`: the appointment shows so much later.
    - `fields`: top-level names of the log to set (also unknown ones); a value of None stays null.
    """

    call_id: str | None = None
    actions: Sequence[str] | None = None
    booked: bool | None = None
    contact: bool | str | None = None
    language: str | None = None
    trial: bool = False
    started_at: datetime | str | None = None
    ago: float = 0.0
    duration: int | None = None
    late: float = 0.0
    listed_late: float | None = None
    empty_for: float = 0.0
    actions_late: float = 0.0
    booking_late: float = 0.0
    action_ids: str = "unique"
    fields: Mapping[str, Any] | None = None


class CallPlacer:
    """Draws from one seeded source, so a seed names a whole day of calls."""

    def __init__(self, memory: Memory, *, seed: int) -> None:
        self._memory = memory
        self._chance = random.Random(f"calls {seed}")
        self._agents: dict[str, list[str]] = {}
        self._callers: dict[str, list[str]] = {}

    def place(self, location: Location, wish: Wish) -> PlacedCall:
        with self._memory.lock:
            chance, now = self._chance, self._memory.now()
            language = wish.language or chance.choices(list(LANGUAGES), weights=(45, 45, 5, 5))[0]
            plan = self._plan(location, wish, language=language, now=now)
            contact = self._contact(location, wish, plan)
            log = calls.call_log(chance, plan, contact) | dict(wish.fields or {})
            late = now + wish.late
            call = PlacedCall(
                call_id=plan.call_id,
                location_id=location.location_id,
                contact_id=log.get("contactId"),
                agent_id=plan.agent_id,
                created_at=plan.started_at,
                duration=plan.duration,
                trial=plan.trial,
                action_types=tuple(plan.actions),
                placed_at=now,
                readable_at=late if wish.late else 0.0,
                versions=_versions(log, wish, now),
                appointment_ids=self._book(location, plan, contact, visible_at=now + wish.booking_late),
            )
            self._memory.add_call(call, listed_at=late if wish.listed_late is None else now + wish.listed_late)
            return call

    def _plan(self, location: Location, wish: Wish, *, language: str, now: float) -> calls.Plan:
        chance = self._chance
        duration = wish.duration if wish.duration is not None else chance.randint(25, 420)
        booked = wish.booked if wish.booked is not None else chance.random() < 0.8
        return calls.Plan(
            call_id=wish.call_id or self._memory.new_id(),
            message_id=self._memory.new_id(),
            agent_id=self._agent(location),
            language=language,
            started_at=_start(wish, now - duration),
            duration=duration,
            trial=wish.trial,
            actions=wish.actions if wish.actions is not None else chance.choice(calls.TYPICAL_ACTIONS),
            booked=booked,
            action_ids=wish.action_ids,
            workflow_id=next(iter(location.workflows), ""),
            new_id=self._memory.new_id,
        )

    def _agent(self, location: Location) -> str:
        agents = self._agents.setdefault(location.location_id, [])
        if not agents:
            agents.extend(self._memory.new_id() for _ in range(2))
        return self._chance.choice(agents)

    def _contact(self, location: Location, wish: Wish, plan: calls.Plan) -> Contact | None:
        if wish.contact is False or (wish.contact is None and self._chance.random() < 0.1):
            return None
        known = self._callers.setdefault(location.location_id, [])
        if isinstance(wish.contact, str):
            contact_id = wish.contact
        elif known and self._chance.random() < 0.2:
            contact_id = self._chance.choice(known)
        else:
            contact_id = self._memory.new_id()
        if contact_id not in self._memory.contacts:
            self._memory.contacts[contact_id] = calls.new_contact(
                self._chance,
                contact_id=contact_id,
                location_id=location.location_id,
                language=plan.language,
                added_at=plan.started_at,
            )
            known.append(contact_id)
        return self._memory.contacts[contact_id]

    def _book(
        self, location: Location, plan: calls.Plan, contact: Contact | None, *, visible_at: float
    ) -> tuple[str, ...]:
        """One appointment per APPOINTMENT_BOOKING that succeeded, added a few seconds after the action ran."""
        if contact is None or not plan.booked:
            return ()
        step = plan.duration / (len(plan.actions) + 1)
        ids = []
        for position, kind in enumerate(plan.actions, start=1):
            if kind != "APPOINTMENT_BOOKING":
                continue
            added = (plan.started_at + timedelta(seconds=step * position + 2)).replace(microsecond=0)
            hour = self._chance.choice((14, 15, 16, 19, 20))
            starts = added.replace(hour=hour, minute=0, second=0) + timedelta(days=self._chance.randint(1, 9))
            appointment = Appointment(
                appointment_id=self._memory.new_id()[:20],
                location_id=location.location_id,
                contact_id=contact.contact_id,
                calendar_id=plan.agent_id[::-1],
                title=f"{LANGUAGES[plan.language].booking[2]}: {contact.first_name}",
                starts_at=starts,
                ends_at=starts + timedelta(minutes=30),
                added_at=added,
                visible_at=visible_at,
            )
            self._memory.add_appointment(appointment)
            ids.append(appointment.appointment_id)
        return tuple(ids)


def change(memory: Memory, call_id: str, *, fields: Mapping[str, Any], after: float) -> None:
    """Lets the log differ from `after` seconds on: a newer version of the same document."""
    with memory.lock:
        call = memory.calls[call_id]
        newest = json.loads(call.versions[-1][1])
        call.versions.append((memory.now() + after, compact(newest | dict(fields))))
        if "executedCallActions" in fields:
            call.action_types = tuple(action["actionType"] for action in fields["executedCallActions"])


def _start(wish: Wish, default: float) -> datetime:
    if isinstance(wish.started_at, str):
        return datetime.fromisoformat(wish.started_at).astimezone(UTC)
    if wish.started_at is not None:
        return wish.started_at.astimezone(UTC)
    milliseconds = round((default - wish.ago) * 1000)
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)


def _versions(log: dict[str, Any], wish: Wish, now: float) -> list[tuple[float, bytes]]:
    """The log as it fills up: nothing said yet, no actions yet, all of it."""
    moments = sorted({0.0, wish.empty_for, wish.actions_late})
    return [(now + moment if moment else 0.0, compact(_as_of(log, wish, moment))) for moment in moments]


def _as_of(log: dict[str, Any], wish: Wish, moment: float) -> dict[str, Any]:
    early: dict[str, Any] = {}
    if moment < wish.empty_for:
        early |= {"transcript": "", "summary": ""}
    if moment < wish.actions_late:
        early |= {"executedCallActions": []}
    return log | early
