"""Failpoints: named steps of a call's way at which a test may stop a process, to kill it there or to cut something.

A file in the folder of the setting FAILPOINTS_FOLDER arms a failpoint for one stop. Without that setting, as always in
production, a failpoint costs the comparison of one variable.
"""

import os
import time
from pathlib import Path

FAILPOINTS = (
    "receipt_before_commit",
    "receipt_committed",
    "journal_before_commit",
    "journal_committed",
    "drained_before_deletion",
    "wake_up_before_send",
    "inbox_taken",
    "notifications_merged",
    "taken_in_before_commit",
    "taken_in_committed",
    "taken_in",
    "due_marked",
    "due_sent",
    "call_claimed",
    "call_fetched",
    "call_before_commit",
    "call_stored",
    "follow_up_claimed",
    "follow_up_worded",
    "intent_before_commit",
    "intent_committed",
    "note_answered",
    "follow_up_before_commit",
    "follow_up_done",
    "probe_answered",
    "window_claimed",
    "page_listed",
    "page_stored",
    "grant_claimed",
    "grant_answered",
)
LONGEST_STOP_SECONDS = 60.0

_folder: Path | None = None


def arm_failpoints(folder: Path | None) -> None:
    """Sets the folder, for entry points. None: no failpoint stops anything."""
    global _folder
    _folder = folder


def failpoint(point: str) -> None:
    """Returns at once, unless `<point>.armed` is in the folder. Then renames that file to `<point>.reached`, writes
    the id of this process into it, and waits until `<point>.go` is there, at most LONGEST_STOP_SECONDS."""
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
    deadline = time.monotonic() + LONGEST_STOP_SECONDS
    while not (_folder / f"{point}.go").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    reached.unlink(missing_ok=True)
