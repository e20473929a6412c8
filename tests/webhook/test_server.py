"""The web server as processes: what bad clients, kills and signals do to it. The application is a stand-in."""

import http.client
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.support.processes import Processes
from tests.support.waiting import eventually
from webhook.lanes import READ_AHEAD
from workers.local.embedded_redis import free_port

APPLICATION = """
import logging, os, pathlib, sys, time
from webhook.lanes import Lanes
from webhook.server import serve

def load():
    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/fails/"):
            raise RuntimeError("on purpose")
        if path == "/slow":
            pathlib.Path("slow-has-begun").touch()
            while not pathlib.Path("slow-may-end").exists():
                time.sleep(0.01)
        size = len(environ["wsgi.input"].read())
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{os.getpid()} {size}".encode()]
    return application

logging.basicConfig(level=logging.INFO)
serve(load, host="127.0.0.1", port=int(sys.argv[1]), processes=2,
      lanes=lambda: Lanes(first="/webhooks/", threads=2, others=2))
"""

BAD_CONNECTIONS = 40
FRESH_ANSWER_SECONDS = 0.25
"""A property the server must have, not a measure of speed: a notification is answered beside any number of bad ones."""

SILENT = b""
ONE_BYTE = b"P"
HALF_A_BODY = b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500


class Server:
    """The stand-in application behind the real server."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.processes = Processes(folder, {})

    def start(self) -> None:
        self.processes.run(["python", "-c", APPLICATION, str(self.port)], name="web")
        eventually(lambda: len(self.workers()) == 2 and self.answering() == self.workers(), describe="two processes")

    def pid(self) -> int:
        return self.processes.pid("web")

    def workers(self) -> set[int]:
        return {child.pid for child in psutil.Process(self.pid()).children()}

    def answering(self) -> set[int]:
        """The processes that answer, found by asking often."""
        return {int(self.get("/")[1].split()[0]) for _ in range(30)}

    def get(self, path: str, *, body: bytes | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET" if body is None else "POST", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def connect(self, stack: ExitStack, first_bytes: bytes) -> socket.socket:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", self.port), timeout=20))
        connection.sendall(first_bytes)
        return connection

    def a_slow_request_begins(self, pool: ThreadPoolExecutor) -> Callable[[], tuple[int, str]]:
        """Returns the function that waits for its answer."""
        answer = pool.submit(self.get, "/slow")
        eventually((self.folder / "slow-has-begun").exists, describe="the slow request is being worked on")
        return answer.result

    def let_the_slow_request_end(self) -> None:
        (self.folder / "slow-may-end").touch()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    with server.processes:
        server.start()
        yield server


@pytest.mark.parametrize("first_bytes", [SILENT, ONE_BYTE, HALF_A_BODY], ids=["silent", "one byte", "half a body"])
def test_bad_connections_do_not_hold_up_a_fresh_request(server: Server, first_bytes: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(BAD_CONNECTIONS):
            server.connect(stack, first_bytes)
        for _ in range(5):
            begin = time.monotonic()
            assert server.get("/", body=b"notification")[0] == 200
            assert time.monotonic() - begin < FRESH_ANSWER_SECONDS


def test_a_notification_waits_for_no_page(server: Server) -> None:
    """The two processes have two threads each for pages: twelve pages that never end are more than all of them."""
    with ExitStack() as stack:
        for _ in range(12):
            server.connect(stack, b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n")
        eventually((server.folder / "slow-has-begun").exists)
        for _ in range(20):
            assert server.get("/webhooks/leadway", body=b"notification")[0] == 200
        server.let_the_slow_request_end()


def test_a_connection_is_read_a_few_requests_ahead_and_closed_beyond_them(server: Server) -> None:
    with ExitStack() as stack:
        connection = server.connect(stack, b"GET / HTTP/1.1\r\nHost: here\r\n\r\n" * 100)
        answers = _all_of(connection)
    assert 1 <= answers.count(b"200 OK") <= READ_AHEAD + 1
    assert answers.count(b"Connection: close") == 1


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.0\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: here\r\nhost: there\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX-Host: here\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\n\r\n", 200),
        (b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200),
    ],
)
def test_what_two_servers_could_read_differently_is_refused_before_the_application(
    server: Server, head: bytes, status: int
) -> None:
    with ExitStack() as stack:
        connection = server.connect(stack, head)
        assert connection.recv(1000).startswith(f"HTTP/1.{head.splitlines()[0][-1:].decode()} {status}".encode())


def test_a_request_that_comes_in_single_bytes_is_answered_in_the_end(server: Server) -> None:
    with ExitStack() as stack:
        connection = server.connect(stack, SILENT)
        for byte in b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n\r\nabc":
            connection.sendall(bytes([byte]))
        assert b"200 OK" in connection.recv(1000)


def test_a_killed_process_is_replaced_while_the_other_goes_on_answering(server: Server) -> None:
    before = server.workers()
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: len(server.workers() - {victim}) == 2, describe="a second process beside the one that is left")
    eventually(lambda: server.answering() == server.workers(), describe="both answer")
    assert before - {victim} < server.workers()


def test_sigterm_lets_the_running_request_have_its_answer_and_then_ends_with_0(server: Server) -> None:
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        server.connect(stack, SILENT)
        server.connect(stack, HALF_A_BODY)
        answer = server.a_slow_request_begins(pool)
        os.kill(server.pid(), signal.SIGTERM)
        eventually(lambda: _is_refused(server.port), describe="no new connection is taken")
        server.let_the_slow_request_end()
        assert answer()[0] == 200
        assert server.processes.stop("web", timeout=10) == 0


def test_while_stopping_a_kept_connection_is_told_that_its_answer_is_the_last(server: Server) -> None:
    with ExitStack() as stack:
        connection = server.connect(stack, b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n")
        eventually((server.folder / "slow-has-begun").exists)
        os.kill(server.pid(), signal.SIGTERM)
        eventually(lambda: _is_refused(server.port), describe="no new connection is taken")
        server.let_the_slow_request_end()
        assert b"Connection: close" in connection.recv(1000)


def test_processes_whose_arbiter_was_killed_finish_their_requests_and_end(server: Server) -> None:
    workers = [psutil.Process(pid) for pid in server.workers()]
    with ThreadPoolExecutor() as pool:
        answer = server.a_slow_request_begins(pool)
        os.kill(server.pid(), signal.SIGKILL)
        eventually(lambda: _is_refused(server.port), describe="the port is free for the next start")
        server.let_the_slow_request_end()
        assert answer()[0] == 200
    eventually(lambda: not any(_is_alive(worker) for worker in workers), describe="no process is left")


def test_a_moderately_large_body_reaches_the_application_and_a_huge_one_is_cut_off(server: Server) -> None:
    status, text = server.get("/", body=b"x" * 900_000)
    assert (status, text.split()[1]) == (200, "900000")
    with ExitStack() as stack:
        huge = server.connect(stack, b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 2000000\r\n\r\n")
        assert b" 413 " in huge.recv(1000)


def test_an_answer_does_not_tell_which_server_gave_it(server: Server) -> None:
    with ExitStack() as stack:
        asked = b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
        for request in (asked, b"nonsense\r\n\r\n"):
            connection = server.connect(stack, request)
            answer = _all_of(connection).lower()
            assert b"server:" not in answer
            assert b"waitress" not in answer


def test_the_path_of_a_request_that_failed_is_not_logged_because_it_may_hold_a_secret(server: Server) -> None:
    assert server.get("/fails/my-intake-secret")[0] == 500
    server.processes.wait_for_log("web", "Exception while serving a request")
    assert "my-intake-secret" not in server.processes.log("web")


def _all_of(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1000), b""))


def _is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def _is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
