"""What the verdict tells: findings, each by the stable name of its rule, with what is the matter and what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from models.intake.journal import WaitingInJournals


class Severity(StrEnum):
    """Worst first."""

    CRITICAL = "critical"
    """Calls or notes stand still, or may be lost: somebody is called."""
    WARNING = "warning"
    """A person has to look within the day."""
    INFO = "info"
    """Worth knowing; nobody has to do anything."""

    @property
    def needs_a_person(self) -> bool:
        return self is not Severity.INFO


class State(StrEnum):
    """The verdict in a word."""

    FINE = "fine"
    NEEDS_A_PERSON = "needs_a_person"
    CANNOT_TELL = "cannot_tell"


@dataclass(frozen=True)
class Finding:
    """One thing that a rule found."""

    rule: str
    severity: Severity
    location_id: str | None
    """The account that it is about; None: the whole system."""
    told: str
    """What is the matter, with numbers."""
    do: str


@dataclass(frozen=True)
class RedisSeen:
    """One look at Redis, for the models do not know it. `trouble`: why it cannot be used; None: it answers."""

    trouble: str | None = None
    do: str = "start it, or correct REDIS_URL"
    """What to do about the trouble."""
    policy: str | None = None
    """maxmemory-policy; None: it does not tell."""
    queued: Mapping[str, int] | None = None
    """Messages in each queue; None: not looked at."""

    @property
    def loses_messages(self) -> bool:
        """Whether it drops what it holds when it is full. A full one that refuses is as if away, and harms nothing."""
        return self.policy not in (None, "noeviction")


@dataclass(frozen=True)
class Around:
    """What the caller sees and the database cannot know. None: it did not look."""

    redis: RedisSeen | None = None
    journals: WaitingInJournals | None = None
    """Of the caller's host."""


@dataclass(frozen=True)
class SystemVerdict:
    at: datetime
    is_known: bool
    """False: the database could not be asked."""
    findings: Sequence[Finding]
    """Worst first."""
    asked: Mapping[str, Severity]
    """The rules that were asked, found or not."""

    @property
    def state(self) -> State:
        if not self.is_known:
            return State.CANNOT_TELL
        return State.NEEDS_A_PERSON if self.for_a_person() else State.FINE

    def for_a_person(self, *, least: Severity = Severity.WARNING) -> list[Finding]:
        """The findings of this severity and worse."""
        bad = list(Severity)[: list(Severity).index(least) + 1]
        return [each for each in self.findings if each.severity in bad]


def as_json(verdict: SystemVerdict) -> dict[str, Any]:
    """For programs: keys are added, never renamed."""
    return {"verdict": verdict.state, "findings": [asdict(each) for each in verdict.findings]}
