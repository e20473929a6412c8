"""Reads rules from TOML: the built-in ones, and a file that adds to them, changes them or switches them off.

Whatever is wrong is told when the program starts, with the file, the line, the rule and what to do about it.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from models.follow_ups.languages import Language
from models.follow_ups.rule_positions import Position, RulePositions, positions_in
from models.follow_ups.rules import EVERY_LANGUAGE, FollowUpKind, Rule, Rules
from models.follow_ups.template_checks import TemplateError, check_template, did_you_mean

BUILT_IN = Path(__file__).with_name("rules.toml")


class RulesError(ValueError):
    """The rules cannot be used. The message names file, line and rule, and says what to do."""


def load_rules(path: Path | None) -> Rules:
    """The built-in rules, under those of the file if there is one. Raises RulesError."""
    entries = _entries(BUILT_IN) + (_entries(path) if path is not None else [])
    named = dict.fromkeys(account for entry in entries for account in entry.accounts or ())
    return Rules(
        everywhere=_layered(entries, account=None),
        by_account={account: _layered(entries, account=account) for account in named},
    )


@dataclass(frozen=True)
class _Entry:
    """One `[[rule]]` of one file, its values checked one by one. `accounts` None: it holds everywhere."""

    file: Path
    id: str
    places: RulePositions
    values: Mapping[str, Any]
    accounts: tuple[str, ...] | None

    def error(self, problem: str, place: Position | None = None) -> RulesError:
        line = (place or self.places.header).line
        return RulesError(f"{self.file}, line {line}, rule {self.id!r}: {problem}".replace("?.", "?"))


def _entries(file: Path) -> list[_Entry]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = "it is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise RulesError(
            f"{file}: the rules file cannot be read ({why}). Correct LEADWAY_RULES_FILE, or unset it to use the"
            " built-in rules alone."
        ) from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line, problem = (at[1] if at else text.count("\n") + 1), re.sub(r" \(at .*\)$", "", str(error))
        raise RulesError(f"{file}, line {line}: this is not TOML: {problem}. A quote or bracket may be open.") from None
    places, top = positions_in(text)
    for key in document.keys() - {"rule"}:
        line = top.get(key, Position(1)).line
        raise RulesError(f"{file}, line {line}: unknown key {key!r}; rules are written as [[rule]] tables.")
    tables = document.get("rule", [])
    if not isinstance(tables, list) or len(tables) != len(places):
        line = top.get("rule", Position(1)).line
        raise RulesError(f"{file}, line {line}: write every rule as a table of its own, headed [[rule]].")
    entries: list[_Entry] = []
    for table, place in zip(tables, places, strict=True):
        entry = _entry(file, table, places=place)
        _refuse_repeated(entry, entries)
        entries.append(entry)
    return entries


def _entry(file: Path, table: Mapping[str, Any], *, places: RulePositions) -> _Entry:
    rule_id = table.get("id")
    if not isinstance(rule_id, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", rule_id):
        line = places.of("id").line
        raise RulesError(
            f"{file}, line {line}, rule {rule_id!r}: every rule needs an id of small letters, digits and hyphens,"
            ' such as id = "booking-note". It is stored with each follow-up, so never change it.'
        )
    entry = _Entry(file, rule_id, places, {}, None)
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _READERS:
            raise entry.error(f"unknown key {key!r}{did_you_mean(key, _READERS)}.", places.of(key))
        try:
            values[key] = _READERS[key](value)
        except ValueError as error:
            raise entry.error(f"{key} {error}.", places.of(key)) from None
    _check_templates(entry, values)
    return _Entry(file, rule_id, places, values, values.get("accounts"))


def _refuse_repeated(entry: _Entry, earlier: Iterable[_Entry]) -> None:
    for other in earlier:
        shared = set(entry.accounts or [None]) & set(other.accounts or [None])
        if entry.id == other.id and shared:
            raise entry.error(
                f"this id is already at line {other.places.header.line}, for the same accounts. Join the two, or give"
                " one another id."
            )


def _check_templates(entry: _Entry, values: Mapping[str, Any]) -> None:
    sources = [(key, code, source) for key in ("title", "body") for code, source in values.get(key, {}).items()]
    sources += [("tags", EVERY_LANGUAGE, tag) for tag in values.get("tags", ())]
    for key, code, source in sources:
        try:
            check_template(source)
        except TemplateError as problem:
            place = entry.places.of(f"{key}.{code}" if code else key).inside(problem.line)
            raise entry.error(f"the template of {key} {problem}.", place) from None


def _layered(entries: Iterable[_Entry], *, account: str | None) -> tuple[Rule, ...]:
    """The rules of one account (None: of one that no entry names): later entries over earlier ones, key by key."""
    merged: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if entry.accounts is not None and account not in entry.accounts:
            continue
        if entry.id not in merged and not {"action", "kind"} <= entry.values.keys():
            raise entry.error(f"a new rule needs both action and kind{did_you_mean(entry.id, merged)}.")
        values = merged.setdefault(entry.id, {})
        for key in ("action", "kind"):
            if key in entry.values and values.get(key, entry.values[key]) != entry.values[key]:
                raise entry.error(
                    f"{key} of this rule is {str(values[key])!r} and cannot be changed, for its follow-ups are known by"
                    " its id. Switch it off with enabled = false and give the new one an id of its own.",
                    entry.places.of(key),
                )
        for key, value in entry.values.items():
            if key in ("title", "body") and EVERY_LANGUAGE not in value:
                value = {**values.get(key, {}), **value}
            values[key] = value
        _refuse_incomplete(entry, values)
    return tuple(
        Rule(**{key: value for key, value in values.items() if key != "accounts"}) for values in merged.values()
    )


def _refuse_incomplete(entry: _Entry, values: Mapping[str, Any]) -> None:
    kind = values["kind"]
    needed, allowed = _KEYS_OF[kind]
    for key in sorted(values.keys() - allowed - _KEYS_OF_ALL):
        raise entry.error(f'{key} has no meaning for kind = "{kind}".', entry.places.of(key))
    for key in sorted(needed - values.keys()):
        raise entry.error(f'kind = "{kind}" needs {key}.')


_KEYS_OF_ALL = {"id", "action", "action_name", "kind", "enabled", "accounts"}
_KEYS_OF: Mapping[FollowUpKind, tuple[set[str], set[str]]] = {
    FollowUpKind.NOTE: ({"body"}, {"body"}),
    FollowUpKind.TASK: ({"title", "due_in"}, {"title", "body", "due_in", "assigned_to"}),
    FollowUpKind.TAG: ({"tags"}, {"tags"}),
    FollowUpKind.WORKFLOW: ({"workflow_id"}, {"workflow_id"}),
}


# Each key's reader gives the value or raises ValueError with words that follow the key's name.


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text in quotes, not empty")
    return value.strip()


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError('must be a list of texts, such as ["one", "two"]')
    return tuple(dict.fromkeys(_text(part) for part in value))


def _words(value: object) -> dict[str, str]:
    by_language: dict[str, Any] = value if isinstance(value, dict) else {EVERY_LANGUAGE: value}
    for code, source in by_language.items():
        if code not in (EVERY_LANGUAGE, *Language):
            raise ValueError(f"is in an unknown language {code!r}; write {' or '.join(Language)}")
        if not isinstance(source, str) or not source.strip():
            raise ValueError("must be a template in quotes, not empty (one, or one for each language)")
    return by_language


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false, without quotes")
    return value


def _kind(value: object) -> FollowUpKind:
    for kind in FollowUpKind:
        if kind == value:
            return kind
    raise ValueError(
        f"must say what to leave in the CRM{did_you_mean(str(value), [kind.value for kind in FollowUpKind])}"
    )


def _span(value: object) -> timedelta:
    parts = re.fullmatch(r"(\d{1,4})(m|h|d)", value) if isinstance(value, str) else None
    if parts is None or parts[1].strip("0") == "":
        raise ValueError('must be a time from the call, such as "30m", "2h" or "1d"')
    return timedelta(**{{"m": "minutes", "h": "hours", "d": "days"}[parts[2]]: int(parts[1])})


_READERS: Mapping[str, Callable[[object], Any]] = {
    "id": _text,
    "action": _text,
    "action_name": _text,
    "kind": _kind,
    "enabled": _flag,
    "accounts": _texts,
    "title": _words,
    "body": _words,
    "tags": _texts,
    "due_in": _span,
    "assigned_to": _text,
    "workflow_id": _text,
}
