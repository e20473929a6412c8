"""What we make on the disk is its owner's only, whatever the umask; what exists is left as it is."""

import os
import stat
from pathlib import Path

import pytest

from migrations.upgrading import migrate
from models.database import COMMAND, Database
from models.intake.journal import Journal
from models.intake.notifications import Arrival, NotificationStatus
from models.settings import SettingsError
from models.settings.places import make_private, make_usable, open_to_others
from tests.support.umask import umask


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@pytest.mark.parametrize("mask", [0, 0o022, 0o077])
def test_the_database_the_journal_and_their_folders_are_private(mask: int, tmp_path: Path) -> None:
    with umask(mask):
        migrate(f"sqlite:///{tmp_path}/var/deep/calls.db")
        database = Database(f"sqlite:///{tmp_path}/var/deep/calls.db", limits=COMMAND)
        with database.transaction(), database.inbox.reading():
            journal = Journal(tmp_path / "var/journal")
            journal.put_all([Arrival("one", "key", "thin", "intake_path", NotificationStatus.ACCEPTED)])
            made = {path: mode(path) for path in (tmp_path / "var", *(tmp_path / "var").rglob("*"))}
            journal.close()
        database.close()
    assert {path.name for path in made} >= {"calls.db", "calls.db-wal", "calls-inbox.db", "journal-0.db", "deep"}
    folders = {tmp_path / "var", tmp_path / "var" / "deep", tmp_path / "var" / "journal"}
    assert made == {path: 0o700 if path in folders else 0o600 for path in made}
    assert open_to_others(made) == []


def test_what_exists_is_left_as_it_is_and_told(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir(mode=0o755)
    (tmp_path / "var" / "calls.db").write_bytes(b"")
    (tmp_path / "var" / "calls.db").chmod(0o644)
    migrate(f"sqlite:///{tmp_path}/var/calls.db")
    assert (mode(tmp_path / "var"), mode(tmp_path / "var" / "calls.db")) == (0o755, 0o644)
    assert open_to_others([tmp_path / "var" / "calls.db", tmp_path / "missing"]) == [tmp_path / "var" / "calls.db"]


def test_folders_above_are_made_private_too_and_those_that_are_there_stay(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o755)
    make_private(tmp_path / "there" / "one" / "two")
    assert [mode(tmp_path / "there" / each) for each in ("", "one", "one/two")] == [0o755, 0o700, 0o700]


@pytest.mark.parametrize("path", ["/dev/null/x", "/proc/no-such/x", "nul\0", "x" * 300, "/dev/null"])
def test_a_folder_that_cannot_be_used_is_named_with_its_setting(path: str) -> None:
    with pytest.raises(SettingsError, match="let METRICS_DIR name a place that can be written"):
        make_usable(Path(path), setting="METRICS_DIR")
