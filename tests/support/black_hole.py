"""A TCP proxy whose connections can fall into a black hole: both ends stay open, and no byte arrives any more.

That is what a firewall does which forgets a connection, or a machine that vanishes without a word.
"""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

CHUNK = 65_536


class BlackHoleProxy:
    """`with BlackHoleProxy(port) as proxy:` – connects `proxy.port` of the loopback interface to `port`."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._swallowed: set[socket.socket] = set()

    def swallow(self) -> int:
        """Every connection that is open now is dead for ever, and nobody is told. New ones work. Returns how many."""
        with self._lock:
            self._swallowed.update(self._open)
            return len(self._open) // 2

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="black hole", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target_port))
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        """Also an end is news, and a swallowed connection brings none."""
        with suppress(OSError):
            while data := one.recv(CHUNK):
                if one not in self._swallowed:
                    other.sendall(data)
        if one not in self._swallowed:
            for each in (one, other):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
