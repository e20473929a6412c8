"""Makes words that strangers supplied (summaries, names, extracted data) harmless in a note.

They come from a telephone call, so anyone can say anything. In a note such words must not break its structure, hide the
rest of the note where the CRM shows notes as HTML, or pass for a reference line.
"""

import html
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from models.follow_ups.languages import PHRASES

WORDS_LIMIT = 300
"""Characters of one value in a note. Only the summary may be longer."""


def one_line(words: object, *, limit: int = WORDS_LIMIT) -> str:
    """A value as one line of at most `limit` characters: a list with commas, "" for None, objects and the like."""
    if isinstance(words, list | tuple):
        words = ", ".join(line for value in words if (line := one_line(value, limit=limit)))
    if words is None or not isinstance(words, str | int | float):
        return ""
    return shortened(" ".join(_harmless(str(words)).split()), limit)


def several_lines(words: str) -> str:
    """A longer text without empty lines. Of several lines each gets a dash, so that none passes for a line of ours."""
    lines = [_BULLET.sub("", " ".join(line.split())) for line in _harmless(words).split("\n")]
    lines = [line for line in lines if line]
    return lines[0] if len(lines) == 1 else "\n".join(f"– {line}" for line in lines)


def without_entities(text: str) -> str:
    """The text with its HTML entities decoded: `AT&amp;T` → `AT&T`. Only with a semicolon: `?a=1&region=2` stays."""
    return _ENTITY.sub(lambda entity: html.unescape(entity.group()), text)


def shortened(text: str, limit: int) -> str:
    """The text cut to `limit` characters, between words where a word ends near, with "…" at the end."""
    if len(text) <= limit:
        return text
    if limit < 1:
        return ""
    cut = text[: limit - 1]
    at_word = cut.rpartition(" ")[0]
    return f"{(at_word if len(cut) - len(at_word) < 30 else cut).rstrip()}…"


class Lookup:
    """Values that a template asks for by name (`extracted.email`). A missing one is "", as many calls lack them."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __getitem__(self, name: str) -> str:
        return one_line(self._values.get(name))


_INVISIBLE = {"Cc", "Cf", "Cs"}
_JOINERS = "\u200c\u200d"  # zero-width, but Persian words and emoji are written with them
_NEWLINES = re.compile("\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_BULLET = re.compile(r"^[-–—•*·]\s+")
_ENTITY = re.compile(r"&(?:#\d{1,8}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_LABELS = re.compile(
    "|".join(r"[\W_]*".join(phrases.reference.replace(" ", "")) for phrases in PHRASES.values()),
    re.IGNORECASE,
)


def _harmless(words: str) -> str:
    """Repeats `_safer` until nothing changes, so that removing one thing cannot form another."""
    while (safer := _safer(words)) != words:
        words = safer
    return words


def _safer(words: str) -> str:
    words = _NEWLINES.sub("\n", without_entities(words).replace("\t", " "))
    words = "".join(c for c in words if c in "\n" + _JOINERS or unicodedata.category(c) not in _INVISIBLE)
    words = unicodedata.normalize("NFC", words.replace("<", "‹").replace(">", "›"))
    return _LABELS.sub("[…]", words)
