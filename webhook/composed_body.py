"""Finds the ids in a body that somebody composed by hand, or that a forwarder has wrapped and encoded anew.

Names are compared without case, blanks and signs. A field whose name says "call id" counts wherever it stands, the one
with the fewest wrappers first; so does the contact's. The location's id counts at the top and within known wrappers. A
bare `id` counts only where nothing says that it is another thing's. An id that the body also gives to something else is
no call's.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from models.calls.redaction import storable_text
from webhook import bodies
from webhook.bodies import DEEPEST, Decoded
from webhook.field_values import LONGEST_NAME, NoId, folded_path, id_of, number_of, time_of, visible
from webhook.rejections import Reason

WANTED_EVENT = "VoiceAiCallEnd"

_CALL_ID = frozenset({"callid", "voicecallid", "aicallid", "voiceaicallid", "calllogid", "voiceaicalllogid"})
_CALL = frozenset({"call", "voicecall", "aicall", "voiceaicall", "calllog", "voiceaicalllog"})
_WRITTEN_FIRST = {"callId": 0, "call_id": 1}
"""The usual names come first, where one object has several."""
_WRAPPERS = frozenset(
    {
        *("body", "rawbody", "data", "payload", "event", "json", "detail", "message", "content", "params", "query"),
        *("customdata", "custom", "fields", "record", "result", "request", "webhook", "bundle", "cleanedrequest"),
    }
)
_MAY_HOLD_A_BODY = _WRAPPERS | {""}
_WRAPPERS_OF_BODIES = frozenset({"body", "rawbody", "data", "payload", "json"})
"""A bare `id` within these is what a bare `id` at the top would be."""
_OF_OTHERS = re.compile(
    "(?:previous|prior|last|parent|related|old|next|history).*|(?:raw)?headers|cookies|executedcallactions|extracteddata"
)
"""Containers that tell of other things than this call."""
_IDS_OF_OTHERS = (
    *("messageid", "workflowid", "agentid", "opportunityid", "appointmentid", "conversationid", "companyid", "appid"),
    *("message.id", "workflow.id", "agent.id", "opportunity.id", "appointment.id", "calendar.id", "user.id"),
)
_NOT_A_CALLS_FIELD = frozenset(
    {
        *("firstname", "lastname", "fullname", "email", "tags", "contacttype", "workflow", "customdata", "triggerdata"),
        *("messagetype", "conversationid", "pipelineid", "calendarid", "appointmentstatus"),
    }
)
"""An object with one of these fields is a contact's, a workflow's, a message's: its bare `id` is not the call's."""
_LOCATION_ID = ("locationid", "location.id")
_CONTACT_ID = ("contactid", "contact.id")
_FROM_NUMBER = ("fromnumber", "from", "callerphone", "callernumber", "phone", "contact.phone")
_TIME = ("createdat", "startedat", "starttime", "date")  # never `datecreated`: a workflow's body has the contact's
_BEGINS_JSON = frozenset({"{", "[", '"'})
_AROUND_JSON = "\ufeff\u200b \t\r\n"
_DECODINGS = 4
"""Texts within texts that are decoded, at most."""
_LONGEST_EVENT_NAME = 64
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


def find(body: Decoded, *, query: str = "") -> Found:
    """What a body says, and where it does not say it, the query of its URL. Raises nothing."""
    fields = _Fields.of(body.value)
    asked = _Fields.of(dict(parse_qsl(query))) if query else None
    text = visible("\n".join(fields.broken_json if body.reason is None else [body.text]))
    everywhere = [each for each in (fields, asked) if each is not None]

    found = Found(event_type=fields.event_type, document=fields.document)
    found.location_id = _first_id(everywhere, _LOCATION_ID) or _only(_in(text, _LOCATION_ID_IN_TEXT))
    found.contact_id = _first_id(everywhere, _CONTACT_ID) or _only(_in(text, _CONTACT_ID_IN_TEXT))
    found.webhook_id = _first_id(everywhere, ("webhookid",))
    found.from_number = next(filter(None, map(number_of, fields.values(_FROM_NUMBER))), None)
    times = fields.values(_TIME, wrapped_only=fields.is_of_a_workflow)
    found.started_at = next(filter(None, map(time_of, times)), None)

    others = {found.location_id, found.contact_id, *_ids(fields.values(_IDS_OF_OTHERS))}
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
    found.reason = reason or body.reason or (Reason.BROKEN_JSON if fields.broken_json else _without_id(fields))
    return found


def _without_id(fields: "_Fields") -> Reason:
    if not fields.has_object:
        return Reason.NOT_AN_OBJECT
    event_type = fields.event_type
    if event_type is not None and event_type != WANTED_EVENT and _EVENT_OF_THE_VENDOR.fullmatch(event_type):
        return Reason.EVENT_TYPE_NOT_WANTED
    return Reason.CALL_ID_MISSING


Place = list[tuple[int, str, Any]]
"""Candidates for the call id: how deep, under which name as written, the value."""


class _Where(NamedTuple):
    """Where a value stands in a document, by the folded names that lead there."""

    key: str = ""
    """The names without wrappers, joined by dots; of more than two _TOO_LONG."""
    last: str = ""
    is_wrapped: bool = False
    is_body: bool = True
    """Whether an object there may be a body by itself."""
    names_call_id: bool = False
    is_of_others: bool = False
    is_of_the_request: bool = False


_TOP = _Where()
_TOO_LONG = "*"
_Waiting = tuple[Any, str, _Where, int, int]
"""Of the walk through a document: value, its name as written, where it stands, how deep, the decodings left."""


@dataclass
class _Fields:
    """The fields of a document, the outermost first."""

    by_key: dict[str, list[tuple[bool, Any]]] = field(default_factory=dict)
    """Each value, and whether it stands in a wrapper."""
    call_ids: Place = field(default_factory=list)
    bodies: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    has_object: bool = False
    broken_json: list[str] = field(default_factory=list)
    """Texts that stand where a body may stand and begin like JSON, but are none."""
    tells_of_the_request: bool = False
    """A forwarder wrote down what it received besides the body."""

    @classmethod
    def of(cls, value: Any) -> "_Fields":
        found = cls()
        found._walk(value)
        return found

    def values(self, keys: Iterable[str], *, wrapped_only: bool = False) -> Iterator[Any]:
        for key in keys:
            for is_wrapped, value in self.by_key.get(key, ()):
                if is_wrapped or not wrapped_only:
                    yield value

    @property
    def event_type(self) -> str | None:
        for value in self.values(("type",)):
            if isinstance(value, str) and value.strip() and "{{" not in value:
                return storable_text(value.strip()[:_LONGEST_EVENT_NAME])
        return None

    @property
    def document(self) -> dict[str, Any]:
        document = self.bodies[-1][1] if self.bodies else {}
        return bodies.without_the_request(document) if self.tells_of_the_request else document

    @property
    def is_of_a_workflow(self) -> bool:
        return any(_is_of_something_else(body) for _, body in self.bodies)

    @property
    def bare_ids(self) -> Place:
        """The bare `id` of each body that may be a call's, the innermost first."""
        return [
            (-depth, name, value)
            for depth, body in reversed(self.bodies)
            if not _is_of_something_else(body)
            for name, value in body.items()
            if _at_the_top(name).key == "id"
        ]

    def _walk(self, root: Any) -> None:
        """Breadth first. Each text that holds JSON or a form is decoded, at most _DECODINGS within each other."""
        waiting: deque[_Waiting] = deque([(root, "", _TOP, 0, _DECODINGS)])
        while waiting:
            value, name, where, depth, decodings = waiting.popleft()
            if isinstance(value, dict) and depth < DEEPEST:
                self.has_object = True
                if where.is_body:
                    self.bodies.append((depth, value))
                for key, entry in _pairs(value):
                    there = _within(where, key[:LONGEST_NAME])
                    self.tells_of_the_request |= there.is_of_the_request
                    if isinstance(entry, str) and entry[:1] not in _BEGINS_JSON and there.last not in _WRAPPERS:
                        self._take(entry, key, there, depth)
                    elif not (there.is_of_others and isinstance(entry, (dict, list))):
                        waiting.append((entry, key, there, depth + 1, decodings))
            elif isinstance(value, list) and depth < DEEPEST:
                waiting.extend((entry, name, where, depth + 1, decodings) for entry in value)
            elif isinstance(value, str) and decodings and (inner := _inner(value, where)) is not None:
                waiting.append((inner, name, where, depth, decodings - 1))
            elif isinstance(value, str) and where.last in _MAY_HOLD_A_BODY and value.startswith(bodies.BEGINS_JSON):
                self.broken_json.append(value)
            else:
                self._take(value, name, where, depth - 1)

    def _take(self, value: Any, name: str, where: _Where, depth: int) -> None:
        if where.names_call_id:
            self.call_ids.append((depth, name, value))
        self.by_key.setdefault(where.key, []).append((where.is_wrapped, value))


@lru_cache(maxsize=2048)
def _within(where: _Where, name: str) -> _Where:
    """Where the field with this name stands, of an object that stands at `where`."""
    key, last, is_wrapped, is_body, is_of_others = where.key, where.last, where.is_wrapped, where.is_body, False
    names_call_id = False
    for part in folded_path(name):
        names_call_id = part in _CALL_ID or (part == "id" and last in _CALL)
        is_of_others = is_of_others or bool(_OF_OTHERS.fullmatch(part))
        is_body = is_body and part in _WRAPPERS_OF_BODIES
        if key == "" and part in _WRAPPERS:
            is_wrapped = True
        elif key == "":
            key = part
        else:
            key = f"{key}.{part}" if "." not in key and key != _TOO_LONG else _TOO_LONG
        if part == "contactid" or (part == "id" and last == "contact"):
            key = "contactid" if part == "contactid" else "contact.id"
        last = part
    is_of_the_request = last in bodies.OF_THE_REQUEST
    return _Where(key, last, is_wrapped, is_body, names_call_id, is_of_others, is_of_the_request)


def _at_the_top(name: str) -> _Where:
    return _within(_TOP, name[:LONGEST_NAME])


def _inner(text: str, where: _Where) -> Any:
    """What a text holds: JSON, or in a wrapper a form; None where it is a text only."""
    if where.last in _MAY_HOLD_A_BODY:
        text = text.strip(_AROUND_JSON)
        text = bodies.of_base64(text) or text
    if text[:1] in _BEGINS_JSON:
        value = bodies.free_json(text)
        return value if isinstance(value, (dict, list, str)) else None
    return bodies.form(text, is_declared=False) if where.last in _MAY_HOLD_A_BODY else None


def _pairs(value: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields of an object; of {"key": "callId", "value": "…"} the field that it describes."""
    described = value.get("key", value.get("name"))
    if isinstance(described, str) and "value" in value:
        yield described, value["value"]
    yield from value.items()


def _is_of_something_else(body: dict[str, Any]) -> bool:
    """Whether it is a contact, a workflow, a message, another body's envelope, or says so by its type."""
    event_type = body.get("type")
    if event_type == WANTED_EVENT:
        return False
    if isinstance(event_type, str) and event_type.strip() and "{{" not in event_type:
        says_call = "call" in event_type.lower() and "message" not in event_type.lower()
        if not says_call:
            return True
    return any(
        name == "contact_id"
        or there.last in _NOT_A_CALLS_FIELD
        or (there.key == "" and entry and isinstance(entry, dict))
        for name, entry in body.items()
        for there in (_at_the_top(name),)
    )


def _one_call_id(place: Place, others: set[str | None]) -> tuple[str | None, Reason | None]:
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


def _first_id(everywhere: Iterable[_Fields], paths: tuple[str, ...]) -> str | None:
    values = (value for fields in everywhere for value in fields.values(paths))
    return next((found for value in values if isinstance(found := id_of(value), str)), None)
