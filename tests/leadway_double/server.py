"""The listening socket of the double: one thread per connection, keep-alive, a deep backlog."""

import socket
import socketserver
import sys
import threading

from tests.leadway_double.wire import BadRequestError, Exchange, Line, read_request


class Listener:
    """Listens from `start` to `stop`. The port is taken at once, so the address is known before."""

    def __init__(self, host: str, port: int, *, exchange: Exchange) -> None:
        self._server = _Server((host, port), exchange)
        self.host, self.port = str(host), int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="leadway-double", daemon=True
        )

    @property
    def stopping(self) -> threading.Event:
        return self._server.stopping

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ends listening and every open connection, waiting ones too."""
        self._server.stopping.set()
        if self._thread.ident is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.close_connections()


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], exchange: Exchange) -> None:
        self.exchange = exchange
        self.stopping = threading.Event()
        self.open: set[socket.socket] = set()
        super().__init__(address, _Connection)

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Closes at once: an orderly shutdown first would turn a reset into a polite end."""
        self.close_request(request)

    def close_connections(self) -> None:
        for connection in list(self.open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of the tests; anything else is our bug and is shown."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    rbufsize = 65536
    server: _Server

    def handle(self) -> None:
        self.server.open.add(self.connection)
        line = Line(self.connection, self.server.stopping)
        try:
            while not self.server.stopping.is_set():
                request = read_request(self.rfile)
                if request is None or not self.server.exchange(request, line) or not request.keep_alive:
                    return
        except (ConnectionError, BadRequestError, ValueError):
            return
        finally:
            self.server.open.discard(self.connection)
