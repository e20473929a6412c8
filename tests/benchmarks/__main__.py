"""`make bench`: runs the benchmarks by name, all without one, and prints what each measured as JSON.

python -m tests.benchmarks                 all: about 32 minutes
python -m tests.benchmarks budget history  these

budget    one account with 2,000 calls waiting, two workers: how much of its limit is used (3 minutes)
cost      what one call costs from receipt to note: CPU, WAL, row versions (2 minutes)
fairness  many accounts at their limit on one worker, and live calls beside a flood (10 minutes)
growth    each step beside 300,000 and 1,000,000 calls of history, 10,000 idle accounts, a held snapshot (8 minutes)
history   50,000 calls listed while live ones come in (4 minutes)
receipt   bursts of 1,000 notifications beside two workers that list the same calls (2 minutes)
receipt_peers  a receipt beside a no-op of the same server, and beside other ways to build one (4 minutes)
strangers a fresh receipt beside strangers who ask for metrics and probes, or hold connections (3 minutes)
storing   the CPU of storing a call, beside SQLAlchemy's ORM (half a minute)
worker_peers  a whole job beside bare threads, Celery, Dramatiq, Huey, RQ (4 minutes)
scrape    /metrics after 5 and after 500 starts of processes (half a minute)
"""

import importlib
import json
import os
import platform
import sys

BENCHMARKS = (
    "budget", "cost", "fairness", "growth", "history", "receipt", "receipt_peers", "scrape", "storing", "strangers",
    "worker_peers",
)  # fmt: skip


def main() -> int:
    names = sys.argv[1:] or list(BENCHMARKS)
    if {"-h", "--help"} & set(names):
        print(__doc__)
        return 0
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()}")
    good = True
    for name in names:
        print(f"\n{name} …", flush=True)
        measured = importlib.import_module(f"tests.benchmarks.{name}").run()
        print(json.dumps(measured, indent=2, default=str), flush=True)
        good = good and bool(measured.get("good", True))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
