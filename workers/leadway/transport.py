"""How bytes travel to Leadway and back: one pooled session for the process, every exchange within its time.

An exchange is bounded as a whole, not read by read: threads have no other guard. Nothing is repeated and no redirect is
followed, because the API has no idempotency key: the rows decide what is done again.
"""

import http.client
import io
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from socket import SO_LINGER, SOL_SOCKET, socket
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from workers.leadway.errors import ErrorKind, LeadwayError, PermanentLeadwayError, sort_exception
from workers.telemetry import metrics

CONNECT_SECONDS = 5.0
SOCKET_OPTIONS = [
    *HTTPConnection.default_socket_options,
    (SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0)),
]
"""A connection that is closed is reset, and what it has not sent is thrown away. Of a host that was cut off the kernel
would send a note a minute after the request was given up, when another worker has written it anew."""
LARGEST_ANSWER = 16 * 1024 * 1024
"""Bytes, after decompression: of a page of call logs. Other answers have limits of their own."""

Observer = Callable[[str, int | ErrorKind, float, Mapping[str, str]], None]
"""Called after every exchange: endpoint, HTTP status or the kind of error instead, seconds, the answer's headers."""


@dataclass(frozen=True)
class Answer:
    """An answer, whatever its status. `headers` ignore case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool
    """False: the body was cut or is too large, and `body` is empty. Only a non-2xx can be so."""


def exchange(
    session: requests.Session,
    request: requests.Request,
    *,
    endpoint: str,
    seconds: float,
    largest: int = LARGEST_ANSWER,
    observe: Observer | None = None,
) -> Answer:
    """Sends the request, reads its whole answer within `seconds`, and counts both.

    `endpoint`: its name in metrics and errors. Raises RetryableLeadwayError when there is no whole answer: the
    connection failed (`sort_exception`), or the body is larger than `largest` bytes (too_large). An answer that is not
    a 2xx is returned even if its body was cut: `is_whole` tells.
    """
    started = time.monotonic()
    timeout = urllib3.Timeout(connect=min(CONNECT_SECONDS, seconds), total=seconds)
    status, headers, body = 0, cast(Mapping[str, str], {}), b""
    error: LeadwayError | None = None
    # Prepared without the session's merging, which costs a quarter of the call: ours has nothing but headers.
    request.headers = {**session.headers, **request.headers}
    try:
        with session.send(
            request.prepare(),
            timeout=cast(Any, timeout),  # requests passes it on as it is; its types do not know
            allow_redirects=False,
            stream=True,
        ) as response:
            status, headers = response.status_code, response.headers
            body = _read_body(response, largest)
    except _TooLarge:
        error = PermanentLeadwayError(ErrorKind.TOO_LARGE, endpoint=endpoint, http_status=status)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as cause:
        error = sort_exception(cause, endpoint=endpoint)
    is_whole = error is None
    if status and not 200 <= status < 300:
        error = None  # a refusal whose body was cut is still that refusal
    result, took = error.kind if error else status, time.monotonic() - started
    metrics.API_REQUESTS.labels(endpoint, str(result)).inc()
    metrics.API_SECONDS.labels(endpoint).observe(took)
    if observe is not None:
        observe(endpoint, result, took, headers)
    if error is not None:
        raise error  # outside of `except`: what it came from may quote a header or the body
    return Answer(status, headers, body, is_whole)


class _TooLarge(Exception):
    """The answer is larger than is read."""


def _read_body(response: requests.Response, largest: int) -> bytes:
    body = bytearray()
    for piece in response.iter_content(65536):
        body += piece
        if len(body) > largest:
            raise _TooLarge
    return bytes(body)


def open_session(*, pool_size: int) -> requests.Session:
    """Opens the process's session, with as many pooled connections as threads ask. To be opened after any fork.

    The session reads nothing from the environment: a netrc entry would replace the Authorization header, a proxy
    variable would send tokens elsewhere. It keeps no cookies, because accounts would share them. Nothing is retried
    (the default of requests).
    """
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["User-Agent"] = "leadway-calls"
    adapter = _BoundedAdapter(pool_connections=4, pool_maxsize=pool_size)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


class _BoundedReader(io.RawIOBase):
    """A socket's bytes until a deadline: each read gets what is left, so that an answer in drips ends in time too."""

    def __init__(self, raw: io.RawIOBase, sock: socket, deadline: float) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def readinto(self, buffer: Any) -> int | None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the answer took too long")
        self._sock.settimeout(remaining)
        return cast("int | None", self._raw.readinto(buffer))

    def close(self) -> None:
        self._raw.close()
        super().close()


class _BoundedResponse(http.client.HTTPResponse):
    """Headers and body together within the read time-out, which `http.client` grants anew to every read."""

    def __init__(self, sock: socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        limit = sock.gettimeout()
        if limit is not None:
            raw = self.fp.detach()
            self.fp = io.BufferedReader(_BoundedReader(raw, sock, time.monotonic() + limit))


class _BoundedConnection(HTTPConnection):
    """Tells exactly whether a request was sent: every failure in `connect`, TLS included, is a NewConnectionError."""

    response_class = _BoundedResponse

    def connect(self) -> None:
        started = time.monotonic()
        try:
            super().connect()
        except OSError as cause:
            self.close()
            raise NewConnectionError(self, "no connection") from cause
        # Name resolution and several addresses have no common limit: after the time-out nothing is sent any more.
        if self.timeout is not None and time.monotonic() - started > self.timeout:
            self.close()
            raise ConnectTimeoutError(self, "connected too late")

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self.sock is not None:  # a reused connection still has the time-out of its last answer
            self.sock.settimeout(self.timeout)
        super().request(*args, **kwargs)


class _BoundedSecureConnection(_BoundedConnection, HTTPSConnection):
    """The same over TLS."""


class _BoundedPool(HTTPConnectionPool):
    ConnectionCls = _BoundedConnection


class _BoundedSecurePool(HTTPSConnectionPool):
    ConnectionCls = _BoundedSecureConnection


class _BoundedAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, socket_options=SOCKET_OPTIONS, **kwargs)
        pools = {"http": _BoundedPool, "https": _BoundedSecurePool}
        self.poolmanager.pool_classes_by_scheme = pools
