"""`alembic` in the checkout, with DATABASE_URL."""

import os
import subprocess
import sys
from pathlib import Path

import migrations

CHECKOUT = Path(migrations.__file__).parents[1]
ONE_BY_ONE = """
import sys
from alembic.config import main
for words in sys.argv[1:]:
    print("$ alembic", words, flush=True)
    main(argv=words.split(), prog="alembic")
"""


def alembic(database_url: str, *lines: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Several command lines in one process, for a start of Python takes longer than each of them."""
    return subprocess.run(
        [sys.executable, "-c", ONE_BY_ONE, *lines],
        cwd=CHECKOUT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": database_url, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_alembics_own_commands_work_from_the_checkout(empty_database_url: str) -> None:
    lines = ("history", "current", "upgrade 0003", "downgrade 0002", "current", "upgrade head", "check")
    done = alembic(empty_database_url, *lines)
    assert done.returncode == 0, done.stdout
    _, history, before, upgrade, downgrade, after, _, check = done.stdout.split("$ alembic ")
    assert "0001 -> 0002" in history
    assert before == "current\n"
    assert "Migrating to 0003" in upgrade
    assert "No new upgrade operations detected." in check
    assert "Undoing 0003" in downgrade
    assert after == "current\n0002\n"


def test_what_cannot_work_is_told_in_a_line(sqlite_url: str) -> None:
    assert "FAILED: --sql is not offered" in alembic(sqlite_url, "upgrade 0001:0002 --sql").stdout
    assert "PORT: " in alembic(sqlite_url, "current", PORT="many").stdout
