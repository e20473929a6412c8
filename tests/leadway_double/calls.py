"""Makes up believable calls: who rang, what was said, what the agent did, and the log that Leadway would write."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tests.leadway_double.nouns import Contact, iso_milliseconds
from tests.leadway_double.phrases import LANGUAGES, Language

TYPICAL_ACTIONS: tuple[tuple[str, ...], ...] = (
    (),
    ("APPOINTMENT_BOOKING",),
    ("APPOINTMENT_BOOKING", "SMS"),
    ("CALL_TRANSFER",),
    ("KNOWLEDGE_BASE", "CALL_TRANSFER"),
    ("IN_CALL_DATA_EXTRACTION", "DATA_EXTRACTION"),
    ("CUSTOM_ACTION",),
    ("KNOWLEDGE_BASE", "WORKFLOW_TRIGGER"),
    ("APPOINTMENT_BOOKING", "CALL_TRANSFER"),
)
ACTION_IDS = ("unique", "missing", "repeated")


@dataclass(frozen=True)
class Plan:
    """What the call shall be. `action_ids`: `unique`, `missing`, or `repeated` (then they name the agent's configured
    action)."""

    call_id: str
    message_id: str
    agent_id: str
    language: str
    started_at: datetime
    duration: int
    trial: bool
    actions: Sequence[str]
    booked: bool
    action_ids: str
    workflow_id: str
    new_id: Callable[[], str]


def new_contact(
    chance: random.Random, *, contact_id: str, location_id: str, language: str, added_at: datetime
) -> Contact:
    words = LANGUAGES[language]
    first, last = chance.choice(words.first_names), chance.choice(words.last_names)
    return Contact(
        contact_id=contact_id,
        location_id=location_id,
        first_name=first,
        last_name=last,
        phone=new_number(chance, language),
        email=f"caller-{contact_id[:8]}@example.com",
        added_at=added_at,
    )


def new_number(chance: random.Random, language: str) -> str:
    return f"{LANGUAGES[language].phone}{chance.randrange(10_000):04d}"


def call_log(chance: random.Random, plan: Plan, contact: Contact | None) -> dict[str, Any]:
    """The document of `GET call-logs/{id}`. Without a contact there is no `contactId`."""
    words = LANGUAGES[plan.language]
    said, wish = chance.choice(words.wishes)
    name = contact.first_name if contact else "A caller"
    document: dict[str, Any] = {"id": plan.call_id}
    if contact:
        document["contactId"] = contact.contact_id
    return document | {
        "agentId": plan.agent_id,
        "isAgentDeleted": False,
        "fromNumber": contact.phone if contact else new_number(chance, plan.language),
        "createdAt": iso_milliseconds(plan.started_at),
        "duration": plan.duration,
        "trialCall": plan.trial,
        "executedCallActions": actions(chance, plan),
        "summary": words.summary.format(name=name, wish=wish, outcome=_outcome(words, plan)).strip(),
        "transcript": _transcript(words, plan, said),
        "translation": None if plan.language == "en" else {"enabled": True, "language": plan.language},
        "extractedData": {"customerName": name, "reason": wish} if "DATA_EXTRACTION" in plan.actions else {},
        "messageId": plan.message_id,
        "agentTransferOccurred": "CALL_TRANSFER" in plan.actions,
    }


def actions(chance: random.Random, plan: Plan) -> list[dict[str, Any]]:
    """`executedCallActions`, in the order of `plan.actions`, spread over the call's length."""
    step = plan.duration / (len(plan.actions) + 1)
    configured = plan.new_id()
    done = []
    for position, kind in enumerate(plan.actions, start=1):
        at = plan.started_at + timedelta(seconds=step * position)
        name, parameters = _PARAMETERS[kind](plan, chance) if kind in _PARAMETERS else (kind.title(), {"note": "new"})
        action: dict[str, Any] = {"actionType": kind, "actionName": name, "actionParameters": parameters}
        if plan.action_ids != "missing":
            action["actionId"] = plan.new_id() if plan.action_ids == "unique" else configured
        action["executedAt"] = iso_milliseconds(at)
        action["triggerReceivedAt"] = iso_milliseconds(at - timedelta(seconds=min(15, step / 2)))
        done.append(action)
    return done


def _outcome(words: Language, plan: Plan) -> str:
    outcomes = []
    if "APPOINTMENT_BOOKING" in plan.actions:
        outcomes.append(words.booking[2] if plan.booked else words.not_booked)
    if "CALL_TRANSFER" in plan.actions:
        outcomes.append(words.transfer)
    return " ".join(outcomes)


def _transcript(words: Language, plan: Plan, said: str) -> str:
    """Lines as seen live: `bot:` or `human:`, no space after the colon, newline-separated."""
    lines = [f"bot:{words.greeting}", f"human:{said}"]
    if "APPOINTMENT_BOOKING" in plan.actions:
        lines += [f"bot:{words.booking[0]}", f"human:{words.booking[1]}"]
        lines += [] if plan.booked else [f"bot:{words.not_booked}"]
    if "CALL_TRANSFER" in plan.actions:
        lines.append(f"bot:{words.transfer}")
    else:
        lines += [f"bot:{words.closing[0]}", f"human:{words.closing[1]}"]
    return "\n".join(lines)


def _transfer(plan: Plan, chance: random.Random) -> tuple[str, dict[str, Any]]:
    return "Transfer to front desk", {
        "triggerPrompt": "When the caller asks for a person",
        "transferToType": "number",
        "transferToValue": new_number(chance, plan.language),
        "triggerMessage": LANGUAGES[plan.language].transfer,
        "hearWhisperMessage": True,
    }


def _sms(plan: Plan, _chance: random.Random) -> tuple[str, dict[str, Any]]:
    return "Send confirmation", {
        "triggerPrompt": "When an appointment was agreed",
        "triggerMessage": LANGUAGES[plan.language].closing[0],
        "messageBody": LANGUAGES[plan.language].booking[2],
    }


def _extraction(plan: Plan, _chance: random.Random) -> tuple[str, dict[str, Any]]:
    return "Reason for the call", {
        "contactFieldId": plan.new_id(),
        "description": "Why the caller rang",
        "examples": ["toothache", "price"],
        "overwriteExistingValue": False,
    }


def _workflow(plan: Plan, _chance: random.Random) -> tuple[str, dict[str, Any]]:
    return "Start follow-up", {
        "triggerPrompt": "When the caller wants a quote",
        "triggerMessage": LANGUAGES[plan.language].closing[0],
        "workflowId": plan.workflow_id,
    }


def _booking(plan: Plan, _chance: random.Random) -> tuple[str, dict[str, Any]]:
    """Only what the calendar offers: never the booked time, never an appointment's id."""
    parameters = {"calendarId": plan.agent_id[::-1], "daysOfOfferingDates": 3, "slotsPerDay": 3, "hoursBetweenSlots": 1}
    return LANGUAGES[plan.language].booking[2], parameters


def _custom(plan: Plan, chance: random.Random) -> tuple[str, dict[str, Any]]:
    """Carries secrets in every place where the vendor lets them live: nothing of them may be kept."""
    secret = f"{chance.getrandbits(64):016x}"
    return "Check the patient file", {
        "triggerPrompt": "When the caller gives a file number",
        "triggerMessage": LANGUAGES[plan.language].closing[0],
        "apiDetails": {
            "url": f"https://files.example.com/patients?api_key=secret-query-{secret}",
            "method": "GET",
            "authenticationRequired": True,
            "authenticationValue": f"Bearer secret-auth-{secret}",
            "headers": [
                {"key": "Content-Type", "value": "application/json"},
                {"key": "X-Api-Key", "value": f"secret-header-{secret}"},
            ],
            "parameters": [{"name": "file", "description": "File number", "type": "string", "example": "F-12345"}],
        },
        "selectedPaths": ["data.file", "status"],
    }


def _knowledge(plan: Plan, _chance: random.Random) -> tuple[str, dict[str, Any]]:
    return "Look up prices", {"triggerPrompt": "When the caller asks for a price", "knowledgeBaseId": plan.new_id()}


_PARAMETERS: dict[str, Callable[[Plan, random.Random], tuple[str, dict[str, Any]]]] = {
    "CALL_TRANSFER": _transfer,
    "SMS": _sms,
    "DATA_EXTRACTION": _extraction,
    "IN_CALL_DATA_EXTRACTION": _extraction,
    "WORKFLOW_TRIGGER": _workflow,
    "APPOINTMENT_BOOKING": _booking,
    "CUSTOM_ACTION": _custom,
    "KNOWLEDGE_BASE": _knowledge,
}
