"""Whether the matrix can fail: drops one protection at a time, in a copy of the project, and wants red for each.

A cell is red when it shows damage: a call lost, a note too many or missing, a row that says what is not so. A cell that
only takes too long is not. Run it on a machine that has nothing else to do: some cells turn on tenths of a second, and
each may be tried again.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import ROOT

AT_ONCE = 2
TRIES = 3
PATIENCE_SECONDS = 15.0
STILL_GREEN_PATIENCE_SECONDS = 60.0
RUN_SECONDS = 400.0
TOO_SLOW = "too slow"


@dataclass(frozen=True)
class Mutation:
    """A protection, the place where it is dropped, and the cells of which one at least has to turn red.

    `old` stands exactly once in `file`.
    """

    name: str
    file: str
    old: str
    new: str
    cells: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "fence",
        "models/work/lifecycle.py",
        'table.c.fence == sa.bindparam("this_fence")',
        'table.c.fence >= sa.bindparam("this_fence")',
        ("follow_up_worded × overtaken in flight",),
    ),
    Mutation(
        # What is closed has no due time, so the comparison with NULL alone would keep it from being claimed.
        "status check of the claim",
        "models/work/work_rows.py",
        "table.c.status.in_(OPEN), table.c.due_at <= moment()",
        "sa.func.coalesce(table.c.due_at, moment()) <= moment()",
        ("follow-up done × its message comes late",),
    ),
    Mutation(
        "settle window",
        "workers/send_follow_up.py",
        "return self.this.settings.leadway_settle_seconds",
        "return 0.0",
        ("write note × written late", "note in flight × kill, executed late"),
    ),
    Mutation(
        "fence and lease checked by the intent",
        "models/work/lifecycle.py",
        ".where(_has_fence(claim.work), table.c.lease_until > moment(seconds)).values(**values)",
        '.where(claim.work.matches_parameters(), sa.bindparam("this_fence", type_=sa.Integer) > 0).values(**values)',
        ("follow_up_worded × suspend it",),
    ),
    Mutation(
        "second look",
        "workers/send_follow_up.py",
        'if claim.row["absences"] == 0:',
        "if False:",
        ("look for note × lag that ends between the looks",),
    ),
    Mutation(
        "deadline before sending",
        "workers/leadway/client.py",
        "seconds = self._deadline - time.monotonic()",
        "seconds = max(1.0, self._deadline - time.monotonic())",
        ("intent_committed × freeze it",),
    ),
)


def main(databases: Sequence[str], *, only: str = "") -> int:
    """Prints what was seen. 0: every mutation was caught, and the same cells are green without any."""
    chosen = [mutation for mutation in MUTATIONS if only in mutation.name]
    results = [_on(database, chosen) for database in databases]
    return 0 if all(results) else 1


def _on(database: str, chosen: Sequence[Mutation]) -> bool:
    started = time.monotonic()
    cells = tuple(dict.fromkeys(cell for mutation in chosen for cell in mutation.cells))
    print(f"\n{database}: {len(chosen)} mutations, {AT_ONCE} at once", flush=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        unmutated = pool.submit(_is_green, database, cells)
        caught = list(pool.map(lambda mutation: _is_caught(database, mutation), chosen))
        good = unmutated.result() and all(caught)
    print(
        f"{database}: {sum(caught)} of {len(chosen)} mutations caught, {time.monotonic() - started:.0f} s", flush=True
    )
    return good


def _is_green(database: str, cells: Sequence[str]) -> bool:
    seen: dict[str, str] = {}
    for _ in range(TRIES):  # only for what ran out of time on a busy machine
        left = [cell for cell in cells if cell not in seen or seen[cell].startswith(TOO_SLOW)]
        if left:
            seen |= _seen(database, None, left)
    good = not any(seen.values())
    print(f"  {'ok ' if good else 'BAD'} unmutated: {_told(seen)}", flush=True)
    return good


def _is_caught(database: str, mutation: Mutation) -> bool:
    """A second try for what a busy machine may have missed: a moment of some tenths of a second."""
    seen: dict[str, str] = {}
    for _ in range(TRIES):
        seen = _seen(database, mutation, mutation.cells)
        if any(what and not what.startswith(TOO_SLOW) for what in seen.values()):
            print(f"  red {mutation.name}: {_told(seen)}", flush=True)
            return True
    print(f"  BAD {mutation.name} is not noticed: {_told(seen)}", flush=True)
    return False


def _told(seen: dict[str, str]) -> str:
    return "; ".join(f"{cell}: {what or 'green'}" for cell, what in seen.items())


def _seen(database: str, mutation: Mutation | None, cells: Sequence[str]) -> dict[str, str]:
    """Runs the cells in a copy. Their names, and the damage that each showed, "too slow: …" or nothing."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        _copy_to(copy)
        if mutation is not None:
            _mutate(copy, mutation)
        report = Path(folder) / "report.json"
        named = [word for cell in cells for word in ("--cell", cell)]
        patience = STILL_GREEN_PATIENCE_SECONDS if mutation is None else PATIENCE_SECONDS
        options = ["--database", database, "--stages", "1", "--patience", str(patience), "--report", str(report)]
        ended = subprocess.run(
            [sys.executable, "-m", "tests.crash", *named, *options],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
        )
        if not report.exists():
            raise RuntimeError(f"the cells could not be run:\n{ended.stdout[-3000:]}\n{ended.stderr[-3000:]}")
        return {
            each["cell"]: each["damage"] or (f"{TOO_SLOW}: {each['trouble'][:200]}" if each["trouble"] else "")
            for each in json.loads(report.read_text())
        }


def _copy_to(copy: Path) -> None:
    """What git knows, as it stands in the working tree. Stages prove that their processes run the code beside them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name)


def _mutate(copy: Path, mutation: Mutation) -> None:
    (copy / mutation.file).write_text(mutated(copy, mutation))


def mutated(project: Path, mutation: Mutation) -> str:
    """The file's text without the protection. Raises LookupError when the code has moved on."""
    file = project / mutation.file
    text = file.read_text() if file.exists() else ""
    if (number := text.count(mutation.old)) != 1:
        raise LookupError(f"{mutation.name!r} is out of date: {mutation.file} holds its text {number} times, not once")
    return text.replace(mutation.old, mutation.new)
