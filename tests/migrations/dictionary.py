"""Writes docs/data/dictionary.md from the comments of the views: `python -m tests.migrations.dictionary`."""

from migrations import views
from tests.support.processes import ROOT

FILE = ROOT / "docs" / "data" / "dictionary.md"
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


if __name__ == "__main__":
    FILE.write_text(dictionary())
