"""`make test-clocks`: the tests at four moments at which tests that hold all day fail, and with clocks apart. Needs a C
compiler.

`shifted.c` is preloaded into every process of the tests, PostgreSQL and Redis too, and moves what they read from
CLOCK_REALTIME; CLOCK_MONOTONIC, by which all of them wait, stays as it is. Words after the target go to pytest, and
`--clock NAME` runs one clock: make test-clocks ARGS="--clock midnight tests/models".
"""

import os
import signal
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.support.clock import ROOT

SOURCE = Path(__file__).with_name("shifted.c")
FAILED = 1
APART = "apart"
ALONE = ("--last-failed", "--last-failed-no-failures", "none")


@dataclass(frozen=True)
class Clock:
    start: datetime
    zone: str
    """Of the processes, not of the accounts."""
    why: str


CLOCKS = {
    "midnight": Clock(datetime(2027, 6, 15, 23, 59, 40, tzinfo=UTC), "UTC", "the day ends under running tests"),
    "new-day": Clock(datetime(2027, 6, 16, 0, 20, tzinfo=UTC), "UTC", "an hour ago was yesterday"),
    "leap-day": Clock(datetime(2028, 2, 29, 12, tzinfo=UTC), "Asia/Kathmandu", "a month's last day, of no other year"),
    "clock-change": Clock(
        datetime(2027, 11, 7, 5, 59, 40, tzinfo=UTC), "America/New_York", "the hour from 01:00 comes a second time"
    ),
}


def main(words: list[str]) -> int:
    parser = ArgumentParser(prog="python -m tests.clocks")
    parser.add_argument("--clock", choices=[*CLOCKS, APART], action="append")
    options, for_pytest = parser.parse_known_args(words)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests send it; what `&` starts would ignore it
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "shifted.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True)
        Path(folder).chmod(0o755)  # PostgreSQL may run as another user
        chosen = options.clock or [*CLOCKS, APART]
        codes = {name: _run(name, CLOCKS[name], library, for_pytest) for name in chosen if name != APART}
        if APART in chosen:
            codes[APART] = _run_apart(library)
    print("".join(f"{name}: {'holds' if not code else 'FAILED'}\n" for name, code in codes.items()), end="")
    return max(codes.values())


def _run(name: str, clock: Clock, library: Path, for_pytest: list[str]) -> int:
    print(f"--- {name}: {clock.start:%Y-%m-%d %H:%M:%S} UTC, zone {clock.zone}: {clock.why}", flush=True)
    shift = (clock.start - datetime.now(UTC)) // timedelta(seconds=1)
    environment = {**os.environ, "LD_PRELOAD": str(library), "CLOCK_SHIFT": str(shift), "TZ": clock.zone}
    code = subprocess.run([sys.executable, "-m", "pytest", *for_pytest], cwd=ROOT, env=environment).returncode
    if code == FAILED:  # as `make test` does: what failed in a crowd gets one more chance alone
        code = subprocess.run([sys.executable, "-m", "pytest", *ALONE], cwd=ROOT, env=environment).returncode
    return code


def _run_apart(library: Path) -> int:
    print(f"--- {APART}: one process at a time is 5 s ahead, then behind", flush=True)
    environment = {**os.environ, "SHIFTED_CLOCK_LIBRARY": str(library)}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/clocks/apart.py"], cwd=ROOT, env=environment
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
