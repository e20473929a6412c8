"""Finds the ids in a body that somebody composed by hand, or that a forwarder has wrapped and encoded anew.

Names are compared without case, blanks and signs. A field whose name says "call id" counts wherever it stands, the one
with the fewest wrappers first; so does the contact's. The location's id counts at the top and within known wrappers. A
bare `id` counts only where nothing says that it is another thing's. An id that the body also gives to something else is
no call's.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from models.intake.reasons import Reason
from webhook.bodies import Decoded
from webhook.body_fields import WANTED_EVENT, Candidates, Fields
from webhook.field_values import NoId, id_of, number_of, time_of, visible

_WRITTEN_FIRST = {"callId": 0, "call_id": 1}
"""The usual names come first, where one object has several."""
_IDS_OF_OTHERS = (
    *("messageid", "workflowid", "agentid", "opportunityid", "appointmentid", "conversationid", "companyid", "appid"),
    *("message.id", "workflow.id", "agent.id", "opportunity.id", "appointment.id", "calendar.id", "user.id"),
)
_LOCATION_ID = ("locationid", "location.id")
_CONTACT_ID = ("contactid", "contact.id")
_FROM_NUMBER = ("fromnumber", "from", "callerphone", "callernumber", "phone", "contact.phone")
_TIME = ("createdat", "startedat", "starttime", "date")  # never `datecreated`: a workflow's body has the contact's
_EVENT_OF_THE_VENDOR = re.compile(
    r"(?:un)?install|[A-Z][A-Za-z]*(?:Create|Update|Delete|Restore|Sync|Message|Install|Uninstall|Stats|Status|Receipt)d?"
)

_PLAUSIBLE = re.compile(r"(?=[^0-9]*[0-9])[A-Za-z0-9_-]{5,128}")
_QUOTES = r"""[\\"'“”„‘’`«»]"""
_BEFORE_A_NAME = rf"(?:(?:^|[{{\[(,;&?<>])\s{{0,8}}{_QUOTES}{{0,4}}|{_QUOTES}\s{{1,8}}{_QUOTES}{{1,4}})"
_BEFORE_A_VALUE = rf"\s{{0,4}}{_QUOTES}{{0,4}}\s{{0,8}}[:=>]\s{{0,8}}{_QUOTES}{{0,4}}\s{{0,4}}"
_A_VALUE = rf"(\{{\{{|[A-Za-z0-9_-]{{1,128}}(?=\s{{0,8}}(?:{_QUOTES}|[,;&<}})\]\n]|$)))"


def _in_text(name: str) -> re.Pattern[str]:
    return re.compile(_BEFORE_A_NAME + name + _BEFORE_A_VALUE + _A_VALUE, re.IGNORECASE | re.MULTILINE)


_CALL_ID_IN_TEXT = _in_text(r"(?:voice[\s_-]?)?(?:ai[\s_-]?)?call[\s_.-]?(?:log[\s_.-]?)?id")
_CONTACT_ID_IN_TEXT = _in_text(r"contact[\s_.-]?id")
_LOCATION_ID_IN_TEXT = _in_text(r"location[\s_.-]?id")


@dataclass
class Found:
    """What a body says. Without a call id `reason` says why not."""

    call_id: str | None = None
    reason: Reason | None = None
    location_id: str | None = None
    contact_id: str | None = None
    webhook_id: str | None = None
    from_number: str | None = None
    started_at: Any = None
    event_type: str | None = None
    document: dict[str, Any] = field(default_factory=dict)
    """The innermost object that is a body by itself, without what a forwarder tells of its own request."""


def find(body: Decoded, *, query: str = "", account: str | None = None) -> Found:
    """What a body says, and where it does not say it, the query of its URL. Raises nothing.

    `account`: the location id of the account whose secret came with it.
    """
    fields = Fields.of(body.value)
    asked = Fields.of(dict(parse_qsl(query))) if query else None
    text = visible("\n".join(fields.broken_json if body.reason is None else [body.text]))
    everywhere = [each for each in (fields, asked) if each is not None]

    found = Found(event_type=fields.event_type, document=fields.document)
    found.location_id = _first_id(everywhere, _LOCATION_ID) or _only(_in(text, _LOCATION_ID_IN_TEXT))
    found.contact_id = _first_id(everywhere, _CONTACT_ID) or _only(_in(text, _CONTACT_ID_IN_TEXT))
    found.webhook_id = _first_id(everywhere, ("webhookid",))
    found.from_number = next(filter(None, map(number_of, fields.values(_FROM_NUMBER))), None)
    times = fields.values(_TIME, wrapped_only=fields.is_of_a_workflow)
    found.started_at = next(filter(None, map(time_of, times)), None)

    others = {account, found.location_id, found.contact_id, *_ids(fields.values(_IDS_OF_OTHERS))}
    places = [fields.call_ids, [(0, "", value) for value in _in(text, _CALL_ID_IN_TEXT)]]
    places += [asked.call_ids] if asked else []
    reason = None
    for place in places:
        found.call_id, why_not = _one_call_id(place, others)
        if found.call_id is not None:
            return found
        reason = reason or why_not
    if reason is None:
        found.call_id, reason = _one_call_id(fields.bare_ids, others)
        if found.call_id is not None:
            return found
    found.reason = reason or _without_call_id(body, fields, has_contact=found.contact_id is not None)
    return found


def _without_call_id(body: Decoded, fields: Fields, *, has_contact: bool) -> Reason:
    if body.reason is Reason.BROKEN_JSON or fields.broken_json:
        return Reason.BROKEN_JSON
    if not fields.has_object:
        return Reason.CALL_ID_MISSING if has_contact else body.reason or Reason.NOT_AN_OBJECT
    event_type = fields.event_type or WANTED_EVENT
    if "call" not in event_type.lower() and _EVENT_OF_THE_VENDOR.fullmatch(event_type):
        return Reason.EVENT_TYPE_NOT_WANTED
    return Reason.CALL_ID_MISSING


def _one_call_id(place: Candidates, others: set[str | None]) -> tuple[str | None, Reason | None]:
    """The first usable id, the outermost first; else why there is none. Two under one name at one depth are none."""
    reason, depth_of_first, first, name_of_first = None, None, None, ""
    for depth, name, value in sorted(place, key=lambda each: (each[0], _WRITTEN_FIRST.get(each[1], 2))):
        found = id_of(value)
        if isinstance(found, str) and found not in others:
            if first is None:
                depth_of_first, name_of_first, first = depth, name, found
            elif (depth, name) == (depth_of_first, name_of_first) and found != first:
                return None, Reason.SEVERAL_CALL_IDS
        elif found is NoId.MERGE_TAG:
            reason = Reason.UNRESOLVED_MERGE_TAG
        elif found is not NoId.NO_VALUE:
            reason = reason or Reason.CALL_ID_UNUSABLE
    return (first, None) if first is not None else (None, reason)


def _in(text: str, name: re.Pattern[str]) -> list[str]:
    """The values under a name in a text that could not be decoded: merge tags, and what has the look of an id."""
    return [
        value
        for match in (name.finditer(text) if text else ())
        if (value := match[1]) == "{{" or _PLAUSIBLE.fullmatch(value)
    ]


def _only(values: list[str]) -> str | None:
    ids = _ids(values)
    return next(iter(ids)) if len(ids) == 1 else None


def _ids(values: Iterable[Any]) -> set[str]:
    return {found for value in values if isinstance(found := id_of(value), str)}


def _first_id(everywhere: Iterable[Fields], paths: tuple[str, ...]) -> str | None:
    values = (value for fields in everywhere for value in fields.values(paths))
    return next((found for value in values if isinstance(found := id_of(value), str)), None)
