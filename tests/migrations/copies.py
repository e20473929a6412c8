"""Copies of the migrations that have one more, as the next release would."""

import importlib.util
import shutil
from pathlib import Path
from textwrap import indent
from typing import Any

import migrations

LATER = "9999"


def migrations_of(folder: Path) -> Any:
    """`migrations.upgrading` of another checkout."""
    spec = importlib.util.spec_from_file_location("later_migrations", folder / "migrations" / "upgrading.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_another_migration(folder: Path, upgrade: str, *, downgrade: str = "pass", head: str = "") -> Any:
    """`migrate` of a copy in `folder` that has one more migration, LATER; `head` stands above its functions."""
    copy = folder / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    newest = max(file.stem.split("_")[0] for file in (copy / "versions").glob("*.py"))
    (copy / "versions" / f"{LATER}_later.py").write_text(
        f'"""the later one"""\nimport sqlalchemy as sa\nfrom alembic import op\nfrom migrations import indexes\n'
        f"revision, down_revision, branch_labels, depends_on = {LATER!r}, {newest!r}, None, None\n{head}\n"
        f"def upgrade():\n{indent(upgrade, '    ')}\ndef downgrade():\n{indent(downgrade, '    ')}\n"
    )
    return migrations_of(folder).migrate
