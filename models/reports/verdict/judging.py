"""Passes the verdict: asks every rule."""

from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import Connection

from models.reports.verdict.evidence import gather
from models.reports.verdict.findings import Around, Finding, Severity, SystemVerdict
from models.reports.verdict.rule import RuleWithoutDatabase, Trouble, VerdictRule
from models.reports.verdict.rules import ALWAYS, DATABASE_UNUSABLE, RULES


def judge(connection: Connection, around: Around) -> SystemVerdict:
    """The verdict of now. Reads only."""
    evidence = gather(connection)
    found = [
        *of_surroundings(around),
        *(each for rule in RULES for each in _findings(rule, rule.judge(evidence, around))),
    ]
    asked = {rule.name: rule.severity for rule in (*ALWAYS, *RULES)}
    return SystemVerdict(evidence.at, True, _worst_first(found), {DATABASE_UNUSABLE: Severity.CRITICAL, **asked})


def of_surroundings(around: Around) -> list[Finding]:
    """What needs no database."""
    return [each for rule in ALWAYS for each in _findings(rule, rule.judge(around))]


def without_database(around: Around, *, told: str, do: str) -> SystemVerdict:
    """What can be said while the database cannot be asked: `told` says why."""
    unusable = Finding(DATABASE_UNUSABLE, Severity.CRITICAL, None, told, do)
    asked = {DATABASE_UNUSABLE: Severity.CRITICAL, **{rule.name: rule.severity for rule in ALWAYS}}
    return SystemVerdict(datetime.now(UTC), False, _worst_first([unusable, *of_surroundings(around)]), asked)


def _findings(rule: VerdictRule | RuleWithoutDatabase, troubles: Iterable[Trouble]) -> list[Finding]:
    return [Finding(rule.name, rule.severity, each.location_id, each.told, each.do) for each in troubles]


def _worst_first(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda each: list(Severity).index(each.severity))
