"""Decodes bodies: strictly the JSON object that the vendor signs, and freely what people and forwarders make of it."""

import base64
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from models.calls.redaction import storable_text
from models.intake.reasons import Reason
from webhook.field_values import folded

DEEPEST = 32  # levels; a real body has 8. Code that walks the document later may recurse
_MOST_DIGITS = 308  # a whole number with 308 digits always fits a double
BEGINS_JSON = ("{", "[{", '["', '"{', '"[')
OF_THE_REQUEST = frozenset({"headers", "rawheaders", "cookies", "webhookurl", "url"})
"""What a forwarder tells of its own request holds the secrets of others, and may hold ours."""

_CHARSET = re.compile(r"""charset\s*=\s*["']?([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE)
_USUAL_CHARSET = re.compile(r"(utf|iso-?8859|latin|cp125|windows-125)[0-9_-]{0,6}([bl]e)?", re.IGNORECASE)
"""Their decoders take linear time, which Python has others that do not."""
_IN_FORM = ("application/x-www-form-urlencoded", "multipart/form-data")
_BEGINS_LIKE_A_FORM = re.compile(r"""[^\s<>{}"'=&]{1,200}=""")
_PERCENT_ENCODED_JSON = re.compile("%(?:7b|5b|22)", re.IGNORECASE)
_NAME_OF_PART = re.compile(r'(?<![a-z*])name="?([^";\r\n]{1,200})')
_BASE64_OF_AN_OBJECT = re.compile(r"e[wy][A-Za-z0-9+/\r\n]{6,}={0,2}")


class UnreadableError(Exception):
    def __init__(self, reason: Reason) -> None:
        self.reason = reason


@dataclass(frozen=True)
class Decoded:
    """A body that somebody composed. `value` is None where nothing of it could be decoded."""

    text: str
    value: Any = None
    reason: Reason | None = None
    """Why there is no value."""


def signed_object(raw_body: bytes) -> dict[str, Any]:
    """The JSON object in UTF-8, every string of which a database can store. Raises UnreadableError.

    Unescaped line breaks within strings are accepted.
    """
    try:
        value = _json(raw_body.decode("utf-8-sig"), _object, _refused)
        if not isinstance(value, dict):
            raise UnreadableError(Reason.NOT_AN_OBJECT)
        return {storable_text(name): _storable(entry, depth=2) for name, entry in value.items()}
    except UnicodeDecodeError:
        raise UnreadableError(Reason.NOT_UTF8) from None
    except ValueError:
        raise UnreadableError(Reason.NOT_JSON) from None
    except RecursionError:
        raise UnreadableError(Reason.TOO_DEEP) from None


def decoded(raw_body: bytes, *, content_type: str) -> Decoded:
    """Whatever a body holds: JSON, a form, a form in parts, in any usual charset. Raises nothing."""
    text, is_utf8 = _text(raw_body, content_type)
    text = text.strip("\ufeff\ufffd\u200b \t\r\n\x00")
    if "&quot;" in text[:20]:
        text = text.replace("&quot;", '"').replace("&amp;", "&")
    value = free_json(text)
    if value is None:
        value = form(text, is_declared=content_type.lower().startswith(_IN_FORM))
    if value is not None:
        return Decoded(text, value)
    if text.startswith(BEGINS_JSON):
        return Decoded(text, reason=Reason.BROKEN_JSON)
    return Decoded(text, reason=Reason.NOT_JSON if is_utf8 else Reason.NOT_UTF8)


def free_json(text: str) -> Any:
    """The JSON value; None where the text is no JSON. Values that JSON cannot express are null in it.

    The values of a name that comes twice stand in a list.
    """
    try:
        return _json(text, _object_with_lists, _is_null)
    except (ValueError, RecursionError):
        return None


def of_base64(text: str) -> str | None:
    """The text that base64 stands for, if it begins like an object; else None."""
    if not _BASE64_OF_AN_OBJECT.fullmatch(text):
        return None
    try:
        return base64.b64decode(text + "==").decode("utf-8", "replace")
    except ValueError:
        return None


def form(text: str, *, is_declared: bool) -> dict[str, Any] | None:
    """The fields of a form, by their names; None where the text is no form."""
    if text.startswith("--"):
        return _object_with_lists(_parts(text)) or None
    is_json = bool(_PERCENT_ENCODED_JSON.match(text))
    if is_json or _BEGINS_LIKE_A_FORM.match(text) or (is_declared and "=" in text):
        pairs = parse_qsl(text.replace("\r\n", "&").replace("\n", "&"), keep_blank_values=True)
        if is_json:
            return {"body": "&".join(f"{name}={value}" if value else name for name, value in pairs)}
        return _object_with_lists(pairs)
    return None


def without_the_request(value: Any, levels: int = DEEPEST) -> Any:
    """A copy without what a forwarder tells of its own request. What is nested deeper is null."""
    if isinstance(value, (dict, list)) and levels <= 0:
        return None
    if isinstance(value, dict):
        return {
            name: without_the_request(entry, levels - 1)
            for name, entry in value.items()
            if folded(name) not in OF_THE_REQUEST
        }
    return [without_the_request(entry, levels - 1) for entry in value] if isinstance(value, list) else value


def _text(raw_body: bytes, content_type: str) -> tuple[str, bool]:
    """The text, and whether it is Unicode. The body's own look outweighs what its header says of it."""
    declared = _CHARSET.search(content_type)
    encodings: list[str] = [json.detect_encoding(raw_body)]
    if encodings[0] not in ("utf-8", "utf-8-sig"):
        return raw_body.decode(encodings[0], "replace"), True
    if declared and _USUAL_CHARSET.fullmatch(declared[1]):
        encodings.append(declared[1])
    for encoding in encodings:
        try:
            return raw_body.decode(encoding), True
        except (UnicodeDecodeError, LookupError):
            continue
    return raw_body.decode("latin-1"), False


Pairs = list[tuple[str, Any]]


def _json(text: str, of_pairs: Callable[[Pairs], dict[str, Any]], out_of_range: Callable[[str], Any]) -> Any:
    def whole_number(digits: str) -> Any:
        return out_of_range(digits) if len(digits.lstrip("-")) > _MOST_DIGITS else int(digits)

    def number(digits: str) -> Any:
        found = float(digits)
        return found if math.isfinite(found) else out_of_range(digits)  # 1e999 is infinite, which JSON cannot express

    return json.loads(
        text, strict=False, object_pairs_hook=of_pairs, parse_int=whole_number, parse_float=number,
        parse_constant=out_of_range,
    )  # fmt: skip


def _refused(_digits: str) -> NoReturn:
    raise UnreadableError(Reason.NUMBER_OUT_OF_RANGE)


def _is_null(_digits: str) -> None:
    return None


def _object(pairs: Pairs) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):  # JSON readers differ on which of two values counts, so neither does
        raise UnreadableError(Reason.DUPLICATE_KEYS)
    return found


def _object_with_lists(pairs: Pairs) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        several: dict[str, list[Any]] = {}
        for name, value in pairs:
            several.setdefault(name, []).append(value)
        found = {name: values if len(values) > 1 else values[0] for name, values in several.items()}
    return found


def _parts(text: str) -> Pairs:
    """The fields of a form in parts. Its first line is the boundary between them."""
    boundary = text.split("\n", 1)[0].strip()
    pairs: Pairs = []
    for part in text.replace("\r\n", "\n").split(boundary) if 2 < len(boundary) < 80 else []:
        head, _, value = part.partition("\n\n")
        if name := _NAME_OF_PART.search(head):
            pairs.append((name[1], value.removesuffix("\n")))
    return pairs


def _storable(value: Any, *, depth: int) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, (dict, list)) and depth > DEEPEST:
        raise UnreadableError(Reason.TOO_DEEP)
    if isinstance(value, dict):
        return {storable_text(name): _storable(entry, depth=depth + 1) for name, entry in value.items()}
    if isinstance(value, list):
        return [_storable(entry, depth=depth + 1) for entry in value]
    return value
