"""Starts lines of the Procfile as a platform would: each in a process group of its own, its output in a file."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.support.clock import ROOT, shared_clock
from tests.support.waiting import eventually
from workers.local.embedded_redis import end_with_parent

SHOWN_LINES = 40


@dataclass
class Running:
    """A process, how it was started, and where its output goes."""

    process: subprocess.Popen[bytes]
    command: list[str]
    environment: dict[str, str]
    log: Path


class Processes:
    """`with Processes(folder, environment) as processes: processes.start("web")`.

    All are ended at the end; if the block fails, the ends of their logs are printed with the failure.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        """`environment` is all that the processes get, besides the clock of this process and PATH with the folder of
        this Python first."""
        self.folder = folder
        self.environment = {
            **shared_clock(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self._running: dict[str, Running] = {}

    def start(self, line: str, *, name: str | None = None, environment: Mapping[str, str] | None = None) -> None:
        """Starts a line of the Procfile; `name` tells two processes of one line apart."""
        self.run(shlex.split(procfile()[line]), name=name or line, environment=environment)

    def run(self, command: list[str], *, name: str, environment: Mapping[str, str] | None = None) -> None:
        """Starts any command the same way."""
        if name in self._running and self.is_running(name):
            raise RuntimeError(f"{name} is running already")
        complete = {**self.environment, **(environment or {})}
        program = shutil.which(command[0], path=complete["PATH"])
        assert program is not None, f"{command[0]} is not on PATH"
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [program, *command[1:]],
                env=complete,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent(),
            )
        self._running[name] = Running(process, command, complete, log)

    def finish(self, line: str, *, timeout: float = 60.0) -> None:
        """Runs a line that ends by itself, such as `release`, and wants it to succeed."""
        self.start(line)
        code = self._running[line].process.wait(timeout)
        assert code == 0, f"{line} ended with {code}:\n{self.log(line)}"

    def wait(self, name: str, *, timeout: float = 60.0) -> int:
        """Until it ends by itself; returns its exit code."""
        return self._running[name].process.wait(timeout)

    def kill(self, name: str) -> None:
        """kill -9 of the process and all its children at once."""
        self._signal_group(name, signal.SIGKILL)
        self._running[name].process.wait(10)

    def stop(self, name: str, *, timeout: float = 30.0) -> int:
        """SIGTERM to the process itself; returns its exit code. Fails if it does not end in time."""
        running = self._running[name]
        if running.process.poll() is None:
            running.process.terminate()
        try:
            return running.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} did not end within {timeout:g} s:\n{self.log(name)}") from None
        finally:
            self._signal_group(name, signal.SIGKILL)

    def restart(self, name: str) -> None:
        """Starts it again as it was started, after ending what is left of it."""
        running = self._running[name]
        self.kill(name)
        self.run(running.command, name=name, environment=running.environment)

    def pid(self, name: str) -> int:
        return self._running[name].process.pid

    def is_running(self, name: str) -> bool:
        return self._running[name].process.poll() is None

    def log(self, name: str) -> str:
        return self._running[name].log.read_text(errors="replace")

    def wait_for_log(self, name: str, text: str, *, timeout: float = 20.0) -> None:
        """Fails at once if the process ends without having said it."""
        eventually(
            lambda: not self.is_running(name) or text in self.log(name),
            timeout=timeout,
            describe=lambda: f"{text!r} in the log of {name}:\n{self.log(name)[-3000:]}",
        )
        assert text in self.log(name), f"{name} ended without saying {text!r}:\n{self.log(name)[-3000:]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name in self._running:
            self._signal_group(name, signal.SIGTERM)
        for name, running in self._running.items():
            with suppress(subprocess.TimeoutExpired):
                running.process.wait(10)
            self._signal_group(name, signal.SIGKILL)
            running.process.wait(10)
        if kind is not None:
            for name in self._running:
                sys.stdout.write(f"\n--- {name}\n")
                sys.stdout.writelines(f"{line}\n" for line in self.log(name).splitlines()[-SHOWN_LINES:])

    def _signal_group(self, name: str, how: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._running[name].process.pid, how)


def is_alive(pid: int) -> bool:
    """A zombie that nobody has collected yet is not alive."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def procfile() -> dict[str, str]:
    """Its lines: name → command."""
    lines = (line.partition(":") for line in (ROOT / "Procfile").read_text().splitlines() if line.strip())
    return {name.strip(): command.strip() for name, _, command in lines}
