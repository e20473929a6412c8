"""The page about what is promised names its proofs: they have to exist."""

import re

from tests.support.clock import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_every_proof_that_the_guarantees_name_exists() -> None:
    named = NAMED.findall(PAGE.read_text())
    assert len(named) > 30
    missing = [f"{file}::{test}" for file, test in named if not _exists(file, test)]
    assert missing == []


def test_every_fault_of_the_guarantees_names_a_proof() -> None:
    table = PAGE.read_text().partition("## Fault by fault")[2].partition("## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert [row for row in rows if not NAMED.search(row.rsplit("|", 2)[1])] == []


def _exists(file: str, test: str) -> bool:
    path = ROOT / file
    if not path.exists():
        return False
    return not test or f"\ndef {test}(" in path.read_text()
