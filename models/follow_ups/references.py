"""The reference of a follow-up, and the reference line by which a note or task in the CRM is known to be ours."""

import json
import re
from uuid import UUID, uuid5

from models.follow_ups.languages import PHRASES, language_of
from models.follow_ups.sanitizing import without_entities

_NAMESPACE = UUID("c6a9ccd2-147d-4f72-a293-fa3193078de7")


def reference_for(location_id: str, call_id: str, rule_id: str, action_key: str) -> str:
    """The id of a follow-up: a UUIDv5 of what makes it unique, so the same follow-up always has the same id."""
    return str(uuid5(_NAMESPACE, json.dumps([location_id, call_id, rule_id, action_key])))


def reference_line(reference: str, language: str) -> str:
    """The last line of every note and task that we write."""
    return f"{PHRASES[language_of(language)].reference}: {reference}"


def carries_reference(text: str, reference: str) -> bool:
    """Whether `text`, as the CRM returns it, has the line of this reference in any of our languages.

    Compares only letters and digits: the CRM may have changed tags, entities, spaces, dashes and capitals.
    """
    lines = [_letters(phrases.reference + reference) for phrases in PHRASES.values()]
    decoded = without_entities(without_entities(text))
    # Read with and without tags: a lone "<" in the text must not swallow the line as if it were a tag.
    readings = [_letters(reading) for reading in (text, decoded, _TAG.sub("", text), _TAG.sub("", decoded))]
    return any(line in reading for line in lines for reading in readings)


_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())
