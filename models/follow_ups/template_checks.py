"""Tries a rule's template before any call does: its syntax, every name in it, and how it does on sample calls."""

import sys
from collections.abc import Iterable
from dataclasses import fields
from datetime import UTC, datetime
from difflib import get_close_matches

from jinja2 import TemplateSyntaxError, meta, nodes

from models.calls.call_log import Action, CallLog, Source
from models.follow_ups.template_names import (
    PARTS,
    AppointmentLookup,
    BookedAppointment,
    NoteContext,
    Vocabulary,
    vocabulary,
)
from models.follow_ups.templates import ENVIRONMENT, render, template


class TemplateError(ValueError):
    """What is wrong, in words that follow "the template of …", and on which of its lines (from 1)."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


def check_template(source: str) -> None:
    """Raises TemplateError for the first thing that is wrong."""
    try:
        template(source)
    except TemplateSyntaxError as error:
        raise TemplateError(error.lineno, f"cannot be read: {error.message}".rstrip(".")) from None
    _check_names(ENVIRONMENT.parse(source))
    for sample in _samples():
        try:
            render(source, vocabulary(sample))
        except Exception as error:  # whatever it is, a call would meet it too
            raise TemplateError(
                _failing_line(),
                f"fails on a sample call ({_told(sample)}): {type(error).__name__}: {error}".rstrip("."),
            ) from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known name, else all of them, to be put behind a complaint."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f" (there are: {', '.join(known)})"


def _check_names(tree: nodes.Template) -> None:
    known = [part.name for part in fields(Vocabulary)]
    unknown = meta.find_undeclared_variables(tree) - set(known)
    for word in tree.find_all(nodes.Name):
        if word.name in unknown:
            raise TemplateError(word.lineno, f"names {word.name!r}, which there is not{did_you_mean(word.name, known)}")
    for part in tree.find_all(nodes.Getattr):
        whole = part.node.name if isinstance(part.node, nodes.Name) else ""
        if whole in PARTS and part.attr not in PARTS[whole]:
            names = [f"{whole}.{name}" for name in PARTS[whole]]
            name = f"{whole}.{part.attr}"
            raise TemplateError(part.lineno, f"names {name!r}, which there is not{did_you_mean(name, names)}")


def _failing_line() -> int:
    """The template's line in the error that is being handled: Jinja puts it into the traceback."""
    line, trace = 1, sys.exc_info()[2]
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _samples() -> list[NoteContext]:
    """A call with everything, one with nothing, and one in between: templates branch on what is there."""
    at = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    action = Action("CALL_TRANSFER", "Transfer", "a1", {"transferToValue": "+12345678901"}, at, at)
    full = CallLog("c1", Source.FETCH, "k1", from_number="+12345678901", started_at=at, duration_seconds=180.0)
    return [
        NoteContext(
            call_log=full,
            action=action,
            language="en",
            time_zone="Europe/Madrid",
            reference="r",
            appointment=BookedAppointment("Visit", at, "confirmed"),
            appointment_lookup=AppointmentLookup.FOUND,
        ),
        NoteContext(CallLog("c2", Source.LIST), None, "es", "UTC", "r", appointment_lookup=AppointmentLookup.NOT_FOUND),
        NoteContext(full, action, "es", "America/Bogota", "r", late=True, written_at=at.replace(month=2)),
    ]


def _told(sample: NoteContext) -> str:
    return "with an appointment" if sample.appointment else "without an appointment"
