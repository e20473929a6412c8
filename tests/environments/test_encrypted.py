"""A server that encrypts is believed only with the certificate that the URL names."""

import datetime
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from models.database import COMMAND, Database
from tests.support.services import PostgresServer


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as started:
        write_certificate(started.folder / "own", owner=started.folder.stat().st_uid)
        with psycopg.connect(started.url(), autocommit=True) as connection:
            for name, file in {"ssl_cert_file": "own.crt", "ssl_key_file": "own.key"}.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{started.folder / file}'".encode())
            connection.execute("ALTER SYSTEM SET ssl = on")
            connection.execute("SELECT pg_reload_conf()")
        yield started


def write_certificate(path: Path, *, owner: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    at = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(at - datetime.timedelta(days=1))
        .not_valid_after(at + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    path.with_suffix(".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    for suffix in (".crt", ".key"):
        path.with_suffix(suffix).chmod(0o600)
        os.chown(path.with_suffix(suffix), owner, -1)


def test_the_certificate_that_the_url_names_decides(server: PostgresServer, tmp_path: Path) -> None:
    write_certificate(tmp_path / "another", owner=os.geteuid())
    (tmp_path / "own.crt").write_bytes((server.folder / "own.crt").read_bytes())
    url = server.url().replace("127.0.0.1", "localhost") + "?sslmode=verify-full&sslrootcert="
    assert is_encrypted(f"{url}{tmp_path}/own.crt")
    with pytest.raises(sa.exc.OperationalError, match="certificate verify failed"):
        is_encrypted(f"{url}{tmp_path}/another.crt")


def is_encrypted(url: str) -> bool:
    with closing(Database(url, limits=COMMAND)) as database, database.reading() as connection:
        asked = sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return bool(connection.execute(asked).scalar_one())
