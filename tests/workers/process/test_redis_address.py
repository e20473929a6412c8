"""REDIS_URL in each spelling leads our clients, Celery's broker and Flower to the same database of the same server."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from flower.utils.broker import Broker

from models.settings import SettingsError
from tests.support.redis_servers import Forwarder, RedisServer, self_made_certificate
from tests.support.waiting import eventually
from workers.process.broker import PromptConnection, broker_of
from workers.process.redis_address import RedisAddress, redis_address, redis_client

PASSWORD = "p/a?s#s@w:o%r;d, é"
CODED = quote(PASSWORD, safe="")


class Anything:
    """One server with a login, by TCP, by TLS and by a socket, and a Sentinel that knows it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.socket = folder / "with blanks" / "r.sock"
        self.socket.parent.mkdir(parents=True)
        self.server = stack.enter_context(
            RedisServer(
                folder / "server",
                f'user default on ">{PASSWORD}" ~* &* +@all',
                f'user app on ">{PASSWORD}" ~* &* +@all -@dangerous -@admin',
                f'unixsocket "{self.socket}"',
            )
        )
        self.certificate = self_made_certificate(folder / "certificate")
        self.tls = stack.enter_context(Forwarder(self.server.port, certificate=self.certificate))
        watched = f"sentinel monitor main 127.0.0.1 {self.server.port} 1", f'sentinel auth-pass main "{PASSWORD}"'
        self.sentinel = stack.enter_context(
            RedisServer(folder / "sentinel", *watched, "requirepass of-sentinel", sentinel=True)
        )


@pytest.fixture(scope="module")
def anything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anything]:
    with ExitStack() as stack:
        yield Anything(tmp_path_factory.mktemp("redis"), stack)


SPELLINGS: dict[str, Callable[[Anything], str]] = {
    "a password": lambda it: f"redis://:{CODED}@127.0.0.1:{it.server.port}/2",
    "a user": lambda it: f"redis://app:{CODED}@127.0.0.1:{it.server.port}/2",
    "Valkey's name": lambda it: f"valkey://app:{CODED}@127.0.0.1:{it.server.port}/2",
    "db as an option": lambda it: f"redis://:{CODED}@127.0.0.1:{it.server.port}?db=2",
    "a socket, by redis-py": lambda it: f"unix://app:{CODED}@{quote(str(it.socket))}?db=2",
    "a socket, by kombu": lambda it: f"redis+socket://app:{CODED}@{quote(str(it.socket))}?virtual_host=2",
    "a socket, with blanks as they are": lambda it: f"unix://{it.socket}?db=2&password={CODED}",
    "TLS and its authority": lambda it: f"rediss://:{CODED}@127.0.0.1:{it.tls.port}/2?ssl_ca_certs={it.certificate[0]}",
    "TLS unproven, by redis-py": lambda it: f"rediss://:{CODED}@127.0.0.1:{it.tls.port}/2?ssl_cert_reqs=none",
    "TLS unproven, by kombu": lambda it: f"rediss://:{CODED}@127.0.0.1:{it.tls.port}/2?ssl_cert_reqs=CERT_NONE",
    "TLS by any name": lambda it: (
        f"valkeys://:{CODED}@localhost:{it.tls.port}/2?ssl_cert_reqs=CERT_REQUIRED&ssl_check_hostname=false"
        f"&ssl_ca_certs={it.certificate[0]}"
    ),
    "Sentinels": lambda it: (
        f"sentinel://app:{CODED}@127.0.0.1:1,127.0.0.1:{it.sentinel.port}/2?master=main&sentinel_password=of-sentinel"
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_each_spelling_leads_client_broker_and_flower_to_one_database(anything: Anything, spelling: str) -> None:
    url = SPELLINGS[spelling](anything)
    with redis_client(url, seconds=2) as client, connected(url) as connection:
        client.delete("calls")
        client.lpush("calls", "one")
        assert connection.default_channel.client.llen("calls") == 1
        assert client.connection_pool.connection_kwargs["db"] == 2
        if not lost_on_flower(spelling):
            assert asyncio.run(seen_by_flower(connection, url)) == [{"name": "calls", "messages": 1}]


def lost_on_flower(spelling: str) -> bool:
    """Flower's page of queue lengths knows no user, no database and no blanks of a socket, and one Sentinel only."""
    return "socket" in spelling or spelling == "Sentinels"


def connected(url: str) -> PromptConnection:
    told = broker_of(url)
    return PromptConnection(
        told["broker_url"], ssl=told["broker_use_ssl"], transport_options=told["broker_transport_options"]
    )


async def seen_by_flower(connection: PromptConnection, url: str) -> Any:
    told = broker_of(url)
    return await Broker(
        connection.as_uri(include_password=True),
        broker_options=told["broker_transport_options"],
        broker_use_ssl=told["broker_use_ssl"],
    ).queues(["calls"])


def test_a_certificate_that_nobody_vouches_for_is_refused_by_client_and_broker(anything: Anything) -> None:
    url = f"rediss://:{CODED}@127.0.0.1:{anything.tls.port}/2"
    for said in ("required", "CERT_REQUIRED"):
        assert redis_address(f"{url}?ssl_cert_reqs={said}") == redis_address(url)
    with (
        redis_client(url, seconds=2) as client,
        pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.ping()
    with connected(url) as connection, pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        connection.transport.create_channel(connection.transport)


def test_what_is_left_out_has_its_usual_value() -> None:
    assert redis_address("redis://") == RedisAddress(hosts=(("127.0.0.1", 6379),))
    assert redis_address("redis://[::1]/3") == RedisAddress(hosts=(("::1", 6379),), db=3)
    assert broker_of("redis://[::1]/3")["broker_url"] == "redis://[::1]:6379/3"
    assert redis_address("sentinel://a,b:1?master=m").hosts == (("a", 26379), ("b", 1))
    assert "secret" not in repr(redis_address("sentinel://:secret@a?master=m&sentinel_password=secret"))


WRONG = [
    "", "secret", "localhost:6379", "http://:secret@h", "redis://:secret@h:port", "redis://:sec/ret@h:6379/0",
    "redis://:sec#ret@h", "redis://:secret@[h/0", "redis://:secret@h/zero", "redis://:secret@h/-1", "redis://h:99999",
    "redis://:secret@h1,h2/0", "redis://h?secret=1", "redis://h?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=secret",
    "rediss://h?ssl_ca_certs=/secret/ca.pem", "rediss://h?ssl_certfile=/secret/c.pem", "unix://secret/r.sock", "unix://",
    "redis+socket:///", "sentinel://:secret@h1,h2/0", "sentinel://h?master=", "redis://h/²",
]  # fmt: skip


@pytest.mark.parametrize("url", WRONG)
def test_a_url_that_is_none_gives_one_sentence_that_names_the_setting_and_no_secret(url: str) -> None:
    with pytest.raises(SettingsError, match=r"^REDIS_URL ") as told:
        redis_address(url)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_client_leaves_a_server_that_has_become_a_replica_and_follows_the_address(tmp_path: Path) -> None:
    """As with a managed Redis after a failover: the name leads to the new primary, and the old one still answers."""
    with RedisServer(tmp_path / "1") as old, RedisServer(tmp_path / "2") as new, Forwarder(old.port) as name:
        url = f"redis://127.0.0.1:{name.port}/0"
        with redis_client(url, seconds=2) as client, connected(url) as connection:
            broker = connection.default_channel.client
            client.lpush("calls", "one")
            assert broker.llen("calls") == 1
            name.target_port = new.port
            with redis_client(f"redis://127.0.0.1:{old.port}/0", seconds=2) as person:
                person.replicaof("127.0.0.1", str(new.port))
                eventually(lambda: person.info("replication")["role"] == "slave")

            client.lpush("calls", "two")
            with pytest.raises(connection.connection_errors):
                broker.lpush("calls", "three")
            broker.lpush("calls", "three")
        with redis_client(f"redis://127.0.0.1:{new.port}/0", seconds=2) as there:
            assert there.lrange("calls", 0, -1) == [b"three", b"two"]
