"""Reads single values of a body: ids, telephone numbers, times, names of fields. None: the value is none of these."""

import html
import re
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from models.settings.values import LEADWAY_ID

_NO_VALUE = frozenset({"", "null", "none", "undefined", "nan"})
_AROUND = " \t\r\n\"'“”„«»‘’`"
_UNSEEN = re.compile(
    "[\u00a0\u00ad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
"""Blanks that are not ASCII, zero-width characters, marks of direction, selectors of variants, fillers."""
_TAG = re.compile(r"<[^<>]{0,100}>")
_LONGEST_IN_HTML = 300
_PHONE = re.compile(r"\+?[0-9 ().-]{3,32}")
_EPOCH = re.compile(r"[0-9]{10}(?:[0-9]{3})?")
LONGEST_NAME = 100
"""What is longer is the name of nothing that is looked for."""


class NoId(Enum):
    """Why a value is no id."""

    NO_VALUE = auto()
    MERGE_TAG = auto()
    UNUSABLE = auto()


def id_of(value: Any) -> str | NoId:
    """The id that a value holds, without blanks and quotes around it and without characters that nobody sees."""
    if value is None:
        return NoId.NO_VALUE
    if not isinstance(value, str):
        return NoId.UNUSABLE
    text = visible(value).strip(_AROUND)
    if text.lower() in _NO_VALUE:
        return NoId.NO_VALUE
    if "{{" in text:
        return NoId.MERGE_TAG
    if ("<" in text or "&" in text) and len(text) <= _LONGEST_IN_HTML:
        text = visible(html.unescape(_TAG.sub("", text))).strip(_AROUND)
    return text if LEADWAY_ID.fullmatch(text) else NoId.UNUSABLE


def visible(text: str) -> str:
    """The text without characters that nobody sees."""
    return text if text.isascii() else _UNSEEN.sub("", text)


def number_of(value: Any) -> str | None:
    """The digits of a telephone number, with a leading + if it has one."""
    if not isinstance(value, str) or not _PHONE.fullmatch(value.strip()):
        return None
    digits = re.sub(r"[^0-9]", "", value)
    return ("+" + digits if value.strip().startswith("+") else digits) or None


def time_of(value: Any) -> datetime | None:
    """The instant, in UTC, of ISO 8601 with a zone or of seconds or milliseconds since 1970."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**13 else None
    if not isinstance(value, str):
        return None
    try:
        if _EPOCH.fullmatch(value.strip()):
            seconds = int(value) / (1000 if len(value.strip()) == 13 else 1)
            return datetime.fromtimestamp(seconds, UTC)
        moment = datetime.fromisoformat(value.strip())
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (ValueError, OverflowError):
        return None


def folded(name: str) -> str:
    """A field's name without case, blanks, and everything else that is neither letter nor digit."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def folded_path(name: str) -> tuple[str, ...]:
    """The same of each part of a name that is a path: `customData[callId]`, `body.call_id`, `data__callId`."""
    parts = re.split(r"[.\[\]/]|__", name)
    return tuple(part for each in parts if (part := folded(each)) and not part.isdecimal())
