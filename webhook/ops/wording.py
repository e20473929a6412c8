"""Words and colours on the operators' pages: of states, times and credentials."""

import json
import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from flask import Blueprint
from markupsafe import Markup, escape

from models.accounts import circuit_breaker
from models.follow_ups import languages
from models.intake.reasons import sentence_of
from models.reports.call_list import ListedCall
from models.reports.timeline import KnownCall
from models.reports.translation import translated
from models.reports.verdict.findings import Severity


class Said(NamedTuple):
    """Words for a state, and their tone, which decides the colour: good, busy, warn, bad, calm."""

    words: str
    tone: str


def teach(blueprint: Blueprint) -> None:
    """Registers the filters that the templates use."""
    for filter_ in (
        local,
        zone_letters,
        exactly,
        ago,
        call_state,
        follow_up_state,
        action,
        authenticated_by,
        tone,
        sentence,
        said,
    ):
        blueprint.add_app_template_filter(filter_, filter_.__name__)
    blueprint.add_app_template_filter(as_json, "as_json")
    blueprint.add_app_template_filter(sentence_of, "reason")
    blueprint.add_app_template_filter(languages.length, "length_of")
    blueprint.add_app_template_filter(_plain, "plain")
    blueprint.add_app_template_filter(circuit_breaker.state_of, "breaker_state")


def said(text: str, language: str) -> Markup:
    """The text in this language, with what stands between backticks as code."""
    words = str(escape(translated(text, languages.language_of(language))))
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", words))  # noqa: S704 - escaped in the line above


def call_state(call: KnownCall | ListedCall) -> Said:
    stored = call.stored if isinstance(call, KnownCall) else call
    if call.status == "dead":
        return Said(f"dead: {_plain(call.dead_cause or 'cause unknown')}", "bad")
    if call.status == "pending" and stored is not None and stored.stored_at is not None:
        return Said("stored, log not settled" if stored.settled_at is None else "stored, read again", "busy")
    return _CALL_STATES.get(call.status) or Said(_plain(call.status), "calm")


def follow_up_state(status: str, skip_reason: str | None = None) -> Said:
    if status == "skipped":
        return Said(f"skipped: {_plain(skip_reason or 'no reason kept')}", "calm")
    return _FOLLOW_UP_STATES.get(status) or Said(_plain(status), "calm")


def action(action_type: str) -> str:
    """A type of action in plain words; a type that is not in the table, by Leadway's name in lower case."""
    return _ACTIONS.get(action_type) or _plain(action_type.lower())


def authenticated_by(method: str) -> str:
    return _METHODS.get(method) or _plain(method)


def tone(severity: Severity) -> str:
    return _TONES[severity]


def sentence(text: str) -> Markup:
    """Words of the verdict as a sentence: with a capital letter and a full stop; what stands in backticks, as code."""
    whole = f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(whole))))  # noqa: S704 - escaped


def local(at: datetime, time_zone: str | None) -> str:
    """ "Mon 23 Nov, 11:32" in `time_zone`; with the year when it is not the current one."""
    zone, _name = languages.zone_of(time_zone or "UTC")
    there = at.astimezone(zone)
    year = "" if there.year == datetime.now(zone).year else f" {there.year}"
    return f"{there:%a} {there.day} {there:%b}{year}, {there:%H:%M}"


def zone_letters(at: datetime, time_zone: str | None) -> str:
    """ "CET", "EST", "-03": shown beside times when the accounts have several zones."""
    return at.astimezone(languages.zone_of(time_zone or "UTC")[0]).strftime("%Z")


def exactly(at: datetime, time_zone: str | None) -> str:
    """ "23 Nov 11:32:07.120" in `time_zone`."""
    there = at.astimezone(languages.zone_of(time_zone or "UTC")[0])
    return f"{there.day} {there:%b} {there:%H:%M:%S}.{there.microsecond // 1000:03d}"


def ago(at: datetime | float, now: datetime | None = None) -> str:
    """ "now", "40 s", "3 min", "5 h", "2 days": the time since `at`, or the length of `at` seconds."""
    seconds = at if isinstance(at, int | float) else ((now or datetime.now(UTC)) - at).total_seconds()
    for unit, size, least in (("days", 86400, 2 * 86400), ("h", 3600, 2 * 3600), ("min", 60, 90)):
        if seconds >= least:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s" if seconds >= 1 else "now"


def as_json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def _plain(name: str) -> str:
    return name.replace("_", " ")


_TONES = {Severity.CRITICAL: "bad", Severity.WARNING: "warn", Severity.INFO: "calm"}
_CALL_STATES = {
    "complete": Said("stored", "good"),
    "running": Said("being fetched", "busy"),
    "pending": Said("waiting", "busy"),
}
_FOLLOW_UP_STATES = {
    "done": Said("written", "good"),
    "pending": Said("waiting", "busy"),
    "running": Said("being written", "busy"),
    "unclear": Said("unclear", "warn"),
    "dead": Said("dead", "bad"),
}
_ACTIONS = {
    "APPOINTMENT_BOOKING": "booking",
    "CALL_TRANSFER": "transfer",
    "SMS": "SMS",
    "DATA_EXTRACTION": "data extraction",
    "IN_CALL_DATA_EXTRACTION": "data extraction in call",
    "WORKFLOW_TRIGGER": "workflow",
    "CUSTOM_ACTION": "custom action",
    "KNOWLEDGE_BASE": "knowledge base",
}
_METHODS = {
    "ed25519": "Leadway's signature (Ed25519)",
    "rsa": "Leadway's signature (RSA, legacy)",
    "intake_header": "intake secret in the header",
    "intake_path": "intake secret in the URL",
}
