"""`make migration`: what it writes from changed models runs up, down and up again on both databases."""

import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import migrations
from models.database import Database
from tests.migrations.copies import migrations_of

CHECKOUT = Path(migrations.__file__).parents[1]
LEFT_OUT = ("__pycache__", ".git", ".venv", "var", ".*_cache", ".hypothesis", ".env", "build")
CHANGES = {
    '    sa.Column("agent_deleted", sa.Boolean, nullable=True),\n': (
        '    sa.Column("agent_deleted", sa.Boolean, nullable=True),\n'
        '    sa.Column("colour", sa.Text, nullable=True, comment="red or green"),\n'
        '    sa.Column("shades", Json, nullable=True),\n'
        '    sa.Column("painted_at", UtcDateTime, nullable=True),\n'
    ),
    '    sa.Index("ix_calls_started_at",': (
        '    sa.Index("ix_calls_colour", "location_id", "colour"),\n    sa.Index("ix_calls_started_at",'
    ),
}
"""To models/calls/calls.py."""
INSTALLED = ("-o", ".venv/installed", "-o", ".venv/installed-for-tests")
"""For make: the copy installs nothing into the .venv that it shares, however new its files are."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this one."""
    folder = tmp_path_factory.mktemp("copy") / "checkout"
    shutil.copytree(CHECKOUT, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    (folder / ".venv").symlink_to(CHECKOUT / ".venv")
    return folder


@pytest.fixture(scope="module")
def made(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The migration, in a checkout of its own, that follows from CHANGES."""
    changed = tmp_path_factory.mktemp("changed") / "checkout"
    shutil.copytree(checkout, changed, symlinks=True)
    file = changed / "models" / "calls" / "calls.py"
    text = file.read_text()
    for old, new in CHANGES.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    file.write_text(text)
    before = versions(changed)
    done = make_migration(changed, """NAME=add "the colour" of a call, and it's shades""")
    assert done.returncode == 0, done.stderr
    (migration,) = versions(changed) - before
    return migration


def make_migration(checkout: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", "--no-print-directory", *INSTALLED, "migration", *variables],
        cwd=checkout,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )


def versions(checkout: Path) -> set[Path]:
    return set((checkout / "migrations" / "versions").glob("*.py"))


def number_of(migration: Path) -> int:
    return int(migration.stem.partition("_")[0])


def calls_of(database_url: str) -> tuple[dict[str, str], set[str | None]]:
    """Its columns with their types, and its indexes."""
    with closing(Database(database_url)) as database:
        inspector = sa.inspect(database.engine)
        columns: list[Any] = list(inspector.get_columns("calls"))
        return {each["name"]: str(each["type"]) for each in columns}, {
            each["name"] for each in inspector.get_indexes("calls")
        }


def test_what_is_made_is_numbered_named_and_formatted(checkout: Path, made: Path) -> None:
    newest = max(map(number_of, versions(checkout)))
    assert made.name == f"{newest + 1:04}_add_the_colour_of_a_call_and_it_s_shades.py"
    assert "import models" not in made.read_text()
    for check in (("check",), ("format", "--check")):
        words = [sys.executable, "-m", "ruff", *check, made]
        subprocess.run(words, cwd=made.parents[2], check=True, capture_output=True)


def test_what_changed_in_the_models_becomes_a_migration_that_runs_up_down_and_up(
    made: Path, empty_database_url: str
) -> None:
    migrate = migrations_of(made.parents[2]).migrate
    migrate(empty_database_url)
    new = calls_of(empty_database_url)
    migrate(empty_database_url, revision=f"{number_of(made) - 1:04}")
    old = calls_of(empty_database_url)
    assert set(new[0]) - set(old[0]) == {"colour", "shades", "painted_at"}
    assert new[1] - old[1] == {"ix_calls_colour"}
    migrate(empty_database_url)
    assert calls_of(empty_database_url) == new


def test_without_a_difference_nothing_is_written(checkout: Path) -> None:
    before = versions(checkout)
    made = make_migration(checkout, "NAME=add nothing")
    assert made.returncode != 0
    assert "No migration was written: the models say nothing that the migrations do not" in made.stderr
    assert versions(checkout) == before


def test_an_empty_one_is_written_when_it_is_asked_for(checkout: Path) -> None:
    before = versions(checkout)
    made = make_migration(checkout, "NAME=fill the colours", "EMPTY=1")
    assert made.returncode == 0, made.stderr
    (file,) = versions(checkout) - before
    assert file.name.endswith("_fill_the_colours.py")
    assert "import sqlalchemy as sa\nfrom alembic import op\n" in file.read_text()
    file.unlink()


def test_a_migration_has_a_name(checkout: Path) -> None:
    made = make_migration(checkout)
    assert made.returncode != 0
    assert "make migration NAME=" in made.stderr
