"""Where Redis is: REDIS_URL in each of its spellings, and the one way in which clients are made from it.

The spellings are listed in docs/operating/redis.md. Celery's broker is made from the same address
(workers/process/broker.py): redis-py, kombu and Flower each read another dialect of such URLs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from models.settings import SettingsError

if TYPE_CHECKING:
    from redis import Redis

SCHEMES = {"redis": 6379, "rediss": 6379, "valkey": 6379, "valkeys": 6379, "sentinel": 26379}
"""With their ports. valkey and valkeys are redis and rediss."""
SOCKET_SCHEMES = ("unix", "redis+socket")
TLS_SCHEMES = ("rediss", "valkeys")
CERTIFICATE_NEEDS = ("none", "optional", "required")
TLS_OPTIONS = {"ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}
SENTINEL_OPTIONS = {"master", "sentinel_username", "sentinel_password"}
OPTIONS = {"db", "virtual_host", "username", "password"}
"""Of every scheme; virtual_host is kombu's word for db."""


@dataclass(frozen=True)
class RedisAddress:
    """One server, one socket, or the Sentinels that know the server."""

    hosts: tuple[tuple[str, int], ...] = ()
    socket: str | None = None
    master: str | None = None
    """The name under which Sentinels watch the server. None: `hosts` is the server itself."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: Mapping[str, Any] | None = None
    """redis-py's options, which kombu and Flower take too. None: no TLS. Empty is no value of it."""
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)


def redis_client(
    url: str, *, seconds: float, connect_seconds: float | None = None, retries: int = 1, health_check_interval: int = 0
) -> "Redis":
    """A client that connects when it is first used. Raises SettingsError for a URL that is none.

    `seconds`: time-out of each answer, and of connecting unless `connect_seconds` is given. A connection that broke is
    opened anew `retries` times. So is one to a server that became a replica: the address may lead to another by now.
    """
    from redis import ReadOnlyError, Redis  # here: a web process receives its first notification before it needs them
    from redis.backoff import NoBackoff
    from redis.retry import Retry
    from redis.sentinel import Sentinel

    address = redis_address(url)
    limits = {"socket_timeout": seconds, "socket_connect_timeout": connect_seconds or seconds}
    options: dict[str, Any] = {
        **limits,
        "username": address.username,
        "password": address.password,
        "db": address.db,
        "health_check_interval": health_check_interval,
        "retry": Retry(NoBackoff(), retries),
        "retry_on_error": [ReadOnlyError],
    }
    if address.socket is not None:
        return Redis(unix_socket_path=address.socket, **options)
    if address.tls is not None:
        options |= {"ssl": True, **address.tls}
    if address.master is not None:
        asking = sentinel_options(address, limits)
        sentinels = Sentinel(address.hosts, sentinel_kwargs=asking, **options)  # type: ignore[no-untyped-call]
        client: Redis = sentinels.master_for(address.master)  # type: ignore[no-untyped-call]
        return client
    [(host, port)] = address.hosts
    return Redis(host=host, port=port, **options)


def sentinel_options(address: RedisAddress, limits: Mapping[str, object]) -> dict[str, object]:
    """How the Sentinels themselves are spoken to. They have a login of their own, and the server's TLS."""
    tls = {} if address.tls is None else {"ssl": True, **address.tls}
    return {**limits, **tls, **address.sentinel_login, "retry": None}  # no second try: the next one is asked instead


def redis_address(url: str) -> RedisAddress:
    """Reads a REDIS_URL. Raises SettingsError, whose text tells what is wrong and quotes nothing of it."""
    try:
        parts = urlsplit(url.strip())
        login, _, netloc = parts.netloc.rpartition("@")
        hosts = [(each.hostname, each.port) for each in (urlsplit(f"//{host}") for host in netloc.split(","))]
    except ValueError:  # brackets, or a port that is no number; the error's text could be a part of the password
        raise _wrong("has no usable host and port") from None
    scheme, options = parts.scheme, dict(parse_qsl(parts.query, keep_blank_values=True))
    if scheme not in SCHEMES and scheme not in SOCKET_SCHEMES:
        raise _wrong("has to begin with redis://, rediss://, unix://, redis+socket:// or sentinel://")
    if parts.fragment:
        raise _wrong("contains a `#`: write it as %23")
    _refuse_unknown(options, scheme)
    username, _, password = map(unquote, login.partition(":"))
    common: dict[str, Any] = {
        "username": options.get("username") or username or None,
        "password": options.get("password") or password or None,
    }
    if scheme in SOCKET_SCHEMES:
        if netloc or len(parts.path) < 2:
            raise _wrong("needs the whole path of the socket, after three slashes: unix:///run/redis/redis.sock")
        return RedisAddress(socket=unquote(parts.path), db=_database(options, ""), **common)
    common |= {"db": _database(options, parts.path), "tls": _tls(scheme, options)}
    found = tuple((unquote(host or "127.0.0.1"), port or SCHEMES[scheme]) for host, port in hosts)
    if scheme == "sentinel":
        if not options.get("master"):
            raise _wrong(
                "needs the name of the server that the Sentinels watch: sentinel://host:26379/0?master=mymaster"
            )
        login_there = {
            name.removeprefix("sentinel_"): options[name] for name in SENTINEL_OPTIONS - {"master"} & {*options}
        }
        return RedisAddress(hosts=found, master=options["master"], sentinel_login=login_there, **common)
    if len(found) > 1:
        raise _wrong("names several hosts, which only sentinel:// may")
    return RedisAddress(hosts=found, **common)


def _refuse_unknown(options: Mapping[str, str], scheme: str) -> None:
    known = {*OPTIONS}
    if scheme in (*TLS_SCHEMES, "sentinel"):
        known |= TLS_OPTIONS
    if scheme == "sentinel":
        known |= SENTINEL_OPTIONS
    if unknown := sorted(set(options) - known):
        if set(unknown) <= TLS_OPTIONS:
            raise _wrong(f"has {', '.join(unknown)}, which goes with rediss:// only")
        # Only names of ours are told: what stands there may be the end of a password with a `?` in it.
        raise _wrong(f"has an option that {scheme}:// does not know; it knows {', '.join(sorted(known))}")


def _database(options: Mapping[str, str], path: str) -> int:
    number = options.get("db") or options.get("virtual_host") or path.strip("/") or "0"
    if not (number.isascii() and number.isdecimal() and len(number) < 10):
        raise _wrong("needs the number of a database after its last slash, or nothing")
    return int(number)


def _tls(scheme: str, options: Mapping[str, str]) -> Mapping[str, Any] | None:
    """For Sentinel any of the options asks for TLS."""
    given = {name: value for name, value in options.items() if name in TLS_OPTIONS}
    if scheme not in TLS_SCHEMES and not given:
        return None
    needed = given.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
    if needed not in CERTIFICATE_NEEDS:
        raise _wrong("has an ssl_cert_reqs that is none of none, optional, required")
    checks_name = given.get("ssl_check_hostname", "true").lower() not in ("0", "f", "false", "n", "no", "off")
    import ssl  # here: few need it

    try:  # now, and not at each connection
        context = ssl.create_default_context(cafile=given.get("ssl_ca_certs"), capath=given.get("ssl_ca_path"))
        if "ssl_certfile" in given:
            context.load_cert_chain(given["ssl_certfile"], given.get("ssl_keyfile"), password="")
    except OSError as error:
        raise _wrong(f"names a file in its ssl_ options that cannot be used ({error.strerror})") from None
    return {**given, "ssl_cert_reqs": needed, "ssl_check_hostname": checks_name and needed != "none"}


def _wrong(what: str) -> SettingsError:
    return SettingsError(
        f"REDIS_URL {what} (docs/operating/redis.md; in a user name and password `/`, `?`, `#`, `@` and `%` are"
        " percent-encoded)"
    )
