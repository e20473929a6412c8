"""Writes what docs/data tells from the comments of the views: `python -m tests.migrations.dictionary`."""

import json

from migrations import views
from models.schema import metadata
from tests.support.processes import ROOT

FILE = ROOT / "docs" / "data" / "dictionary.md"
DATASETTE = ROOT / "docs" / "data" / "datasette.json"
HEAD = """# Dictionary of leadway_v1

Written from the comments of the views by `python -m tests.migrations.dictionary`; do not edit. A reader that was added
with `--without-words` does not see the columns marked *words*. On SQLite each view is called `v1_` and its name.
"""


def dictionary() -> str:
    parts = [HEAD]
    for view in map(views.described, views.NAMES):
        parts.append(f"\n## {view.name}\n\n{view.meaning}\n\n| Column | Meaning |\n| --- | --- |\n")
        parts += [f"| `{c.name}` | {'*words* ' if c.has_words else ''}{c.meaning} |\n" for c in view.columns]
    return "".join(parts)


def datasette() -> str:
    """For Datasette on the SQLite file: the views with their words, and nobody sees anything else."""
    shown = {
        f"{views.SQLITE_PREFIX}{view.name}": {
            "description": view.meaning,
            "columns": {column.name: column.meaning for column in view.columns},
        }
        for view in map(views.described, views.NAMES)
    }
    others = ("alembic_version", "fence_counter", *sorted(set(metadata.tables) - {"inbox"}))
    closed = {name: {"hidden": True, "allow": False} for name in others}
    told = {"title": "leadway-calls", "databases": {"leadway-calls": {"allow_sql": False, "tables": shown | closed}}}
    return json.dumps(told, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(dictionary())
    DATASETTE.write_text(datasette())
