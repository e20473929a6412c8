"""A TCP proxy that takes its time: each byte arrives so many seconds later, and none is lost or overtaken.

Its target may change, as the address of a managed database does after a failover: connections stay where they are.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from types import TracebackType
from typing import Self

CHUNK = 65_536


class SlowLine:
    """`with SlowLine(port, seconds=0.05) as line:` – connects `line.port` of the loopback interface to `port`.

    A round trip takes twice as long as `seconds`. A connection is made at once, as far as the near end can tell.
    `rewrite`: what the server says becomes something else on the way.
    """

    def __init__(
        self, target_port: int, *, seconds: float = 0.0, rewrite: Callable[[bytes], bytes] = lambda data: data
    ) -> None:
        self.target_port, self._seconds, self._rewrite = target_port, seconds, rewrite
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="slow line", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target_port))
                except OSError:
                    near.close()
                    continue
                for each in (near, far):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for one, other, change in ((near, far, bytes), (far, near, self._rewrite)):
                    under_way: SimpleQueue[tuple[float, bytes]] = SimpleQueue()
                    threading.Thread(target=self._take, args=(one, under_way, change), daemon=True).start()
                    threading.Thread(target=self._deliver, args=(under_way, other), daemon=True).start()

    def _take(
        self, one: socket.socket, under_way: "SimpleQueue[tuple[float, bytes]]", change: Callable[[bytes], bytes]
    ) -> None:
        data = b"?"
        while data:
            try:
                data = one.recv(CHUNK)
            except OSError:
                data = b""
            under_way.put((time.monotonic() + self._seconds, change(data)))

    @staticmethod
    def _deliver(under_way: "SimpleQueue[tuple[float, bytes]]", other: socket.socket) -> None:
        with suppress(OSError):
            while True:
                at, data = under_way.get()
                time.sleep(max(0.0, at - time.monotonic()))
                if not data:
                    other.shutdown(socket.SHUT_WR)
                    return
                other.sendall(data)
