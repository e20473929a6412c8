"""`make bench`: runs the benchmarks, prints what each measured, and writes all of it as JSON with versions and load.

python -m tests.benchmarks                 all: about 50 minutes
python -m tests.benchmarks growth history  these (make bench ONLY="growth history")
python -m tests.benchmarks --json FILE     where to write (var/benchmarks.json)

Each starts what it needs by itself, on loopback. It ends with 1 if something missed its bound, or if a run is void.
"""

import argparse
import importlib
import json
import os
import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

BENCHMARKS = {
    "budget": "one account with 2,000 calls waiting, two workers: how much of its limit is used (3 minutes)",
    "cost": "what one call costs from receipt to note: CPU, WAL, row versions (2 minutes)",
    "fairness": "many accounts at their limit on one worker, and live calls beside a flood (10 minutes)",
    "growth": "each step with 300,000 and 1,000,000 calls of history, idle accounts, a held snapshot (8 minutes)",
    "history": "50,000 calls listed while live ones come in (4 minutes)",
    "latency": "from a notification to the stored call, in answers of a no-op (3 minutes)",
    "receipt": "bursts of 1,000 notifications beside two workers that list the same calls (2 minutes)",
    "receipt_peers": "a receipt beside a no-op of the same server, and other ways to build one (4 minutes)",
    "scrape": "/metrics after 5 and after 500 starts of processes (half a minute)",
    "start": "first 202 of a web process beside bare Flask, memory, CPU of --help (2 minutes)",
    "storing": "the CPU of storing a call, beside SQLAlchemy's ORM (half a minute)",
    "strangers": "a receipt beside strangers who ask for metrics and probes, or hold connections (3 minutes)",
    "worker_peers": "a whole job beside bare threads, Celery, Dramatiq, Huey, RQ (4 minutes)",
}
NOTABLE = ("celery", "dramatiq", "huey", "flask", "gunicorn", "sqlalchemy", "psycopg", "redis", "requests", "fastapi")


def main() -> int:
    listed = "\n".join(f"  {name:<14} {what}" for name, what in BENCHMARKS.items())
    words = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=f"{__doc__}\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    words.add_argument("names", nargs="*", metavar="NAME", help="which; all without one")
    words.add_argument("--json", type=Path, default=Path("var/benchmarks.json"), metavar="FILE")
    asked = words.parse_args()
    names = asked.names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        words.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    affinity = os.sched_getaffinity(0)
    results: dict[str, Any] = {}
    for name in names:
        print(f"\n{name} …", flush=True)
        load = os.getloadavg()
        measured = importlib.import_module(f"tests.benchmarks.{name}").run()
        results[name] = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "load_before": load, **measured}
        print(json.dumps(measured, indent=2, default=str, ensure_ascii=False), flush=True)
        os.sched_setaffinity(0, affinity)  # some pin what they start, and themselves
        _write(asked.json, results)
    print(f"\nwritten to {asked.json}")
    return _conclude(results)


def _write(file: Path, results: dict[str, Any]) -> None:
    versions = {each.name: each.version for each in distributions() if each.name.lower() in NOTABLE}
    machine = {"platform": platform.platform(), "python": platform.python_version(), "cores": os.cpu_count()}
    file.parent.mkdir(parents=True, exist_ok=True)
    told = {"machine": machine, "versions": versions, "results": results}
    file.write_text(json.dumps(told, indent=2, default=str, ensure_ascii=False) + "\n")


def _conclude(results: dict[str, Any]) -> int:
    """One line for each benchmark: whether all its bounds were reached."""
    print(f"\n{'benchmark':<16}bounds")
    good = True
    for name, measured in results.items():
        verdict = "void" if measured.get("void") else "reached" if measured.get("good", True) else "missed"
        print(f"{name:<16}{verdict}")
        good = good and verdict == "reached"
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
