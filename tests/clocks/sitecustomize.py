"""Lets Python sleep under libfaketime: loaded by every Python whose PYTHONPATH begins with this folder.

Since Python 3.11 `time.sleep` is `clock_nanosleep` until a time of CLOCK_MONOTONIC. libfaketime 0.9.10 shifts that
time although it was told to leave CLOCK_MONOTONIC alone, and the call fails with EINVAL.
"""

import select
import time


def sleep(seconds: float, /) -> None:
    if seconds < 0:
        raise ValueError("sleep length must be non-negative")
    select.select((), (), (), seconds)


time.sleep = sleep
