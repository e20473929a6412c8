"""The web server: gunicorn's arbiter keeps several processes alive, waitress answers inside each of them.

Idle and slow clients must not hold up a notification. gunicorn's threaded worker gives a thread to every connection
that is open, so a few silent ones stall it; waitress reads in one asynchronous loop and gives a thread only to a
request that has arrived whole. What waitress lacks, several processes and a supervisor for them, gunicorn has.
"""

import logging
import os
import resource
import select
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker
from waitress import wasyncore
from waitress.server import create_server

from webhook.lanes import Channel, Lanes

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

DRAIN_SECONDS = 10.0
"""How long running requests may go on after SIGTERM."""
SPARE_SECONDS = 4.0
"""After draining, before the arbiter kills the process: waitress' threads and the last heartbeat end meanwhile."""
QUIET_SECONDS = 1.0
"""While draining, a connection that was silent for so long and has no request running is closed."""
SILENCE_SECONDS = 25
"""A connection without a running request is closed after so much silence."""
CONNECTIONS = 2000
"""Open connections of one process; those beyond wait in the listening socket's queue."""
SWITCH_SECONDS = 0.002
"""After so long a thread gives Python's lock to one that waits; by Python's default after 5 ms. A receipt changes
threads four times, and each time it may wait so long for a page."""
SPARE_FILES = 100
BACKLOG = 1024
LARGEST_HEADER = 32 * 1024
LARGEST_BODY = 1024 * 1024
"""Bytes. Beyond it the server itself answers 413 in plain text; the application refuses smaller bodies in its own
words (bytes are still read, so that it can)."""


def serve(
    load: "Callable[[], WSGIApplication]",
    *,
    host: str,
    port: int,
    processes: int,
    lanes: Callable[[], Lanes],
    log_level: str = "INFO",
    while_serving: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Serves until SIGTERM, then leaves by SystemExit 0. `load` is called in each process after the fork, so that no
    two processes share a connection. SIGTERM: no new connection, running requests end, at most DRAIN_SECONDS.

    `lanes` makes the threads of a process; it is called after the fork.
    `while_serving` is called in each process after the fork; its context ends when the process has drained, and must
    end within SPARE_SECONDS."""
    logging.getLogger("waitress").addFilter(_without_path)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a short queue is how a burst looks
    _Application(
        load,
        lanes,
        while_serving,
        {
            "bind": f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
            "workers": processes,
            "worker_class": WaitressWorker,
            "backlog": BACKLOG,
            "graceful_timeout": int(DRAIN_SECONDS + SPARE_SECONDS),
            "control_socket_disable": True,
            "logger_class": _Log,
            "loglevel": log_level.lower(),
            "proc_name": "leadway-calls web",
        },
    ).run()


class WaitressWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """A process under gunicorn's arbiter that runs waitress on the arbiter's listening socket."""

    server: Any = None

    def run(self) -> None:
        """Turns waitress' loop until SIGTERM, or until the arbiter is gone (killed: nobody else would end us)."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self.server = create_server(
            self.wsgi,
            sockets=[self.sockets[0].sock],
            _dispatcher=self.app.lanes(),
            backlog=BACKLOG,
            connection_limit=_connection_limit(),
            channel_timeout=SILENCE_SECONDS,
            cleanup_interval=5,
            max_request_header_size=LARGEST_HEADER,
            max_request_body_size=LARGEST_BODY,
            ident=None,
            log_socket_errors=False,
        )
        self.server.channel_class = Channel
        with self.app.while_serving():
            while self.alive and os.getppid() == self.ppid:
                self.turn(1.0)
            self.drain()

    def handle_exit(self, sig: int, frame: object) -> None:
        """SIGTERM: remembered by the parent class; the pulled trigger ends the poll that is waiting."""
        super().handle_exit(sig, frame)
        if self.server is not None:
            self.server.pull_trigger()

    def turn(self, seconds: float) -> None:
        """One round of waitress' loop, at most so long, and the heartbeat without which the arbiter kills us."""
        self.notify()
        wasyncore.loop(timeout=seconds, use_poll=True, map=self.server._map, count=1)

    def drain(self) -> None:
        """Takes what already waits in the listening socket's queue, closes it, lets running requests end."""
        self.accept_waiting()
        wasyncore.dispatcher.close(self.server)
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.server.active_channels and time.monotonic() < deadline:
            self.say_goodbye()
            self.turn(0.1)
        if self.server.active_channels:
            self.log.warning("cut off %d connections that did not end in time", len(self.server.active_channels))
        self.server.task_dispatcher.shutdown(timeout=1)

    def accept_waiting(self) -> None:
        queue = select.poll()
        queue.register(self.server.socket, select.POLLIN)
        for _ in range(BACKLOG):
            if not queue.poll(0):
                return
            self.server.handle_accept()

    def say_goodbye(self) -> None:
        """Answers in the making will say `Connection: close`; connections that want nothing are closed."""
        quiet_since = time.time() - QUIET_SECONDS
        for channel in list(self.server.active_channels.values()):
            for request in channel.requests:
                request.headers["CONNECTION"] = "close"
            if not channel.requests and not channel.total_outbufs_len and channel.last_activity < quiet_since:
                channel.will_close = True


class _Application(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """Hands our settings, `load`, `lanes` and `while_serving` to gunicorn, in place of its command line."""

    def __init__(
        self,
        load: "Callable[[], WSGIApplication]",
        lanes: Callable[[], Lanes],
        while_serving: Callable[[], AbstractContextManager[None]],
        options: dict[str, Any],
    ) -> None:
        self._load, self._options = load, options
        self.lanes, self.while_serving = lanes, while_serving
        super().__init__()

    def load_config(self) -> None:
        for name, value in self._options.items():
            self.cfg.set(name, value)

    def load(self) -> "WSGIApplication":
        return self._load()


class _Log(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's lines go the way of all others: to the root logger, in its format."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def _without_path(record: logging.LogRecord) -> bool:
    """waitress puts the path of a failed request into its message; ours may hold an intake secret."""
    said, found, _ = record.getMessage().partition(" while serving ")
    if found:
        record.msg, record.args = f"{said} while serving a request", ()
    return True


def _connection_limit() -> int:
    """As many connections as we want, or as the limit of open files allows after it was raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return CONNECTIONS if soft == resource.RLIM_INFINITY else min(CONNECTIONS, soft - SPARE_FILES)
