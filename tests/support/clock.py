"""The clock that the tests run under: libfaketime's under `make test-clocks`, otherwise the machine's.

libfaketime is told by the environment. A process that gets an environment of its own must be told too: processes with
different clocks see leases end at different times.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLEEP_FIX = ROOT / "tests" / "clocks"
TOLD_BY = ("LD_PRELOAD", "FAKETIME", "FAKETIME_DONT_FAKE_MONOTONIC", "TZ")


def shared_clock() -> dict[str, str]:
    """The variables that make a child's clock the one of this process. Under the machine's clock: none, or TZ."""
    return {name: os.environ[name] for name in TOLD_BY if name in os.environ}


def python_path() -> str:
    """PYTHONPATH of a child: this project, and under libfaketime the mend of `time.sleep` before it."""
    return os.pathsep.join([*([str(SLEEP_FIX)] if "FAKETIME" in os.environ else []), str(ROOT)])
