"""Reads rules from TOML: the built-in ones, and a file that adds to them, changes them or switches them off.

Whatever is wrong is told when the program starts, with the file, the line, the rule and what to do about it. pydantic
checks one rule of one file (`_Keys`); what depends on other rules is checked while they are laid over each other.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

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
    named = dict.fromkeys(account for entry in entries for account in entry.accounts if account)
    return Rules(
        everywhere=_layered(entries, account=None),
        by_account={account: _layered(entries, account=account) for account in named},
    )


def _checked(source: str) -> str:
    if not source.strip():
        raise ValueError("an empty template; leave the key out instead")
    check_template(source)
    return source


def _by_language(value: object) -> object:
    by_language: dict[str, object] = value if isinstance(value, dict) else {EVERY_LANGUAGE: value}
    for code in by_language:
        if code not in (EVERY_LANGUAGE, *Language):
            raise ValueError(f"unknown language {code!r}; write {' or '.join(Language)}")
    return by_language


def _span(value: object) -> timedelta:
    parts = re.fullmatch(r"(?!0+\D)(\d{1,4})([mhd])", value) if isinstance(value, str) else None
    if parts is None:
        raise ValueError('write a time from the call, such as "30m", "2h" or "1d"')
    return timedelta(**{{"m": "minutes", "h": "hours", "d": "days"}[parts[2]]: int(parts[1])})


_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
_Template = Annotated[str, AfterValidator(_checked)]
_Templates = Annotated[dict[str, _Template], Field(min_length=1), BeforeValidator(_by_language)]
_Tag = Annotated[_Text, AfterValidator(_checked)]


class _Keys(BaseModel, extra="forbid"):
    """What one `[[rule]]` may say. A later one of the same id changes only what it says: `model_fields_set`."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    action: _Text | None = None
    action_name: _Text | None = None
    kind: FollowUpKind | None = None
    enabled: Annotated[bool, Field(strict=True)] = True
    accounts: Annotated[list[_Text], Field(min_length=1)] | None = None
    title: _Templates | None = None
    body: _Templates | None = None
    tags: Annotated[list[_Tag], Field(min_length=1), AfterValidator(tuple)] | None = None
    due_in: Annotated[timedelta, BeforeValidator(_span)] | None = None
    assigned_to: _Text | None = None
    workflow_id: _Text | None = None


_KEYS_OF_ALL = {"id", "action", "action_name", "kind", "enabled"}
_KEYS_OF: Mapping[FollowUpKind, tuple[set[str], set[str]]] = {
    FollowUpKind.NOTE: ({"body"}, {"body"}),
    FollowUpKind.TASK: ({"title", "due_in"}, {"title", "body", "due_in", "assigned_to"}),
    FollowUpKind.TAG: ({"tags"}, {"tags"}),
    FollowUpKind.WORKFLOW: ({"workflow_id"}, {"workflow_id"}),
}
"""What a rule of each kind must say, and what it may say."""


@dataclass(frozen=True)
class _Entry:
    """One `[[rule]]` of one file, with the values that it sets. `accounts` (None,): it holds everywhere."""

    file: Path
    places: RulePositions
    id: str
    values: Mapping[str, Any]
    accounts: tuple[str | None, ...] = (None,)

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
    entries = [_entry(file, table, places=place) for table, place in zip(tables, places, strict=True)]
    seen: dict[tuple[str, str | None], _Entry] = {}
    for entry in entries:
        for account in entry.accounts:
            if (other := seen.setdefault((entry.id, account), entry)) is not entry:
                raise entry.error(
                    f"this id is already at line {other.places.header.line}, for the same accounts. Join the two, or"
                    " give one another id."
                )
    return entries


def _entry(file: Path, table: dict[str, Any], *, places: RulePositions) -> _Entry:
    rule_id: Any = table.get("id")
    try:
        keys = _Keys.model_validate(table)
    except ValidationError as error:
        problems = [_problem(each, places) for each in error.errors()]
        place, problem = min(problems, key=lambda each: each[0].line)
        raise _Entry(file, places, rule_id, {}).error(problem, place) from None
    values = {key: getattr(keys, key) for key in keys.model_fields_set - {"accounts"}}
    return _Entry(file, places, rule_id, values, tuple(keys.accounts or [None]))


def _problem(error: ErrorDetails, places: RulePositions) -> tuple[Position, str]:
    """Where it is in the file, and what is wrong."""
    key, place = str(error["loc"][0]), places.of(".".join(map(str, error["loc"])))
    cause = error.get("ctx", {}).get("error")
    if key == "id":
        return place, (
            'every rule needs an id of small letters, digits and hyphens, such as id = "booking-note". It is stored'
            " with each follow-up, so never change it."
        )
    if error["type"] == "extra_forbidden":
        return place, f"unknown key {key!r}{did_you_mean(key, _Keys.model_fields)}."
    if isinstance(cause, TemplateError):
        return place.inside(cause.line), f"the template of {key} {cause}."
    hint = did_you_mean(str(error["input"]), map(str, FollowUpKind)) if error["type"] == "enum" else ""
    return place, f"{key}: {cause or error['msg']}{hint}."


def _layered(entries: Iterable[_Entry], *, account: str | None) -> tuple[Rule, ...]:
    """The rules of one account (None: of one that no entry names): later entries over earlier ones, key by key."""
    merged: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if not {None, account} & set(entry.accounts):
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
    return tuple(Rule(**values) for values in merged.values())


def _refuse_incomplete(entry: _Entry, values: Mapping[str, Any]) -> None:
    kind = values["kind"]
    needed, allowed = _KEYS_OF[kind]
    for key in sorted(values.keys() - allowed - _KEYS_OF_ALL):
        raise entry.error(f'{key} has no meaning for kind = "{kind}".', entry.places.of(key))
    for key in sorted(needed - values.keys()):
        raise entry.error(f'kind = "{kind}" needs {key}.')
