"""HTTP/1.1 on a bare socket: reads requests, writes whole answers, and can break off an answer in every way we test.

Not `http.server`'s own handler, because its header parser alone costs more than all the rest of an answer, and
because a fault has to decide which bytes leave and how the connection ends.
"""

import json
import select
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BufferedIOBase
from threading import Event
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """One request. Header names are lower case; `path` is decoded, `query` keeps the last value of a name."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    keep_alive: bool = True

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """One answer: `body` is sent as it is."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json; charset=utf-8"

    def head(self) -> bytes:
        reason = HTTPStatus(self.status).phrase if self.status in HTTPStatus._value2member_map_ else "Unknown"
        lines = [f"HTTP/1.1 {self.status} {reason}", f"Content-Type: {self.content_type}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        lines += [f"Content-Length: {len(self.body)}", "", ""]
        return "\r\n".join(lines).encode("latin-1")


class BadRequestError(Exception):
    """What arrived is no HTTP request."""


def compact(document: Any) -> bytes:
    """JSON without spaces, UTF-8: how the vendor writes bodies (and what it signs)."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), default=str).encode()


def read_request(stream: BufferedIOBase) -> Request | None:
    """The next request of a connection, or None at its end. Raises BadRequestError."""
    line = stream.readline(65537)
    while line in (b"\r\n", b"\n"):
        line = stream.readline(65537)
    if not line:
        return None
    try:
        method, target, version = line.decode("latin-1").split()
    except ValueError:
        raise BadRequestError("request line") from None
    headers = _read_headers(stream)
    parts = urlsplit(target)
    return Request(
        method=method,
        path=unquote(parts.path),
        query=dict(parse_qsl(parts.query, keep_blank_values=True)),
        headers=headers,
        body=_read_body(stream, headers),
        keep_alive=version != "HTTP/1.0" and headers.get("connection", "").lower() != "close",
    )


def _read_headers(stream: BufferedIOBase) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := stream.readline(65537)) not in (b"\r\n", b"\n"):
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise BadRequestError("header")
        headers[name.lower()] = value.strip()
    return headers


def _read_body(stream: BufferedIOBase, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        chunks = []
        while size := int(stream.readline(100).split(b";")[0], 16):
            chunks.append(stream.read(size))
            stream.readline(10)
        _read_headers(stream)
        return b"".join(chunks)
    length = int(headers.get("content-length", "0"))
    body = stream.read(length) if length else b""
    if len(body) < length:
        raise BadRequestError("body")
    return body


@dataclass(frozen=True, slots=True)
class Line:
    """The way back to the client: everything that may happen to an answer."""

    connection: socket.socket
    stopping: Event

    def send(self, response: Response) -> None:
        self.connection.sendall(response.head() + response.body)

    def send_half(self, response: Response) -> None:
        """Promises the whole length, sends half of the body; the caller closes."""
        self.connection.sendall(response.head() + response.body[: len(response.body) // 2])

    def drip(self, response: Response, seconds: float) -> None:
        """Sends the answer in small pieces, spread over `seconds`."""
        data = response.head() + response.body
        step = max(1, len(data) // 200)
        pause = seconds * step / len(data)
        for start in range(0, len(data), step):
            self.connection.sendall(data[start : start + step])
            if self.stopping.wait(pause):
                return

    def reset(self) -> None:
        """Ends the connection by RST: the client sees "connection reset by peer"."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def wait_until_client_leaves(self) -> bool:
        """Waits in silence; True once the client has closed, False when the double stops."""
        while not self.stopping.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.1)
            if readable and not self._peek():
                return True
        return False

    def _peek(self) -> bool:
        try:
            return bool(self.connection.recv(1, socket.MSG_PEEK))
        except OSError:
            return False


Exchange = Callable[[Request, Line], bool]
"""Answers one request on its line; False: the connection ends here."""
