"""Folders and files that we make: their owner's only, whatever the umask. What exists is left as it is."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from models.settings.values import SettingsError


def make_private(folder: Path) -> None:
    """Makes the folder, and those above it that are missing, for its owner only. Raises OSError."""
    for each in reversed((folder, *folder.parents)):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
            with suppress(PermissionError):  # of a file system without modes
                each.chmod(0o700)


def make_usable(folder: Path, *, setting: str, private: bool = True) -> None:
    """Makes the folder if it is missing. Raises SettingsError, naming both, when nothing can be written there."""
    reason = None
    try:
        make_private(folder) if private else folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            reason = "it is no folder"
        elif not os.access(folder, os.W_OK | os.X_OK):
            reason = "this user may not write there"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no path"
    if reason is not None:
        raise SettingsError(
            f"the folder {folder} cannot be used ({reason}): let {setting} name a place that can be written"
        )


def make_private_file(file: Path) -> None:
    """An empty file for its owner only, unless there is one. Raises OSError."""
    with suppress(FileExistsError):
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        os.fchmod(handle, 0o600)
        os.close(handle)


def open_to_others(paths: Iterable[Path]) -> list[Path]:
    """Those that somebody else than their owner may read or write."""
    found = []
    for path in paths:
        with suppress(OSError):
            if path.stat().st_mode & 0o066:
                found.append(path)
    return found
