"""The variables of a template: the call, its action and its appointment, as texts in the account's language.

`sanitizing` has made every text harmless, so that a template cannot let a stranger's words through.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum

from models.calls.call_log import Action, CallLog
from models.follow_ups.languages import PHRASES, Language, clock, delay, language_of, length, long_date, long_time
from models.follow_ups.sanitizing import Lookup, one_line, several_lines


class AppointmentLookup(StrEnum):
    """What the lookup of the booked appointment gave. UNAVAILABLE: a scope for the lookup is missing."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class BookedAppointment:
    """An appointment as the CRM has it. A time without a zone, as the contacts endpoint gives it, is shown without."""

    title: str = ""
    starts_at: datetime | str | None = None
    status: str = ""


@dataclass(frozen=True)
class NoteContext:
    """Everything that the words depend on. `action` is None for a transfer that the log only asserts by its flag.

    `late`: the call became known long after it ended. Then the words say how long after, counted to `written_at`, an
    aware time.
    """

    call_log: CallLog
    action: Action | None
    language: str
    time_zone: str
    reference: str
    appointment: BookedAppointment | None = None
    appointment_lookup: AppointmentLookup = AppointmentLookup.UNAVAILABLE
    late: bool = False
    written_at: datetime | None = None


@dataclass(frozen=True)
class CallWords:
    """`call.…` in a template."""

    id: str
    contact_id: str
    time: str
    number: str
    length: str
    summary: str


@dataclass(frozen=True)
class ActionWords:
    """`action.…` in a template."""

    name: str
    type: str
    time: str
    clock: str
    parameters: Lookup


@dataclass(frozen=True)
class AppointmentWords:
    """`appointment.…` in a template."""

    title: str
    time: str
    status: str


@dataclass(frozen=True)
class Vocabulary:
    """The variables of every template. Every text may be empty; `appointment` is None unless one was found."""

    call: CallWords
    action: ActionWords
    appointment: AppointmentWords | None
    lookup: str
    transfer_to: str
    extracted: Lookup
    facts: str
    late: str
    language: str


PARTS: Mapping[str, tuple[str, ...]] = {
    "call": tuple(part.name for part in fields(CallWords)),
    "action": tuple(part.name for part in fields(ActionWords)),
    "appointment": tuple(part.name for part in fields(AppointmentWords)),
}


def vocabulary(context: NoteContext) -> Vocabulary:
    """The variables for one call, in the account's language and time zone."""
    log, action = context.call_log, context.action or Action(action_type="")
    language, zone = language_of(context.language), context.time_zone

    def time(moment: datetime | None) -> str:
        return long_time(moment, language=language, time_zone=zone) if moment else ""

    call = CallWords(
        id=one_line(log.call_id),
        contact_id=one_line(log.contact_id),
        time=time(log.started_at),
        number=one_line(log.to_number if log.direction == "outbound" else log.from_number),
        length=length(log.duration_seconds) if log.duration_seconds is not None else "",
        summary=several_lines(log.summary),
    )
    late = _late(context, language)
    phrases = PHRASES[language]
    number_told = {"inbound": phrases.number_of_caller, "outbound": phrases.number_dialled}.get(log.direction or "")
    facts = [
        f"{phrases.call}: {call.time or phrases.not_known}",
        f"{number_told or phrases.number}: {call.number or phrases.not_known}",
        f"{phrases.length}: {call.length or phrases.not_known}",
        late,
    ]
    return Vocabulary(
        call=call,
        action=ActionWords(
            name=one_line(action.name),
            type=one_line(action.action_type),
            time=time(action.executed_at),
            clock=clock(action.executed_at, time_zone=zone) if action.executed_at else "",
            parameters=Lookup(action.parameters),
        ),
        appointment=(
            _appointment(context.appointment, language=language, time_zone=zone) if context.appointment else None
        ),
        lookup=context.appointment_lookup.value,
        transfer_to=one_line(action.parameters.get("transferToValue")),
        extracted=Lookup(log.extracted_data or {}),
        facts="\n".join(fact for fact in facts if fact),
        late=late,
        language=language.value,
    )


def _late(context: NoteContext, language: Language) -> str:
    if not context.late:
        return ""
    over = context.call_log.ended_at
    if over is None or context.written_at is None:
        return PHRASES[language].late
    return PHRASES[language].late_by.format(delay=delay(context.written_at - over, language=language))


def _appointment(booked: BookedAppointment, *, language: Language, time_zone: str) -> AppointmentWords:
    status = PHRASES[language].statuses.get(booked.status.strip().lower(), booked.status)
    return AppointmentWords(
        title=one_line(booked.title),
        time=_start(booked.starts_at, language=language, time_zone=time_zone),
        status=one_line(status),
    )


def _start(starts_at: datetime | str | None, *, language: Language, time_zone: str) -> str:
    if isinstance(starts_at, str):
        try:
            starts_at = datetime.fromisoformat(starts_at.strip())
        except ValueError:
            return one_line(starts_at)
    if starts_at is None:
        return ""
    if starts_at.tzinfo is None:
        return long_date(starts_at, language=language)
    return long_time(starts_at, language=language, time_zone=time_zone)
