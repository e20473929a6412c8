"""The fields of a decoded document, whatever wraps them: by their folded names, and which may be the call's id."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from models.calls.redaction import storable_text
from webhook import bodies
from webhook.bodies import DEEPEST
from webhook.field_values import LONGEST_NAME, folded_path

WANTED_EVENT = "VoiceAiCallEnd"

_CALL_ID = frozenset({"callid", "voicecallid", "aicallid", "voiceaicallid", "calllogid", "voiceaicalllogid"})
_CALL = frozenset({"call", "voicecall", "aicall", "voiceaicall", "calllog", "voiceaicalllog"})
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
_NOT_A_CALLS_FIELD = frozenset(
    {
        *("firstname", "lastname", "fullname", "email", "tags", "contacttype", "workflow", "customdata", "triggerdata"),
        *("messagetype", "conversationid", "pipelineid", "calendarid", "appointmentstatus"),
    }
)
"""An object with one of these fields is a contact's, a workflow's, a message's: its bare `id` is not the call's."""
_BEGINS_JSON = frozenset({"{", "[", '"'})
_AROUND_JSON = "\ufeff\u200b \t\r\n"
_DECODINGS = 4
"""Texts within texts that are decoded, at most."""
_LONGEST_EVENT_NAME = 64

Candidates = list[tuple[int, str, Any]]
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
class Fields:
    """The fields of a document, the outermost first."""

    by_key: dict[str, list[tuple[bool, Any]]] = field(default_factory=dict)
    """Each value, and whether it stands in a wrapper."""
    call_ids: Candidates = field(default_factory=list)
    bodies: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    has_object: bool = False
    broken_json: list[str] = field(default_factory=list)
    """Texts that stand where a body may stand and begin like JSON, but are none."""
    tells_of_the_request: bool = False
    """A forwarder wrote down what it received besides the body."""

    @classmethod
    def of(cls, value: Any) -> "Fields":
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
    def bare_ids(self) -> Candidates:
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
