"""Redacts secrets in Leadway's documents, and replaces what a database cannot hold, before anything is stored.

The parameters of a custom action carry the credentials of a third party's API (reference: voice-ai.json,
`authenticationValue`, `headers`), in call logs and in webhook bodies. What people said or wrote stays as it is.
"""

import hmac
import json
import math
import re
from enum import Enum, auto
from typing import Any
from urllib.parse import unquote

MAX_DEPTH = 64
"""Objects and lists that are nested deeper become null: readers of the stored JSON have limits of their own."""
MAX_INTEGER_BITS = 1024
"""Integers beyond the range of a double become null: PostgreSQL keeps them, but few readers can."""


def redact(document: Any, *, key: bytes) -> Any:
    """Returns a deep copy of a JSON value without secrets, fit for JSONB. Raises nothing.

    A secret becomes `[redacted:1a2b3c4d]`, with the first 8 hex digits of its HMAC-SHA256 under `key`, so that a reader
    can tell whether it changed. Redacting twice gives the same as once. NaN, infinities, and values that are too deep
    or too large become null; `storable_text` treats every text. Secrets in a URL's path and in prose are not found.
    """
    return _copy(document, key, _Context.OUTSIDE, 0)


def storable_text(text: str) -> str:
    """Returns the text with U+FFFD for each NUL and each lone surrogate, which PostgreSQL cannot hold.

    They are replaced, not removed: an id with a NUL in it must not become another, usable id.
    """
    return _UNSTORABLE.sub(_REPLACED, text)


class _Context(Enum):
    """Where in the document a value stands, which decides what counts as a secret there."""

    OUTSIDE = auto()
    PARAMETERS = auto()
    HEADERS = auto()
    SECRET = auto()


_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_REDACTED = re.compile(r"\[redacted:[0-9a-f]{8}\]")
_HARMLESS_HEADERS = {
    "accept",
    "acceptencoding",
    "acceptlanguage",
    "contentlength",
    "contenttype",
    "useragent",
    "version",
}
_DESCRIPTIVE = {"name", "key", "type", "description", "required", "in", "id"}
_SECRET_NAME = re.compile(
    "token|apikey|passw|passphrase|secret|authoriz|authenticationvalue|credential|accesskey|privatekey|bearer|"
    "clientkey|signature|jwt|cookie|^(auth|pass|pwd|sig)$"
)
_SECRET_QUERY_NAME = re.compile(_SECRET_NAME.pattern + "|^(key|code|hash|hmac|session|sessionid|sid)$")
_USER_INFO = re.compile(r"(://)([^/?#\s]*)(?=@)")
_QUERY_PAIR = re.compile(r"(?<=[?&;#])([^=&;#?\s]+)=([^&;#\s]+)")
_QUOTED_NAME = re.compile(r"""["']([^"']{1,64})["']\s*:""")
_REPLACED = "\ufffd"
"""Stands for a NUL or a lone surrogate (`storable_text`)."""
_SCHEMES = "|".join(f"{_REPLACED}*".join(scheme) for scheme in ("bearer", "basic"))
_CREDENTIALS = re.compile(rf"(?i)\b((?:{_SCHEMES})(?:{_REPLACED}*\s)+)((?=\S*\d)[A-Za-z0-9._~+/={_REPLACED}-]{{16,}})")
"""Matches as if the replaced characters were not there: a NUL inside a credential must not leave its other half."""


def _copy(value: Any, key: bytes, context: _Context, depth: int) -> Any:
    if isinstance(value, str):
        return _copy_text(storable_text(value), key, context, depth)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _copy_number(value, key, context)
    if depth >= MAX_DEPTH:
        return None
    if isinstance(value, dict):
        return _copy_object(value, key, context, depth)
    if isinstance(value, list | tuple):
        return [_copy(item, key, _of_item(item, context), depth + 1) for item in value]
    return None


def _copy_object(value: dict[str, Any], key: bytes, context: _Context, depth: int) -> dict[str, Any]:
    label = _label_of(value) if context in (_Context.PARAMETERS, _Context.HEADERS) else None
    copy = {}
    for name, item in value.items():
        where = _context_of(_fold(str(name)), item, context, label)
        copy[storable_text(str(name))] = _copy(item, key, where, depth + 1)
    return copy


def _label_of(value: dict[str, Any]) -> str | None:
    """The folded name in {name or key: "Authorization", value: "…"}, the form of parameters and headers; else None."""
    for name in ("name", "key"):
        if isinstance(value.get(name), str) and len(value) > 1:
            return _fold(value[name])
    return None


def _context_of(name: str, item: Any, context: _Context, label: str | None) -> _Context:
    if context is _Context.SECRET or name == "authenticationvalue":
        return _Context.SECRET
    if context is _Context.OUTSIDE:
        # A workflow's own keys may hold the actions as JSON text, and whatever else somebody configured there.
        opens = name in ("actionparameters", "apidetails", "customdata")
        opens = opens or (name == "executedcallactions" and isinstance(item, str))
        return _Context.PARAMETERS if opens else _Context.OUTSIDE
    if label is not None and name in _DESCRIPTIVE:
        return _Context.PARAMETERS
    if context is _Context.HEADERS:
        return _Context.PARAMETERS if (label or name) in _HARMLESS_HEADERS else _Context.SECRET
    if _SECRET_NAME.search(name) or (label is not None and _SECRET_NAME.search(label)):
        return _Context.SECRET
    return _Context.HEADERS if name in ("header", "headers") else _Context.PARAMETERS


def _of_item(item: Any, context: _Context) -> _Context:
    """A header as one text, "Name: value", is concealed whole."""
    return _Context.SECRET if context is _Context.HEADERS and isinstance(item, str) else context


def _copy_number(value: float, key: bytes, context: _Context) -> Any:
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        return None
    if not math.isfinite(value):
        return None
    return _conceal(str(value), key) if context is _Context.SECRET else value


def _copy_text(text: str, key: bytes, context: _Context, depth: int) -> str:
    if context is _Context.OUTSIDE:
        return text
    if context in (_Context.SECRET, _Context.HEADERS):
        return _conceal(text, key)
    if text.replace(_REPLACED, "").lstrip()[:1] in ("{", "["):
        return _copy_json_text(text, key, depth)
    return _conceal_parts(text, key)


def _copy_json_text(text: str, key: bytes, depth: int) -> str:
    """JSON inside a string, such as a request's body: parsed and redacted; if it is broken, judged by its names."""
    try:
        parsed = json.loads(text)
        copy = _copy(parsed, key, _Context.PARAMETERS, depth + 1)
        return text if copy == parsed else json.dumps(copy, ensure_ascii=False)
    except (ValueError, RecursionError):
        names = _QUOTED_NAME.findall(text)
        return _conceal(text, key) if any(_SECRET_NAME.search(_fold(n)) for n in names) else _conceal_parts(text, key)


def _conceal_parts(text: str, key: bytes) -> str:
    """Conceals what is secret within a URL or a line of text: user info, query values, bearer and basic credentials."""

    def conceal_query(match: re.Match[str]) -> str:
        name, value = match.groups()
        secret = _SECRET_QUERY_NAME.search(_fold(unquote(name)))
        return f"{name}={_conceal(value, key)}" if secret else match.group()

    text = _USER_INFO.sub(lambda match: match[1] + _conceal(match[2], key), text)
    text = _QUERY_PAIR.sub(conceal_query, text)
    return _CREDENTIALS.sub(lambda match: match[1] + _conceal(match[2], key), text)


def _conceal(secret: str, key: bytes) -> str:
    """An empty value stays empty: it is no secret, and a person may want to see that nothing was set."""
    if not secret.strip() or _REDACTED.fullmatch(secret):
        return secret
    return f"[redacted:{hmac.new(key, secret.encode(), 'sha256').hexdigest()[:8]}]"


def _fold(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
