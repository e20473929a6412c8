"""`make crash-test`: the whole matrix on both databases, then the soak.

python -m tests.crash                        the matrix and the soak, on SQLite and PostgreSQL
python -m tests.crash --matrix               the matrix alone: every cell once, a few minutes
python -m tests.crash --only "kill worker"   the cells whose name holds this text
python -m tests.crash --soak --calls 2000 --seed 7 --database sqlite
"""

import argparse
import random
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.crash.cells import Cell, every_cell
from tests.crash.matrix import NOTES_DUE, Result, run_cell, table
from tests.crash.soak import soak
from tests.crash.stage import Stage

DATABASES = ("sqlite", "postgresql")


def main() -> int:
    arguments = _arguments()
    good = True
    if not arguments.soak:
        for database in arguments.database:
            print(f"\n{database}: {len(arguments.cells)} cells, {arguments.stages} stages at once", flush=True)
            results = second_chances(database, run_matrix(database, arguments.cells, stages=arguments.stages))
            print(table(results), flush=True)
            good = good and all(each.is_good for each in results)
    if arguments.soak or not (arguments.only or arguments.matrix):
        for database in arguments.database:
            print(f"\n{database}: soak, {arguments.calls} calls, seed {arguments.seed}", flush=True)
            with tempfile.TemporaryDirectory() as folder, Stage(Path(folder) / "stage", database) as stage:
                report = soak(stage, calls=arguments.calls, seed=arguments.seed)
            print(report, flush=True)
            good = good and report.is_good
    return 0 if good else 1


def run_matrix(database: str, cells: list[Cell], *, stages: int) -> list[Result]:
    """Shares the cells out among stages that run side by side: a cell mostly waits."""
    with ThreadPoolExecutor(stages) as pool:
        parts = pool.map(lambda part: _run_part(database, part), [cells[start::stages] for start in range(stages)])
        return [result for part in parts for result in part]


def second_chances(database: str, results: list[Result]) -> list[Result]:
    """A cell that ran out of time on a busy machine is run once more, alone. A note too many is never excused."""
    slow = [each.cell for each in results if each.trouble and each.notes <= NOTES_DUE]
    if not slow:
        return results
    print(
        f"  {len(slow)} ran out of time and are run again, alone: {', '.join(cell.name for cell in slow)}", flush=True
    )
    return [each for each in results if each.cell not in slow] + run_matrix(database, slow, stages=1)


def _run_part(database: str, cells: list[Cell]) -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory() as folder, Stage(Path(folder) / "stage", database) as stage:
        for cell in cells:
            results.append(run_cell(stage, cell))
            print(f"  {'.' if results[-1].is_good else 'BAD'} {cell.name}", flush=True)
    return results


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--only", default="", help="only cells whose name holds this text")
    parser.add_argument("--database", choices=DATABASES, action="append", help="default: both")
    parser.add_argument("--stages", type=int, default=3, help="systems side by side (default 3)")
    parser.add_argument("--matrix", action="store_true", help="only the matrix")
    parser.add_argument("--soak", action="store_true", help="only the soak")
    parser.add_argument("--calls", type=int, default=2000, help="of the soak (default 2000)")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the soak")
    arguments = parser.parse_args()
    arguments.database = arguments.database or list(DATABASES)
    arguments.cells = [cell for cell in every_cell() if arguments.only in cell.name]
    return arguments


if __name__ == "__main__":
    sys.exit(main())
