"""What DATABASE_URL says of a PostgreSQL: hosts, libpq's parameters, start-up options, a pooler in front."""

import re
from dataclasses import dataclass

import psycopg
import sqlalchemy as sa

from models.settings import SettingsError

POOLER = "pgbouncer"
"""`?pgbouncer=true`, as many platforms write it: connections of a transaction pooler."""
KNOWN = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
_SEVERAL_HOSTS = re.compile(
    r"^(?P<scheme>[\w+]+://)(?P<user>[^/?]*@)?(?P<hosts>[^/?@]*,[^/?@]*)(?P<rest>.*)$", re.DOTALL
)
_SPECIAL, _ESCAPED = re.compile(r"([\s\\])"), r"\\\1"
_OPTION = re.compile(r"(?:-c\s*|--)(?P<name>[\w.-]+)=(?P<value>(?:\\.|[^\s\\])*)(?:\s+|$)")


class UnusableDatabase(SettingsError):
    """A database that this system cannot be run on as it is; the text says why, and what to do."""


@dataclass(frozen=True)
class Address:
    """A PostgreSQL as DATABASE_URL names it."""

    url: sa.URL
    """Without what is ours to send at the start of a connection."""
    options: dict[str, str]
    """The parameters of the URL's own `options`, such as `search_path`."""
    application: str
    is_pooled: bool


def parsed(url: str) -> sa.URL:
    """The URL with its hosts where SQLAlchemy looks for them. Raises UnusableDatabase, which never shows the URL."""
    try:
        found = sa.make_url(_with_hosts_as_parameters(url))
    except (sa.exc.ArgumentError, ValueError):
        raise UnusableDatabase(_UNREADABLE) from None
    if found.drivername in ("postgres", "postgresql"):
        found = found.set(drivername="postgresql+psycopg")
    if found.drivername not in ("sqlite", "postgresql+psycopg"):
        raise UnusableDatabase(_UNREADABLE)
    return found


_UNREADABLE = (
    "DATABASE_URL cannot be used: write sqlite:///var/leadway-calls.db or postgresql://user:password@host/name"
)


def address_of(url: sa.URL) -> Address:
    """Raises UnusableDatabase for parameters that mean nothing to PostgreSQL."""
    query = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    pooler = query.pop(POOLER, "false").lower()
    if pooler not in ("true", "false"):
        raise UnusableDatabase("DATABASE_URL: pgbouncer is true or false")
    if unknown := sorted(query.keys() - KNOWN):
        hint = "; a schema is named by options=-csearch_path%3DNAME" if {"schema", "search_path"} & set(unknown) else ""
        raise UnusableDatabase(
            f"DATABASE_URL has parameters that PostgreSQL does not know ({', '.join(unknown)}): take them out{hint}"
        )
    options = _options(query.pop("options", ""))
    application = query.pop("application_name", "leadway-calls")
    if "," in query.get("host", ""):
        query.setdefault("target_session_attrs", "read-write")
    return Address(url.set(query=query), options, application, pooler == "true")


def libpq_words(url: sa.URL) -> dict[str, str]:
    """The same for libpq's own programs, and for psycopg without SQLAlchemy."""
    address = address_of(url)
    words = {"application_name": address.application} if "application_name" in url.query else {}
    if address.options:
        words["options"] = startup(address.options)
    if url.port is not None:
        words["port"] = str(url.port)
    named = {"host": url.host, "user": url.username, "password": url.password, "dbname": url.database}
    words |= {name: value for name, value in named.items() if value}
    return words | {name: str(value) for name, value in address.url.query.items()}


def startup(parameters: dict[str, str]) -> str:
    """As the start-up parameter `options`."""
    return " ".join(f"-c {name}={_SPECIAL.sub(_ESCAPED, value)}" for name, value in parameters.items())


def _options(text: str) -> dict[str, str]:
    options, at = {}, 0
    text = text.strip()
    while at < len(text):
        found = _OPTION.match(text, at)
        if found is None:
            raise UnusableDatabase("DATABASE_URL: options cannot be read; write them as -c name=value, URL-encoded")
        options[found["name"].replace("-", "_")] = re.sub(r"\\(.)", r"\1", found["value"])
        at = found.end()
    return options


def _with_hosts_as_parameters(url: str) -> str:
    """`//a:1,b:2/name` is libpq's spelling, which SQLAlchemy does not read."""
    found = _SEVERAL_HOSTS.fullmatch(url)
    if found is None or not url.startswith("postgres"):
        return url
    pairs = [
        host.rpartition(":") if re.search(r":\d*$", host) else (host, "", "") for host in found["hosts"].split(",")
    ]
    hosts, ports = ",".join(host.strip("[]") for host, _, _ in pairs), ",".join(port or "5432" for *_, port in pairs)
    joined = "&" if "?" in found["rest"] else "?"
    return f"{found['scheme']}{found['user'] or ''}{found['rest']}{joined}host={hosts}&port={ports}"
