"""Named points of a call's way where a test may hold a process still: to kill it just there, or to break something.

A point is armed by a file in the folder of the setting FAILPOINTS_FOLDER, and holds once. Without that setting, as
always in production, a point costs one look at a variable.
"""

import os
import time
from pathlib import Path

FAILPOINTS = (
    "receipt_before_commit",
    "receipt_committed",
    "wake_up_before_send",
    "due_marked",
    "due_sent",
    "call_claimed",
    "call_fetched",
    "call_before_commit",
    "call_stored",
    "follow_up_claimed",
    "follow_up_worded",
    "intent_committed",
    "note_answered",
    "follow_up_done",
    "probe_answered",
)
LONGEST_HOLD_SECONDS = 60.0

_folder: Path | None = None


def arm_failpoints(folder: Path | None) -> None:
    """For entry points, with what the setting says."""
    global _folder
    _folder = folder


def failpoint(point: str) -> None:
    """Goes on at once, unless `<point>.armed` is in the folder: then it becomes `<point>.reached`, which names this
    process, and the process holds until `<point>.go` is there."""
    if _folder is None:
        return
    reached = _folder / f"{point}.reached"
    aside = _folder / f"{point}.{os.getpid()}.{time.monotonic_ns()}"
    try:
        (_folder / f"{point}.armed").rename(aside)
    except FileNotFoundError:
        return
    aside.write_text(str(os.getpid()))
    aside.rename(reached)
    deadline = time.monotonic() + LONGEST_HOLD_SECONDS
    while not (_folder / f"{point}.go").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    reached.unlink(missing_ok=True)
