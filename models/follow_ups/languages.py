"""What differs by the language of a note: dates, lengths of time, fixed phrases.

A small table instead of a locale library: there are two languages, four forms, and words that salespeople read daily.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo


class Language(StrEnum):
    """The languages of the built-in words."""

    EN = "en"
    ES = "es"


@dataclass(frozen=True)
class Phrases:
    """The fixed words of one language."""

    weekdays: tuple[str, ...]
    months: tuple[str, ...]
    units: dict[str, tuple[str, str]]
    call: str
    number: str
    """Where the log does not tell who called."""
    number_of_caller: str
    number_dialled: str
    length: str
    not_known: str
    late_by: str
    late: str
    reference: str
    """The label of the reference line. Notes in the CRM are found by this label: it may never change."""
    statuses: dict[str, str]
    """By Leadway's `appointmentStatus` (reference: calendars.json). Other values are shown as they come."""


def language_of(code: str) -> Language:
    """The language to write in for an account's language code ("es", "es-MX", "ES_es"); English when unknown."""
    spoken = code.replace("_", "-").split("-")[0].strip().lower()
    return next((language for language in Language if language == spoken), Language.EN)


def zone_of(name: str) -> tuple[tzinfo, str]:
    """The zone and the name to show with a time. An unknown name gives UTC and "UTC": a note is better than none."""
    try:
        return ZoneInfo(name), name
    except (KeyError, ValueError, OSError):  # not found, malformed, a folder of zones ("Europe")
        return UTC, "UTC"


def long_time(moment: datetime, *, language: Language, time_zone: str) -> str:
    """A moment in an account's zone: "Monday 15 January 2024, 11:30 (Europe/Madrid)".

    An hour that occurs twice, because the clock is put back, is shown with its offset.
    """
    zone, name = zone_of(time_zone)
    local = moment.astimezone(zone)
    twice = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
    return f"{long_date(local, language=language)} ({name}{f', {local:UTC%z}' if twice else ''})"


def long_date(local: datetime, *, language: Language) -> str:
    """A local time without its zone: "Monday 15 January 2024, 11:30"."""
    phrases = PHRASES[language]
    weekday, month = phrases.weekdays[local.weekday()], phrases.months[local.month - 1]
    if language is Language.ES:
        return f"{weekday}, {local.day} de {month} de {local.year}, {local:%H:%M}"
    return f"{weekday} {local.day} {month} {local.year}, {local:%H:%M}"


def clock(moment: datetime, *, time_zone: str) -> str:
    """The time of day in an account's zone: "11:32"."""
    return f"{moment.astimezone(zone_of(time_zone)[0]):%H:%M}"


def length(seconds: float) -> str:
    """A call's length, the same in both languages: "45 s", "3 min", "1 h 2 min 5 s"."""
    hours, rest = divmod(round(seconds), 3600)
    parts = {"h": hours, "min": rest // 60, "s": rest % 60}
    return " ".join(f"{amount} {unit}" for unit, amount in parts.items() if amount) or "0 s"


def delay(waited: timedelta, *, language: Language) -> str:
    """A delay in one unit: "40 minutes", "5 hours", "3 days"; rounded down, at least a minute."""
    minutes = max(1, int(waited.total_seconds() // 60))
    unit, amount = ("minute", minutes)
    if minutes >= 48 * 60:
        unit, amount = ("day", minutes // (24 * 60))
    elif minutes >= 60:
        unit, amount = ("hour", minutes // 60)
    one, many = PHRASES[language].units[unit]
    return f"{amount} {one if amount == 1 else many}"


PHRASES = {
    Language.EN: Phrases(
        weekdays=("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
        months=(
            "January",
            "February",
            "March",
            "April",
            "May",
            "June",
            "July",
            "August",
            "September",
            "October",
            "November",
            "December",
        ),
        units={"minute": ("minute", "minutes"), "hour": ("hour", "hours"), "day": ("day", "days")},
        call="Call",
        number="Number",
        number_of_caller="Caller's number",
        number_dialled="Number dialled",
        length="Length",
        not_known="not known",
        late_by="This note was written {delay} after the call, because the call became known late.",
        late="This note was written late, because the call became known late.",
        reference="Leadway call reference",
        statuses={
            "new": "new",
            "booked": "booked",
            "confirmed": "confirmed",
            "cancelled": "cancelled",
            "showed": "showed up",
            "noshow": "did not show up",
            "invalid": "invalid",
            "active": "active",
            "completed": "completed",
        },
    ),
    Language.ES: Phrases(
        weekdays=("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
        months=(
            "enero",
            "febrero",
            "marzo",
            "abril",
            "mayo",
            "junio",
            "julio",
            "agosto",
            "septiembre",
            "octubre",
            "noviembre",
            "diciembre",
        ),
        units={"minute": ("minuto", "minutos"), "hour": ("hora", "horas"), "day": ("día", "días")},
        call="Llamada",
        number="Número",
        number_of_caller="Número de quien llamó",
        number_dialled="Número marcado",
        length="Duración",
        not_known="no consta",
        late_by="Esta nota se escribió {delay} después de la llamada, porque se tuvo constancia de ella con retraso.",
        late="Esta nota se escribió con retraso, porque se tuvo constancia de la llamada más tarde.",
        reference="Referencia de llamada de Leadway",
        statuses={
            "new": "nueva",
            "booked": "reservada",
            "confirmed": "confirmada",
            "cancelled": "cancelada",
            "showed": "asistió",
            "noshow": "no asistió",
            "invalid": "no válida",
            "active": "activa",
            "completed": "completada",
        },
    ),
}
