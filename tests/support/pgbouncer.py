"""A PgBouncer of the test's own, in front of a PostgreSQL of the test's own."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from tests.support.services import UNPRIVILEGED, PostgresServer
from workers.local.embedded_redis import end_with_parent, free_port

READY_SECONDS = 10.0


class Pgbouncer:
    """`with Pgbouncer(server) as pooler: pooler.url("calls")`: each transaction has another session of the server."""

    def __init__(self, server: PostgresServer, **settings: object) -> None:
        """`settings`: of its section [pgbouncer]."""
        self._server, self._settings = server, settings
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="leadway-pgbouncer-"))
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
        if program is None:
            raise RuntimeError("this test needs PgBouncer: install Debian's package pgbouncer")
        account = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None  # it refuses to run as root
        file = self._folder / "pgbouncer.ini"
        file.write_text(self._ini())
        if account is not None:
            for path in (self._folder, file):
                os.chown(path, account.pw_uid, account.pw_gid)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, file],
                cwd=self._folder,
                user=account and account.pw_uid,
                group=account and account.pw_gid,
                extra_groups=[] if account else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGTERM),
            )
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return self
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PgBouncer did not start: {(self._folder / 'log').read_text()}") from error
                time.sleep(0.02)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ini(self) -> str:
        target = self._server.conninfo()
        settings = {
            "listen_addr": "127.0.0.1", "listen_port": self.port, "unix_socket_dir": "", "auth_type": "any",
            "pool_mode": "transaction", "default_pool_size": 8, **self._settings,
        }  # fmt: skip
        lines = "\n".join(f"{name} = {value}" for name, value in settings.items())
        return f"[databases]\n* = {target}\n[pgbouncer]\n{lines}\n"
