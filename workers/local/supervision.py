"""Keeps processes running: each is started again a second after it ended, all are ended in order at the end."""

import os
import queue
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from workers.local.embedded_redis import EmbeddedRedis, end_with_parent

RESTART_SECONDS = 1.0
CHILD_STOP_SECONDS = 30.0
SUPERVISE_EVERY_SECONDS = 0.1

OnLine = Callable[[str, str], None]
"""Takes a process' name and one line of its output; `system` says what happens to the processes."""


class Child:
    """One line of the Procfile as a process in a session of its own, so that ctrl-C reaches only its supervisor."""

    def __init__(self, name: str, command: str, environment: Mapping[str, str]) -> None:
        self.name, self.command, self.environment = name, shlex.split(command), environment
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.process: subprocess.Popen[bytes] | None = None
        self.start_at = 0.0
        """On the monotonic clock: not before that."""
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        program = shutil.which(self.command[0], path=self.environment["PATH"])
        if program is None:
            raise FileNotFoundError(f"{self.command[0]} is not on PATH")
        self.process = subprocess.Popen(
            [program, *self.command[1:]],
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent(),  # one call into a library that is already loaded
        )
        self._reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self._reader.start()

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def forget(self) -> int:
        """After the end: the exit code, with every process it left behind killed and every line read."""
        assert self.process is not None
        code = self.process.wait()
        self.send_to_group(signal.SIGKILL)
        if self._reader is not None:
            self._reader.join(1.0)
        self.process = None
        return code

    def send(self, how: signal.Signals) -> None:
        """To the process itself, which passes it on in its own way."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)

    def send_to_group(self, how: signal.Signals) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, how)

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.lines.put(line.decode("utf-8", "replace").rstrip("\n"))


def supervise(children: list[Child], redis: EmbeddedRedis | None, on_line: OnLine, stop: threading.Event) -> None:
    """Starts what is not running, a second after it ended; leaves when `stop` is set and all have ended."""
    try:
        while not stop.wait(SUPERVISE_EVERY_SECONDS):
            if redis is not None and not redis.is_running():
                on_line("system", "the embedded Redis ended: started again")
                redis.start()
            for child in children:
                _pass_on(child, on_line)
                if child.has_ended():
                    on_line("system", f"{child.name} ended with {child.forget()}: started again in a second")
                    child.start_at = time.monotonic() + RESTART_SECONDS
                if child.process is None and time.monotonic() >= child.start_at:
                    child.start()
                    on_line("system", f"{child.name} started")
    finally:
        _stop(children, on_line, stop)


def finish(child: Child, on_line: OnLine, stop: threading.Event) -> int:
    """Runs a process to its end and returns its exit code; 130 when it was stopped before that."""
    child.start()
    while not child.has_ended():
        _pass_on(child, on_line)
        if stop.is_set():
            child.send(signal.SIGTERM)
        time.sleep(SUPERVISE_EVERY_SECONDS)
    code = child.forget()
    _pass_on(child, on_line)
    return 130 if stop.is_set() else code


def _stop(children: list[Child], on_line: OnLine, stop: threading.Event) -> None:
    """SIGTERM to all, and SIGKILL to what is left after CHILD_STOP_SECONDS, or at once when `stop` is set again."""
    on_line("system", "stopping (once more: at once)")
    stop.clear()
    for child in children:
        child.send(signal.SIGTERM)
    deadline = time.monotonic() + CHILD_STOP_SECONDS
    while running := [child for child in children if child.process is not None]:
        if stop.is_set() or time.monotonic() > deadline:
            for child in running:
                child.send_to_group(signal.SIGKILL)
        for child in running:
            if child.has_ended():
                on_line("system", f"{child.name} ended with {child.forget()}")
            _pass_on(child, on_line)
        time.sleep(SUPERVISE_EVERY_SECONDS)
    stop.set()


def _pass_on(child: Child, on_line: OnLine) -> None:
    while not child.lines.empty():
        on_line(child.name, child.lines.get())
