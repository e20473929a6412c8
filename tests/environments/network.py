"""Machines of one local network, each a network namespace: what starts inside one reaches the others by cable alone."""

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

CLONE_NEWNET = 0x40000000
NOBODYS_ADDRESS = "02:00:00:00:00:fe"
"""Of a network card that no machine has: what is sent there is lost without a word."""
MACHINES_OWN = "/proc/thread-self/ns/net"


class Network:
    """`with Network("web", "db") as network: with network.inside("web"): …`

    Nothing of it is seen outside: the cables end in a switch that is a namespace too. Needs root and iproute2; where
    namespaces are refused, AssertionError tells what was refused.
    """

    def __init__(self, *machines: str) -> None:
        self._machines = machines
        self._prefix = f"leadway-{os.getpid()}-"

    def address(self, machine: str) -> str:
        return f"10.77.0.{self._machines.index(machine) + 1}"

    @contextmanager
    def inside(self, machine: str) -> Iterator[None]:
        """This thread, and the processes and threads that it starts meanwhile, are on that machine."""
        with Path(MACHINES_OWN).open() as here, Path(f"/run/netns/{self._prefix}{machine}").open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    def cut(self, machine: str) -> None:
        """Pulls the cable out of the switch: nothing comes or goes, and no connection is told."""
        self._of_the_switch("link", "set", machine, "down")

    def mend(self, machine: str) -> None:
        self._of_the_switch("link", "set", machine, "up")

    def hide(self, target: str, *, of: str) -> None:
        """What machine `of` sends to `target` is lost, all else goes on."""
        address = ("lladdr", NOBODYS_ADDRESS, "nud", "permanent", "dev", "eth0")
        _ip("-n", self._prefix + of, "neigh", "replace", self.address(target), *address)

    def show(self, target: str, *, to: str) -> None:
        _ip("-n", self._prefix + to, "neigh", "del", self.address(target), "dev", "eth0")

    def __enter__(self) -> Self:
        try:
            self._make("switch")
            self._of_the_switch("link", "add", "bridge", "type", "bridge")
            self._of_the_switch("link", "set", "bridge", "up")
            for machine in self._machines:
                self._plug_in(machine)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._remove()

    def _plug_in(self, machine: str) -> None:
        name = self._prefix + machine
        self._make(machine)
        self._of_the_switch("link", "add", machine, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._of_the_switch("link", "set", machine, "master", "bridge", "up")
        _ip("-n", name, "address", "add", f"{self.address(machine)}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")

    def _make(self, machine: str) -> None:
        _ip("netns", "add", self._prefix + machine)
        _ip("-n", self._prefix + machine, "link", "set", "lo", "up")

    def _of_the_switch(self, *words: str) -> None:
        _ip("-n", self._prefix + "switch", *words)

    def _remove(self) -> None:
        for machine in (*self._machines, "switch"):
            with suppress(AssertionError):  # it was never made
                _ip("netns", "delete", self._prefix + machine)


def _ip(*words: str) -> None:
    """Debian's `ip`. Raises AssertionError with what it said: a test without its machines is no test."""
    command: Sequence[str] = ("ip", *words)
    try:
        ran = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise AssertionError("this test makes network namespaces: install Debian's package iproute2") from None
    assert ran.returncode == 0, (
        f"this test makes network namespaces, as root: `{' '.join(command)}` was refused: {ran.stderr.strip()}"
    )


def _enter(namespace: int) -> None:
    """Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns was refused: {os.strerror(code)}")
