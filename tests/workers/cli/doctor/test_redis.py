"""What the doctor finds out about Redis: PING decides, and what else can be asked is told."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

from models.settings import read_settings
from tests.support.redis_servers import Forwarder, RedisServer, self_made_certificate
from tests.support.waiting import eventually
from workers.cli.doctor.checks import Check, Verdict
from workers.cli.doctor.system import examine
from workers.local.embedded_redis import free_port
from workers.process import redis_look

SECRET = "the password of Redis"
LOGIN = f":{quote(SECRET)}@"


def told_of(url: str, folder: Path) -> Check:
    """The doctor's first check of Redis: what is amiss with it is the verdict's."""
    settings = read_settings({"DATABASE_URL": f"sqlite:///{folder / 'none.db'}", "REDIS_URL": url})
    return next(check for check in examine(settings) if check.name.lower().startswith("redis"))


@contextmanager
def with_password(folder: Path) -> Iterator[str]:
    with RedisServer(folder, f'requirepass "{SECRET}"') as server:
        yield f"redis://{LOGIN}127.0.0.1:{server.port}/0"


@contextmanager
def user_without_dangerous_commands(folder: Path) -> Iterator[str]:
    with RedisServer(folder, f'user app on ">{SECRET}" ~* &* +@all -@dangerous -@admin') as server:
        yield f"redis://app{LOGIN}127.0.0.1:{server.port}/0"


@contextmanager
def lossy(folder: Path) -> Iterator[str]:
    with RedisServer(folder, "maxmemory 50mb", "maxmemory-policy volatile-lru") as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@contextmanager
def wrong_password(folder: Path) -> Iterator[str]:
    with RedisServer(folder, "requirepass another") as server:
        yield f"redis://{LOGIN}127.0.0.1:{server.port}/0"


@contextmanager
def no_password(folder: Path) -> Iterator[str]:
    with RedisServer(folder, "requirepass another") as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@contextmanager
def untrusted_certificate(folder: Path) -> Iterator[str]:
    with (
        RedisServer(folder) as server,
        Forwarder(server.port, certificate=self_made_certificate(folder / "certificate")) as tls,
    ):
        yield f"rediss://{LOGIN}127.0.0.1:{tls.port}/0"


@contextmanager
def replica(folder: Path) -> Iterator[str]:
    with RedisServer(folder, f"replicaof 127.0.0.1 {free_port()}") as server:
        yield f"redis://127.0.0.1:{server.port}/0"


@contextmanager
def nobody(folder: Path) -> Iterator[str]:
    yield f"unix://{folder / 'nobody.sock'}?password={quote(SECRET)}"


@contextmanager
def sentinels_that_watch_another(folder: Path) -> Iterator[str]:
    with (
        RedisServer(folder) as server,
        RedisServer(folder / "s", f"sentinel monitor another 127.0.0.1 {server.port} 1", sentinel=True) as sentinel,
    ):
        yield f"sentinel://{LOGIN}127.0.0.1:{sentinel.port}/0?master=main"


SERVERS = [
    (with_password, Verdict.OK, "it answers", ""),
    (user_without_dangerous_commands, Verdict.OK, "could not look at its memory policy", ""),
    (lossy, Verdict.WARNING, "volatile-lru", "CONFIG SET maxmemory-policy noeviction"),
    (wrong_password, Verdict.FAILED, "refuses the user name or the password", "REDIS_URL"),
    (no_password, Verdict.FAILED, "refuses the user name or the password", "REDIS_URL"),
    (untrusted_certificate, Verdict.FAILED, "a certificate that is not trusted", "ssl_ca_certs"),
    (replica, Verdict.FAILED, "replica", "primary"),
    (nobody, Verdict.FAILED, "does not answer", "REDIS_URL"),
    (sentinels_that_watch_another, Verdict.FAILED, "Sentinels know", "master"),
]


@pytest.mark.parametrize(
    ("server", "verdict", "told", "do"), SERVERS, ids=[getattr(each, "__name__", "") for each, *_ in SERVERS]
)
def test_each_redis_is_told_as_it_is_and_no_secret(
    server: Callable[[Path], AbstractContextManager[str]], verdict: Verdict, told: str, do: str, tmp_path: Path
) -> None:
    with server(tmp_path / "redis") as url:
        found = told_of(url, tmp_path)
    assert (found.verdict, told in found.told, do in found.do) == (verdict, True, True), found
    assert SECRET not in f"{found}"


def test_a_replica_that_was_promoted_is_well(tmp_path: Path) -> None:
    with RedisServer(tmp_path, f"replicaof 127.0.0.1 {free_port()}") as server:
        settings = read_settings({"REDIS_URL": f"redis://127.0.0.1:{server.port}/0"})
        assert redis_look.look(settings.redis_url).trouble
        with redis.Redis(port=server.port) as person:
            person.replicaof("NO", "ONE")
        eventually(lambda: redis_look.look(settings.redis_url).trouble is None)
