"""What waitress lacks: lanes for its threads, a bound of what is read ahead, and strictness with requests.

Receipts have threads of their own, so none waits behind a page, a scrape or a probe, whoever asks for how many.
"""

from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ThreadedTaskDispatcher

READ_AHEAD = 8
"""Requests that one connection may send before their answers. What comes beyond is not answered: the connection is
closed after those, as HTTP allows (RFC 9112, 9.3.2)."""


class Lanes:
    """The threads of one process: `threads` for paths that begin with `first`, `others` for all the rest."""

    def __init__(self, *, first: str, threads: int, others: int) -> None:
        self._first_path = first
        self._first, self._others = ThreadedTaskDispatcher(), ThreadedTaskDispatcher()
        self._first.set_thread_count(threads)
        self._others.set_thread_count(others)

    def add_task(self, channel: "Channel") -> None:
        request = channel.requests[0]
        is_first = request.error is None and request.path.startswith(self._first_path)
        (self._first if is_first else self._others).add_task(channel)

    def shutdown(self, *, timeout: float) -> None:
        for lane in (self._first, self._others):
            lane.shutdown(timeout=timeout / 2)


class StrictParser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """Refuses with 400 what two servers in a row could read as two different requests: a length beside chunks, and
    another number of hosts than one (RFC 9112, 3.2 and 6.1)."""

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        hosts = header_plus.lower().count(b"\nhost:")
        if hosts > 1 or (hosts == 0 and self.version == "1.1"):
            raise ParsingError("One Host header is wanted")
        has_chunks = self.chunked or "TRANSFER_ENCODING" in self.headers
        if has_chunks and ("CONTENT_LENGTH" in self.headers or self.version != "1.1"):
            raise ParsingError("Transfer-Encoding beside Content-Length, or before HTTP/1.1")


class _Overlooking(StrictParser):
    """Takes whatever a connection sends, and reads none of it."""

    def received(self, data: bytes) -> int:
        return len(data)


class Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection that reads few requests ahead."""

    @property
    def parser_class(self) -> type[StrictParser]:
        return _Overlooking if len(self.requests) >= READ_AHEAD else StrictParser

    def received(self, data: bytes) -> Any:
        received = super().received(data)
        with self.requests_lock:
            if isinstance(self.request, _Overlooking):
                if self.requests:
                    self.requests[-1].headers["CONNECTION"] = "close"
                else:
                    self.will_close = True
        return received
