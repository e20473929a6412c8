"""Says our sentences to the owner of an account in Spanish: those of the setup page and of `leadway-calls doctor`.

Sentences are composed in English wherever they are known, and some are stored so (`pauses.detail`). The catalogue
`spanish.toml` has each with `{names}` for what differs, so that a sentence is recognised whole, and its parts in turn.
That keeps the code free of a second language, and the Spanish in one place. What is not in it stays English.
"""

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from models.follow_ups.languages import Language

CATALOGUE = Path(__file__).with_name("spanish.toml")
NAME = re.compile(r"\{(\w+)\}")


def translated(text: str, language: Language) -> str:
    """The text in this language, as far as the catalogue has it."""
    if language is Language.EN or not text:
        return text
    exact = catalogue().get(text)
    if exact is not None:
        return exact
    for pattern, spanish in _patterns():
        found = pattern.fullmatch(text)
        if found is not None:
            return spanish.format_map({name: translated(part, language) for name, part in found.groupdict().items()})
    return text


@cache
def catalogue() -> Mapping[str, str]:
    """Spanish by English."""
    return {
        english: spanish
        for part in tomllib.loads(CATALOGUE.read_text()).values()
        for english, spanish in part.items()
    }  # fmt: skip


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Of the sentences with names, the one with the most words first."""
    with_names = [(english, spanish) for english, spanish in catalogue().items() if NAME.search(english)]
    with_names.sort(key=lambda each: len(NAME.sub("", each[0])), reverse=True)
    return [(_pattern(english), spanish) for english, spanish in with_names]


def _pattern(english: str) -> re.Pattern[str]:
    parts = NAME.split(english)  # words, name, words, name, …, words
    groups = [f"(?P<{part}>.+?)" if number % 2 else re.escape(part) for number, part in enumerate(parts)]
    return re.compile("".join(groups), re.DOTALL)
