"""Holds a process at a point of a call's way (`models.failpoints`): points are armed by files."""

import time
from pathlib import Path

import psutil

from tests.support.waiting import eventually

GOES_ON_WITHIN = 1.0


class Points:
    """The points of all processes that have this folder as their FAILPOINTS_FOLDER."""

    def __init__(self, folder: Path) -> None:
        self.points = folder

    def arm(self, point: str) -> None:
        for old in self.points.glob(f"{point}.*"):
            old.unlink()
        (self.points / f"{point}.armed").touch()

    def wait_until_reached(self, point: str, *, timeout: float = 20.0) -> int:
        """Returns the pid of the process that holds there."""
        reached = self.points / f"{point}.reached"
        eventually(reached.exists, timeout=timeout, describe=f"a process to reach {point}")
        return int(reached.read_text())

    def open(self, point: str) -> None:
        """Who holds there goes on, once it runs: for one that is frozen."""
        (self.points / f"{point}.armed").unlink(missing_ok=True)
        (self.points / f"{point}.go").touch()

    def was_reached(self, point: str) -> bool:
        return (self.points / f"{point}.reached").exists()

    def let_go(self, point: str) -> None:
        """Returns when it has gone on or was killed, so that the point may be armed again."""
        self.open(point)
        deadline = time.monotonic() + GOES_ON_WITHIN
        while self._holds(point) and time.monotonic() < deadline:
            time.sleep(0.01)

    def let_all_go(self) -> None:
        for point in {file.stem for kind in ("armed", "reached") for file in self.points.glob(f"*.{kind}")}:
            self.let_go(point)

    def _holds(self, point: str) -> bool:
        try:
            pid = int((self.points / f"{point}.reached").read_text())
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except (FileNotFoundError, psutil.NoSuchProcess):
            return False
