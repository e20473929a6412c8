"""The counters of all processes of a host, added up: files of living processes, and one file for all that have ended.

prometheus_client gives each process files of its own (`counter_<name>.db`, …), reads all of them at each scrape, and
removes none. Here the files of ended processes are folded into `ended.json` and removed, at each start of a process
and at each scrape. So a scrape reads the files of living processes and one more.

`ended.json` is replaced by one rename, and it names the files whose counts it holds. A reader skips these. So a fold
that is killed between the rename and the removals counts nothing twice; the next fold removes what is left. No name is
used twice, for it has a random part. A lock (flock) on `<name>.alive` tells that the process of that name lives; a
process id would not, because ids are used again, and each container has its own.

A command may be run once by another user, such as root. So each file that every process has to read is made readable
for all, and a file of another user stops no fold: it can be locked, and removed by the owner of the folder.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from workers.telemetry.counter_totals import Totals, outlives_its_process, values_in

log = structlog.get_logger(__name__)

ENDED = "ended.json"
LOCK = "fold.lock"
PRESENCE = ".alive"
OURS = re.compile(r"(counter|histogram|summary|gauge_[a-z]+)_(\d+(?:-[0-9a-f]{8})?)\.db")
"""Kind and process of a file. METRICS_DIR may hold other files: a SQLite database ends in `.db` too."""
READS = 20
RETIRED = ("leadway_complete_until_timestamp_seconds",)
"""Gauges that processes of earlier releases have left in these files, and that are told from the database now: told
twice, a scrape would be refused."""


class ProcessName:
    """The name under which this process counts, for `prometheus_client.values.MultiProcessValue`.

    The first call in a process, and the first one after a fork, take a new name. `<name>.alive` exists before any file
    of that name does, and is locked until the process ends, however it ends. Raises OSError.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._name: str | None = None
        self._presence: int | None = None
        os.register_at_fork(after_in_child=self._forget)

    def __call__(self) -> str:
        while self._name is None:
            self._take_a_name()
        return self._name

    def _take_a_name(self) -> None:
        """Sets no name when a fold had locked the new file before this process did, for that fold removes the file."""
        name = f"{os.getpid()}-{secrets.token_hex(4)}"
        presence = _created(self._directory / f"{name}{PRESENCE}")
        if _locked(presence) and os.fstat(presence).st_nlink:
            self._name, self._presence = name, presence
        else:
            os.close(presence)

    def _forget(self) -> None:
        """In a forked child. The lock is the parent's, and would last until every copy of its descriptor is closed."""
        if self._presence is not None:
            os.close(self._presence)
        self._name = self._presence = None


class SharedCounters(Collector):
    """The metrics of all processes that count in `directory`, living and ended."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def collect(self) -> Iterable[Metric]:
        """Counts each process once, whatever is folded meanwhile, and waits for no fold.

        Raises OSError when the folder cannot be read.
        """
        fold(self._directory)
        for _ in range(READS):
            with _ended(self._directory) as ended:
                gauges = []
                try:
                    for file in filter(_is_readable, _files(self._directory, besides=ended.folded)):
                        if outlives_its_process(file):
                            ended.totals.add(file)
                        elif values_in(file):
                            gauges.append(str(file))
                    found = [*ended.totals.metrics(), *MultiProcessCollector.merge(gauges)]  # type: ignore[no-untyped-call]
                except FileNotFoundError:
                    continue  # folded meanwhile
                if ended.is_current():
                    return [each for each in found if each.name not in RETIRED]
        raise OSError(f"the files of {self._directory} were folded {READS} times while they were read")


def fold(directory: Path) -> None:
    """Adds what ended processes have counted to `ended.json`, and removes their files.

    Does nothing while another process folds. Raises nothing: after an OSError (disk full, no permission), which is
    logged, everything is counted from the files that are still there.
    """
    try:
        with _only_one(directory) as is_ours:
            if is_ours:
                _fold(directory)
    except OSError as error:
        log.warning("metrics_not_folded", error=type(error).__name__, errno=error.errno)


def _fold(directory: Path) -> None:
    with _ended(directory) as ended:
        _remove(directory, ended.folded)  # what a fold that was killed has left
        files = _files(directory)
        alive = {name for name in {_name(file) for file in files} if _is_alive(directory, name)}
        done = [file for file in files if _name(file) not in alive and _is_readable(file)]
        if done:
            for file in filter(outlives_its_process, done):
                ended.totals.add(file)
            names = [file.name for file in done]
            _replace(directory / ENDED, json.dumps({"folded": names, **ended.totals.as_json()}))
            _remove(directory, names)
    for presence in directory.glob(f"*{PRESENCE}"):
        if presence.stem not in alive:
            _remove_unlocked(presence)


@contextmanager
def _only_one(directory: Path) -> Iterator[bool]:
    """Whether this process may fold."""
    try:
        lock = _opened(directory / LOCK)
    except FileNotFoundError:
        try:
            lock = _created(directory / LOCK)
        except FileExistsError:  # another process made it just now
            lock = _opened(directory / LOCK)
    try:
        yield _locked(lock)
    finally:
        os.close(lock)


def _created(file: Path) -> int:
    """A descriptor of the new file, which every user may read, whatever the umask. Raises FileExistsError."""
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
    os.fchmod(descriptor, 0o644)
    return descriptor


def _opened(file: Path) -> int:
    """A descriptor that can be locked; for writing where that is allowed, because NFS locks no other.

    Raises FileNotFoundError, and PermissionError for a file that may not even be read.
    """
    try:
        return os.open(file, os.O_RDWR)
    except PermissionError:
        return os.open(file, os.O_RDONLY)


def _locked(descriptor: int) -> bool:
    """Takes the lock, which lasts until the descriptor is closed; False when somebody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(directory: Path, name: str) -> bool:
    if name.isdigit():  # of a release whose processes had no presence
        return _has_process(int(name))
    try:
        presence = _opened(directory / f"{name}{PRESENCE}")
    except FileNotFoundError:
        return False
    except PermissionError:  # of another user: nobody can tell, and what is alive must not be folded
        return True
    try:
        return not _locked(presence)
    finally:
        os.close(presence)


def _has_process(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove_unlocked(presence: Path) -> None:
    """Removes it under its lock: a process that has made it, and not locked it yet, sees that it is gone."""
    with suppress(FileNotFoundError, PermissionError):
        descriptor = _opened(presence)
        try:
            if _locked(descriptor):
                presence.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _files(directory: Path, *, besides: Collection[str] = ()) -> list[Path]:
    return [directory / name for name in os.listdir(directory) if OURS.fullmatch(name) and name not in besides]


def _is_readable(file: Path) -> bool:
    """Whether its counts can be read. Those of another user, whose umask hides them, wait for a fold by that user."""
    return os.access(file, os.R_OK) or not file.exists()


def _name(file: Path) -> str:
    return file.stem.rpartition("_")[2]


def _remove(directory: Path, names: Iterable[str]) -> None:
    for name in names:
        (directory / name).unlink(missing_ok=True)


def _replace(file: Path, text: str) -> None:
    """By one rename, which is on disk before anything is removed."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)  # of a fold that was killed, perhaps another user's
    with os.fdopen(_created(new), "w") as writing:
        writing.write(text)
        writing.flush()
        os.fsync(writing.fileno())
    new.rename(file)
    directory = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@dataclass(frozen=True)
class _Ended:
    """What `ended.json` told when it was opened."""

    totals: Totals
    folded: frozenset[str]
    """Files that `totals` holds already, although they may still be there."""
    _file: Path
    _opened: int | None

    def is_current(self) -> bool:
        """Whether nothing was folded since. The open file keeps its inode from being given to the next."""
        try:
            now = self._file.stat()
        except FileNotFoundError:
            return self._opened is None
        return self._opened is not None and os.path.samestat(now, os.fstat(self._opened))


@contextmanager
def _ended(directory: Path) -> Iterator[_Ended]:
    file = directory / ENDED
    try:
        opened = file.open("rb")
    except FileNotFoundError:
        yield _Ended(Totals({}), frozenset(), file, None)
        return
    with opened:
        try:
            stored = json.loads(opened.read())
        except ValueError:  # a disk that lost what it had confirmed
            log.error("metrics_of_ended_processes_unreadable", file=ENDED)
            stored = {}
        yield _Ended(Totals(stored), frozenset(stored.get("folded", ())), file, opened.fileno())
