"""`make crash-test`: the whole matrix on both databases, then the soak.

python -m tests.crash                        the matrix and the soak, on SQLite and PostgreSQL
python -m tests.crash --matrix               the matrix alone: every cell once
python -m tests.crash --quick                one cell of each kind, a few minutes
python -m tests.crash --only "kill worker"   the cells whose name holds this text
python -m tests.crash --mutations            drops one protection at a time, in a copy, and wants red for each
python -m tests.crash --soak --calls 2000 --seed 7 --database sqlite
"""

import argparse
import json
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.crash import mutations
from tests.crash.cells import QUICK, Cell, cells_named, every_cell
from tests.crash.matrix import PEACE_WITHIN, Result, run_cell, table
from tests.crash.soak import soak
from tests.crash.stage import Stage

DATABASES = ("sqlite", "postgresql")


def main() -> int:
    arguments = _arguments()
    if arguments.mutations:
        return mutations.main(arguments.database or [DATABASES[0]], only=arguments.only)
    good = True
    for database in arguments.database or DATABASES:
        if arguments.cells:
            good = _matrix(database, arguments) and good
        if arguments.soak:
            print(f"\n{database}: soak, {arguments.calls} calls, seed {arguments.seed}", flush=True)
            with tempfile.TemporaryDirectory() as folder, _stage(folder, database) as stage:
                report = soak(stage, calls=arguments.calls, seed=arguments.seed)
            print(report, flush=True)
            good = good and report.is_good
    return 0 if good else 1


def _matrix(database: str, arguments: argparse.Namespace) -> bool:
    cells = [each for each in arguments.cells if each.only_on in ("", database)]
    print(f"\n{database}: {len(cells)} cells, {arguments.stages} stages at once", flush=True)
    started = time.monotonic()
    results = run_matrix(database, cells, stages=arguments.stages, patience=arguments.patience)
    if arguments.report:
        told = [{"cell": each.cell.name, "damage": each.damage, "trouble": each.trouble} for each in results]
        arguments.report.write_text(json.dumps(told))
    else:
        results = second_chances(database, results)
    print(table(results))
    print(f"{database}: {time.monotonic() - started:.0f} s", flush=True)
    return all(each.is_good for each in results)


def run_matrix(database: str, cells: list[Cell], *, stages: int, patience: float = PEACE_WITHIN) -> list[Result]:
    """Shares the cells out among stages that run side by side: a cell mostly waits."""
    shares = [share for start in range(stages) if (share := cells[start::stages])]
    with ThreadPoolExecutor(stages) as pool:
        parts = pool.map(lambda share: _run_part(database, share, patience), shares)
        return [result for part in parts for result in part]


def second_chances(database: str, results: list[Result]) -> list[Result]:
    """A cell that ran out of time on a busy machine is run once more, alone. A note too many is never excused."""
    slow = [each.cell for each in results if each.trouble and each.notes <= each.notes_due]
    if not slow:
        return results
    print(
        f"  {len(slow)} ran out of time and are run again, alone: {', '.join(cell.name for cell in slow)}", flush=True
    )
    return [each for each in results if each.cell not in slow] + run_matrix(database, slow, stages=1)


def _run_part(database: str, cells: list[Cell], patience: float) -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory() as folder, _stage(folder, database) as stage:
        for cell in cells:
            results.append(run_cell(stage, cell, patience=patience))
            print(f"  {'.' if results[-1].is_good else 'BAD'} {cell.name}", flush=True)
    return results


def _stage(folder: str, database: str) -> Stage:
    return Stage(Path(folder) / "stage", database, two_workers=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crash", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="only cells (or mutations) whose name holds this text")
    parser.add_argument("--cell", action="append", metavar="NAME", help="only the cell with exactly this name")
    parser.add_argument("--database", choices=DATABASES, action="append", help="default: both; of mutations: sqlite")
    parser.add_argument("--stages", type=int, default=3, help="systems side by side (default 3)")
    parser.add_argument("--matrix", action="store_true", help="only the matrix")
    parser.add_argument("--quick", action="store_true", help="only one cell of each kind")
    parser.add_argument("--mutations", action="store_true", help="whether the matrix can fail")
    parser.add_argument("--soak", action="store_true", help="only the soak")
    parser.add_argument("--calls", type=int, default=2000, help="of the soak (default 2000)")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the soak")
    parser.add_argument("--patience", type=float, default=PEACE_WITHIN, help="seconds for a cell's work to end")
    parser.add_argument("--report", type=Path, help="a file for the results as JSON; then no cell is run again")
    arguments = parser.parse_args()
    everything = not (arguments.only or arguments.cell or arguments.matrix or arguments.quick or arguments.soak)
    arguments.cells = [] if arguments.soak else _cells(arguments)
    arguments.soak = arguments.soak or everything
    return arguments


def _cells(arguments: argparse.Namespace) -> list[Cell]:
    cells = cells_named(arguments.cell) if arguments.cell else cells_named(QUICK) if arguments.quick else every_cell()
    return [cell for cell in cells if arguments.only in cell.name]


if __name__ == "__main__":
    sys.exit(main())
