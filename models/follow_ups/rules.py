"""The rules as values, and the one function that decides by them which follow-ups a call asks for.

`rules_file` reads the rules from TOML. This module touches no file, so that planning stays a pure decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from models.calls.call_log import Action, ActionType, CallLog

ANY_ACTION = "*"
CALL_KEY = "call"
"""The action key of a transfer that releases before 2026-12 planned where the log had `agentTransferOccurred` alone."""

EVERY_LANGUAGE = ""
"""The key of a template that stands for all languages."""


class FollowUpKind(StrEnum):
    """What a follow-up leaves in the CRM."""

    NOTE = "note"
    TASK = "task"
    TAG = "tag"
    WORKFLOW = "workflow"


class SkipReason(StrEnum):
    """Why a follow-up is recorded but not sent. When several reasons apply, the first one here is recorded."""

    TRIAL_CALL = "trial_call"
    NO_CONTACT = "no_contact"
    TOO_OLD = "too_old"


@dataclass(frozen=True)
class Rule:
    """One type of action calls for one thing in the CRM. Templates are Jinja sources by language code."""

    id: str
    action: str
    kind: FollowUpKind
    enabled: bool = True
    action_name: str | None = None
    body: Mapping[str, str] = field(default_factory=dict)
    title: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    due_in: timedelta | None = None
    assigned_to: str | None = None
    workflow_id: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """Its templates."""
        return (*self.body.values(), *self.title.values(), *self.tags)

    def wants(self, action: Action) -> bool:
        """Whether this rule applies to the action. Case does not count, neither in types nor in names."""
        if not self.enabled or self.action.upper() not in (ANY_ACTION, action.action_type.upper()):
            return False
        return self.action_name is None or self.action_name.strip().casefold() == action.name.strip().casefold()


@dataclass(frozen=True)
class Rules:
    """Every rule, with those that are switched off. An account that the rules file names has a list of its own."""

    everywhere: tuple[Rule, ...]
    by_account: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)

    def of(self, location_id: str) -> tuple[Rule, ...]:
        return self.by_account.get(location_id, self.everywhere)

    def read_extracted_data(self, location_id: str) -> bool:
        """Whether a rule of the account words extracted data, which no list carries."""
        sources = (source for rule in self.of(location_id) if rule.enabled for source in rule.sources)
        return any("extracted" in source for source in sources)

    def find(self, rule_id: str, *, location_id: str) -> Rule | None:
        """The rule of a planned follow-up. None if it was removed from the rules file since."""
        return next((rule for rule in self.of(location_id) if rule.id == rule_id), None)


@dataclass(frozen=True)
class PlannedFollowUp:
    """A follow-up before it has a row: unique by call, rule and action key."""

    rule_id: str
    action_key: str
    kind: FollowUpKind
    contact_id: str | None
    skip_reason: SkipReason | None


def is_too_old(call_log: CallLog, *, now: datetime, age_hours: int) -> bool:
    """Whether the call ended more than `age_hours` ago, the account's follow-up age. A call without times is not."""
    return call_log.ended_at is not None and now - call_log.ended_at > timedelta(hours=age_hours)


def follow_ups_for(
    call_log: CallLog,
    keyed_actions: Sequence[tuple[str, Action]],
    rules: Rules,
    *,
    location_id: str,
    too_old: bool = False,
    planned_as_call: bool = False,
) -> tuple[PlannedFollowUp, ...]:
    """The follow-ups that this reading of the log calls for, in the order of the actions' times, then of the rules.

    `planned_as_call`: an earlier reading planned the transfer under CALL_KEY. That follow-up stands for the first
    CALL_TRANSFER action of a later reading, so that a fuller log leads to no second note about the same transfer.
    """
    contact_id = call_log.contact_id or None
    skip_reason = _skip_reason(call_log, too_old=too_old)
    return tuple(
        PlannedFollowUp(rule.id, action_key, rule.kind, contact_id, skip_reason)
        for action_key, action in _to_be_planned(keyed_actions, planned_as_call=planned_as_call)
        for rule in rules.of(location_id)
        if rule.wants(action)
    )


def _to_be_planned(keyed_actions: Sequence[tuple[str, Action]], *, planned_as_call: bool) -> list[tuple[str, Action]]:
    in_order = sorted(keyed_actions, key=_moment_and_key)
    if planned_as_call:
        transfers = [keyed for keyed in in_order if keyed[1].action_type.upper() == ActionType.CALL_TRANSFER]
        return [keyed for keyed in in_order if keyed not in transfers[:1]]
    return in_order


def _moment_and_key(keyed: tuple[str, Action]) -> tuple[datetime, str]:
    return keyed[1].executed_at or datetime.max.replace(tzinfo=UTC), keyed[0]


def _skip_reason(call_log: CallLog, *, too_old: bool) -> SkipReason | None:
    if call_log.trial_call:
        return SkipReason.TRIAL_CALL
    if not call_log.contact_id:
        return SkipReason.NO_CONTACT
    return SkipReason.TOO_OLD if too_old else None
