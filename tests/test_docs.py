"""What the documents say about the code and about each other is there: settings, places, links, decisions, words."""

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from models.reports.verdict.rules import ALWAYS, DATABASE_UNUSABLE, RULES
from models.settings import NAMES, Settings, read_settings
from tests.support.processes import ROOT

README = ROOT / "README.md"
EXAMPLE = ROOT / ".env.example"
VERDICT = ROOT / "docs/operating/verdict.md"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
OF_TODAY = [each for each in DOCUMENTS if each.name != "CHANGELOG.md"]
"""A changelog names places as they were."""

FOR_TESTS = {"FAILPOINTS_FOLDER"}
OF_FLOWER = {"FLOWER_ADDRESS"}
"""Flower reads its own variables; ours is FLOWER_PORT, which the pages link to."""
SAID_EMPTY = "LEADWAY_WEBHOOK_PUBLIC_KEYS"
"""The only setting that means something else when it is set to nothing, so no line can show its default."""

ROOMS = "webhook|workers|models|migrations|tests"
PLACE = re.compile(rf"(?<![\w./-])(?:{ROOMS})(?:[./][A-Za-z_0-9]+)+")
LITERAL = re.compile(r"`([^`]+)`|(\d+)")


def every_setting() -> set[str]:
    return set(NAMES)


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table under this heading, without its two head lines."""
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert lines, f"no table under {heading!r}"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def defaults_of_the_readme() -> dict[str, str | None]:
    """Each setting of the table with its default; None where the table gives no literal value."""
    found: dict[str, str | None] = {}
    for names, default, _meaning in rows_of(README.read_text(), "Settings"):
        settings = re.findall(r"`(\w+)`", names)
        cells = [LITERAL.fullmatch(part) for part in default.split(", ")]
        literal = [cell[1] or cell[2] for cell in cells if cell]
        assert not literal or len(literal) == len(settings), f"{names}: one default for each"
        found |= dict(zip(settings, literal or [None] * len(settings), strict=True))
    return found


def lines_of_the_example() -> dict[str, str]:
    """Each variable of .env.example, commented or not, with the value that stands there."""
    found = re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", EXAMPLE.read_text(), re.MULTILINE)
    assert len(found) == len(dict(found)), "each variable stands there once"
    return dict(found)


@pytest.fixture
def default_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Settings:
    """An empty environment and an empty working directory, for the rest of the test too."""
    for name in every_setting():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return read_settings()


# Settings


def test_the_readme_and_the_example_name_every_setting_and_no_other() -> None:
    wanted = every_setting() - FOR_TESTS | OF_FLOWER
    assert set(defaults_of_the_readme()) == wanted
    assert set(lines_of_the_example()) == wanted


def test_the_defaults_that_the_readme_shows_are_those_of_the_settings(
    default_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = defaults_of_the_readme()
    for name in set(shown) - OF_FLOWER:
        if shown[name] is None:
            assert getattr(default_settings, name.lower()) in (None, ()), f"{name} has a default"
        else:
            monkeypatch.setenv(name, str(shown[name]))
    assert read_settings() == default_settings


def test_what_stands_behind_a_hash_in_the_example_is_the_default(default_settings: Settings) -> None:
    uncommented = re.sub(r"^#([A-Z][A-Z0-9_]+=)", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    Path(".env").write_text(re.sub(rf"^{SAID_EMPTY}=$", "", uncommented, flags=re.MULTILINE))
    assert read_settings() == default_settings


# Places and links


@pytest.mark.parametrize("document", OF_TODAY, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_file_and_name_that_a_document_mentions_exists(document: Path) -> None:
    mentioned = set(PLACE.findall(document.read_text()))
    assert sorted(place for place in mentioned if not _is_there(place)) == []


def _is_there(place: str) -> bool:
    """A path (`models/work`, `models/work/lifecycle.py`) or a dotted name (`models.work.lifecycle.claim`)."""
    if "/" in place:
        path = ROOT / place
        return path.exists() or any(path.parent.glob(f"{path.name}.*"))
    parts = place.split(".")
    for length in range(len(parts), 0, -1):
        if _is_module(parts[:length]):
            module = ".".join(parts[:length])
            found: Any = importlib.import_module(module)
            for name in parts[length:]:
                found = getattr(found, name, None)
            has_home = inspect.isfunction(found) or inspect.isclass(found)
            return found is not None and (not has_home or found.__module__ == module)  # not merely imported there
    return False


def _is_module(parts: list[str]) -> bool:
    path = ROOT.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]+))?\)", document.read_text())
    broken = []
    for path, anchor in links:
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(f"{path}#{anchor}" if anchor else path)
    assert broken == []


def _anchors(document: Path) -> set[str]:
    """As GitHub makes them: small letters, hyphens for blanks, other signs left out."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_every_document_that_the_code_refers_to_exists() -> None:
    referring = [*(ROOT.glob("*.toml")), *(file for room in ROOMS.split("|") for file in (ROOT / room).rglob("*.py"))]
    named = {name for file in referring for name in re.findall(r"\bdocs/[\w/-]+(?:\.md)?", file.read_text())}
    assert named
    assert sorted(name for name in named if not any(ROOT.glob(f"{name}*"))) == []


@pytest.mark.parametrize("document", OF_TODAY, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_a_document_names_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", document.read_text(), re.MULTILINE)) - targets == set()


# Decisions and words


def test_the_index_of_decisions_is_theirs() -> None:
    folder = ROOT / "docs" / "decisions"
    records = {path.name: path.read_text() for path in sorted(folder.glob("[0-9]*.md"))}
    indexed = re.findall(
        r"^\| (\d{4}) \| \[(.+)\]\((.+)\) \| (.+) \| (.+) \|$", (folder / "README.md").read_text(), re.M
    )
    assert [file for _, _, file, _, _ in indexed] == list(records)
    for number, title, file, date, status in indexed:
        assert file.startswith(f"{number}-")
        assert records[file].startswith(f"# {title}\n")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", date)
        assert re.fullmatch(r"accepted|superseded by \d{4}", status)


@pytest.mark.parametrize("part", ["Context", "Options", "Choice", "Price"])
def test_every_decision_has_its_parts(part: str) -> None:
    records = (ROOT / "docs" / "decisions").glob("[0-9]*.md")
    assert [path.name for path in records if path.read_text().count(f"\n\n**{part}.** ") != 1] == []


def test_the_glossary_has_a_line_and_a_place_for_each_word() -> None:
    rows = rows_of((ROOT / "docs" / "glossary.md").read_text(), "Words")
    assert 20 <= len(rows) <= 40
    assert [words for words, _meaning, place in rows if not PLACE.search(place)] == []
    words = [word for cell, *_ in rows for word in cell.lower().split(", ")]
    assert len(words) == len(set(words)), "no word twice"


def test_every_rule_of_the_verdict_stands_in_its_table_with_its_severity() -> None:
    told = {name.strip("`"): severity for name, severity, *_ in rows_of(VERDICT.read_text(), "Rules")}
    rules = {rule.name: str(rule.severity) for rule in (*ALWAYS, *RULES)}
    assert told == {DATABASE_UNUSABLE: "critical", **rules}
