"""docs/connect.md and docs/conectar.md say the same, and what they tell people to paste is taken by the receiver."""

import re
from pathlib import Path

import pytest

from models.intake.reasons import sentence_of
from tests.support.processes import ROOT
from tests.support.rows import on_sqlite
from tests.webhook.conftest import PATH, Intake

ENGLISH, SPANISH = (ROOT / "docs" / name for name in ("connect.md", "conectar.md"))
CONTACT = "hT3kQmZpWc81LxVbNd0s"
BLOCK = re.compile(r"^ *```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
both = pytest.mark.parametrize("document", [ENGLISH, SPANISH], ids=["english", "spanish"])


def blocks(document: str, kind: str) -> list[str]:
    return [text.strip() for name, text in BLOCK.findall(document) if name == kind]


def test_both_have_the_same_steps_tables_and_blocks_to_paste() -> None:
    english, spanish = ENGLISH.read_text(), SPANISH.read_text()
    for lines in (r"^(#+) ", r"^\|", r"^- "):
        assert len(re.findall(lines, english, re.MULTILINE)) == len(re.findall(lines, spanish, re.MULTILINE))
    for kind in ("sh", "json", "text", "caddyfile"):
        assert blocks(english, kind) == blocks(spanish, kind) != []
    settings = [re.findall(r"^(\w+)=", blocks(each, "ini")[0], re.MULTILINE) for each in (english, spanish)]
    assert settings[0] == settings[1] != []


@on_sqlite
@both
def test_each_body_is_taken_by_the_receiver_with_the_header_and_with_the_secret_in_the_url(
    document: Path, intake: Intake
) -> None:
    text = document.read_text()
    [address] = blocks(text, "text")
    assert address.endswith(f"{PATH}/INTAKE-SECRET")
    with_secret = PATH + "/" + intake.double.intake_secret
    bodies = blocks(text, "json")
    assert bodies
    for body in bodies:
        sent = body.replace("{{contact.id}}", CONTACT).encode()
        for answer in (intake.send(sent), intake.send(sent, {}, path=with_secret)):
            assert answer.status_code == 202
        intake.take_in()
        taken = intake.only_row("notifications")
        assert (taken["contact_id"], taken["status"], taken["repeats"]) == (CONTACT, "unresolved", 1)


@on_sqlite
@both
def test_the_way_in_answers_a_stranger_as_the_document_says(document: Path, intake: Intake) -> None:
    answer = intake.send(b"", {})
    assert answer.status_code == 401
    assert f"`{answer.json['reason']}`" in document.read_text()


@both
def test_each_refusal_that_the_document_explains_is_one_that_is_given(document: Path) -> None:
    text = document.read_text()
    named = set(re.findall(r"^\| (?:Re\w+: )?`(\w+)`", text, re.MULTILINE))
    assert len(named) >= 6
    assert [name for name in named if sentence_of(name).startswith(name.replace("_", " ").capitalize())] == []
