"""The clock that the tests run under: the machine's, or the shifted one of `make test-clocks`.

The shifted clock is told by the environment. A process that gets an environment of its own must be told too: processes
with different clocks see leases end at different times.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOLD_BY = ("LD_PRELOAD", "CLOCK_SHIFT", "TZ")


def shared_clock() -> dict[str, str]:
    """The variables that make a child's clock the one of this process."""
    return {name: os.environ[name] for name in TOLD_BY if name in os.environ}
