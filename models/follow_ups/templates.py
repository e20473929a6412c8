"""The words of notes, tasks and tags: renders a rule's Jinja templates.

The text always fits into the CRM's limits and ends with the reference line. `template_names` holds the variables.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache

from jinja2 import StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment

from models.follow_ups.languages import language_of
from models.follow_ups.references import reference_line
from models.follow_ups.rules import EVERY_LANGUAGE, Rule
from models.follow_ups.sanitizing import one_line, shortened
from models.follow_ups.template_names import NoteContext, Vocabulary, vocabulary

BODY_LIMIT = 5000
"""In UTF-16 units, as the CRM counts. Documented for an appointment's note only (reference: calendars.json)."""

TITLE_LIMIT = 200
TAG_LIMIT = 100


@dataclass(frozen=True)
class TaskWords:
    """A task's title (one line) and body (ends with the reference line)."""

    title: str
    body: str


class WordingError(RuntimeError):
    """A template could not be rendered, now or later. The text names rule and type of error, never the words."""


def word_note(rule: Rule, context: NoteContext) -> str:
    """A note's body: the rule's template, then the reference line. Raises WordingError."""
    return _with_reference(rule, rule.body, context=context)


def word_task(rule: Rule, context: NoteContext) -> TaskWords:
    """A task's words. Without a body template the body has the facts and the summary. Raises WordingError."""
    title = _rendered(rule, _in_language(rule.title, context.language), words=vocabulary(context))
    body = _with_reference(rule, rule.body or {EVERY_LANGUAGE: "{{ facts }}\n\n{{ call.summary }}"}, context=context)
    return TaskWords(one_line(title, limit=TITLE_LIMIT), body)


def tags_for(rule: Rule, context: NoteContext) -> tuple[str, ...]:
    """The tags to add, without empty and repeated ones, in the rule's order. Raises WordingError."""
    words = vocabulary(context)
    tags = (one_line(_rendered(rule, tag, words=words), limit=TAG_LIMIT) for tag in rule.tags)
    return tuple(dict.fromkeys(tag for tag in tags if tag))


ENVIRONMENT = SandboxedEnvironment(  # plain text, so nothing is escaped
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    autoescape=False,
    finalize=lambda value: "" if value is None else value,
)


@lru_cache(maxsize=256)
def template(source: str) -> Template:
    """A compiled template. Raises jinja2.TemplateSyntaxError."""
    return ENVIRONMENT.from_string(source)


def render(source: str, words: Vocabulary) -> str:
    """The rendered template, tidied: no blanks at the ends of lines, at most one empty line in a row."""
    text = template(source).render({part.name: getattr(words, part.name) for part in fields(words)})
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _with_reference(rule: Rule, body: Mapping[str, str], *, context: NoteContext) -> str:
    """The rendered body and the reference line. A text over BODY_LIMIT gets a shorter summary; the line stays whole."""
    ending = f"\n\n{reference_line(context.reference, context.language)}"
    source, words, room = _in_language(body, context.language), vocabulary(context), BODY_LIMIT - _units(ending)
    summary, keep = words.call.summary, len(words.call.summary)
    text = _rendered(rule, source, words=words)
    while (over := _units(text) - room) > 0 and keep > 0:
        keep = max(0, min(keep - over, keep * 9 // 10))  # at least a tenth less, so that the loop ends soon
        cut = replace(words, call=replace(words.call, summary=shortened(summary, keep)))
        text = _rendered(rule, source, words=cut)
    while (over := _units(text) - room) > 0:  # a template that is too long by itself
        text = shortened(text, min(len(text) - 1, room, len(text) - over // 2))
    return text + ending


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _in_language(texts: Mapping[str, str], language: str) -> str:
    """The text in the account's language, else the one for every language, else English, else the first."""
    for code in (language_of(language), EVERY_LANGUAGE, "en"):
        if code in texts:
            return texts[code]
    return next(iter(texts.values()), "")


def _rendered(rule: Rule, source: str, *, words: Vocabulary) -> str:
    if not source:
        raise WordingError(f"rule {rule.id!r} has no template for what is to be written")
    try:
        return render(source, words)
    except Exception as error:
        # A template's error concerns its follow-up only. The text of the exception may hold the caller's words.
        raise WordingError(f"a template of rule {rule.id!r} failed with {type(error).__name__}") from None
