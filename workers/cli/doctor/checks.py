"""What a check of the doctor tells: a verdict, what was found, and the next step."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    OK = "ok"
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


def fine(name: str, told: str, *, location_id: str | None = None) -> Check:
    return Check(name, Verdict.OK, told, location_id=location_id)


def warning(name: str, told: str, do: str, *, location_id: str | None = None) -> Check:
    return Check(name, Verdict.WARNING, told, do, location_id)


def failed(name: str, told: str, do: str, *, location_id: str | None = None) -> Check:
    return Check(name, Verdict.FAILED, told, do, location_id)
