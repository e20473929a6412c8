"""What a check of the doctor tells: a verdict, what was found, and the next step."""

from dataclasses import dataclass, replace
from enum import StrEnum

from models.follow_ups.languages import Language
from models.reports.translation import translated


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Worth knowing; nobody has to do anything."""
    WARNING = "warning"
    """It works, or may work, but somebody should look."""
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    name: str
    verdict: Verdict
    told: str
    do: str = ""
    """The next step; empty when there is none."""
    location_id: str | None = None
    """The account that was looked at; None: the system."""
    language: str | None = None
    """That account's."""

    def in_language(self, language: Language) -> "Check":
        name, told, do = (translated(each, language) for each in (self.name, self.told, self.do))
        return replace(self, name=name, told=told, do=do)


def fine(name: str, told: str) -> Check:
    return Check(name, Verdict.OK, told)


def warning(name: str, told: str, do: str) -> Check:
    return Check(name, Verdict.WARNING, told, do)


def failed(name: str, told: str, do: str) -> Check:
    return Check(name, Verdict.FAILED, told, do)
