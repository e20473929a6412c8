"""A rule of the verdict: a stable name, a severity, and a function of what is known."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from models.reports.verdict.evidence import Evidence
from models.reports.verdict.findings import Around, Severity
from models.reports.wording import age


@dataclass(frozen=True)
class Trouble:
    """What a rule found, once for each account or for the whole system."""

    told: str
    do: str
    location_id: str | None = None


Troubles = Iterator[Trouble]


@dataclass(frozen=True)
class VerdictRule:
    name: str
    severity: Severity
    judge: Callable[[Evidence, Around], Troubles]


@dataclass(frozen=True)
class RuleWithoutDatabase:
    name: str
    severity: Severity
    judge: Callable[[Around], Troubles]


def ago(evidence: Evidence, then: datetime) -> str:
    return age((evidence.at - then).total_seconds())
