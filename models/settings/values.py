"""What a setting's text may be, and the value that it means. Each reader raises ValueError, which says what to write.

No reader quotes the text: it may be a secret. Commands check by the same readers what a person enters.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import sqlalchemy as sa

LEADWAY_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""What may be an id of Leadway's, of whatever thing: ids are opaque, but these characters are safe in a URL's path."""
LONGEST_SECRET = 256
"""Characters: the web process reads no more of an intake secret."""
SHORTEST_SECRET = 16
"""Characters of a secret or password of our own, unless LEADWAY_API_URL is a loopback address."""
TOO_SHORT = f"is shorter than {SHORTEST_SECRET} characters, so it could be guessed"

_PEM_BLOCK = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)
_IN_A_HEADER = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9._:%-]+")
_OTHER_HOSTS = re.compile(r"^([\w+]+://(?:[^/?]*@)?[^/?@,]*),[^/?@]*", re.DOTALL)
"""What follows the first of several hosts of a PostgreSQL, as libpq writes them."""
_YES_OR_NO = {"true": "on", "1": "on", "yes": "on", "false": "off", "0": "off", "no": "off"}
_LEVELS = {"WARN": "WARNING", "FATAL": "CRITICAL"}


class SettingsError(Exception):
    """The environment does not describe a system that can start; the text says which setting and what to do."""


@dataclass(frozen=True, repr=False)
class Secret:
    """A text that does not show where it is printed."""

    _text: str

    def get_secret_value(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret('**********')"


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\+?[0-9]{1,18}", text) or not lowest <= int(text) <= highest:
            raise ValueError(f"write a whole number from {lowest} to {highest}")
        return int(text)

    return read


def seconds(highest: float, *, or_none: bool = False) -> Callable[[str], float]:
    """More than 0, or with `or_none` 0 too."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (0 if or_none else math.nextafter(0, 1)) <= value <= highest:  # NaN is between no two numbers
            raise ValueError(f"write a number of seconds{'' if or_none else ' above 0'}, at most {highest:g}")
        return value

    return read


def on_or_off(text: str) -> str:
    return _one_of({"on": "on", "off": "off", **_YES_OR_NO}, text.lower(), told="write on or off")


def language(text: str) -> str:
    """`ES`, `es-MX` and `es_MX.UTF-8` are `es`."""
    return _one_of({"en": "en", "es": "es"}, re.split(r"[-_.]", text.lower())[0], told="write en or es")


def log_level(text: str) -> str:
    known = {name: name for name in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")}
    return _one_of(known | _LEVELS, text.upper(), told="write DEBUG, INFO, WARNING, ERROR or CRITICAL")


def log_format(text: str) -> str:
    return _one_of({"json": "json", "console": "console"}, text.lower(), told="write json or console")


def path(text: str) -> Path:
    return Path(text)


def path_or_off(text: str) -> Path | str:
    return "off" if text.lower() == "off" else Path(text)


def host(text: str) -> str:
    text = text.removeprefix("[").removesuffix("]")
    if not _HOST.fullmatch(text):
        raise ValueError("write an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them")
    return text


def location_id(text: str) -> str:
    if not LEADWAY_ID.fullmatch(text):
        raise ValueError(
            "write the id of a Leadway location, from Settings > Business Profile: letters and digits, like"
            " ve9EPM428h8vShlRW1KT"
        )
    return text


def time_zone(text: str) -> str:
    """In IANA's own spelling. What else lies in a folder of time zones (copies with leap seconds) is none."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # here: few need it at their start

    try:
        if not re.match(r"posix|right/|localtime$", text):
            return ZoneInfo(text).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    raise ValueError("this is no IANA time zone; write one like Europe/Madrid")


def in_a_header(text: str) -> str:
    if not _IN_A_HEADER.fullmatch(text):
        raise ValueError("only ASCII letters, digits and signs, no spaces")
    return text


def intake_secret(text: str) -> str:
    if len(in_a_header(text)) > LONGEST_SECRET:
        raise ValueError(f"at most {LONGEST_SECRET} characters")
    return text


def secret(read: Callable[[str], str] = str) -> Callable[[str], Secret]:
    return lambda text: Secret(read(text))


def encryption_keys(text: str) -> tuple[Secret, ...]:
    """Separated by commas. Whether they are Fernet keys is seen where they are used."""
    return tuple(Secret(part.strip()) for part in text.split(",") if part.strip())


def public_keys(text: str) -> tuple[str, ...]:
    """PEM blocks may stand one after another (line ends also as `\\n`); what is left are file paths."""
    text = text.replace("\\n", "\n")
    paths = re.split(r"[,;\n]", _PEM_BLOCK.sub("\n", text))
    return (*_PEM_BLOCK.findall(text), *(path.strip() for path in paths if path.strip()))


def database_url(text: str) -> str:
    """Hosts hand out `postgres://…`; SQLAlchemy wants the driver's name in it."""
    url = re.sub(r"^(postgres|postgresql)(\+psycopg2?)?://", "postgresql+psycopg://", text)
    try:
        parsed = sa.make_url(_OTHER_HOSTS.sub(r"\1", url))  # models.database reads them all
    except (sa.exc.ArgumentError, ValueError):  # ValueError: of a port that is no number
        parsed = None
    if parsed is None or parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise ValueError("write sqlite:///var/leadway-calls.db or postgresql://user:password@host/name")
    if parsed.get_backend_name() == "sqlite" and (parsed.host or parsed.database in (None, "", ":memory:")):
        raise ValueError("write the file that all processes share, as in sqlite:///var/leadway-calls.db")
    return url


def pooler(text: str) -> str:
    return _one_of({"detect": "detect", "transaction": "transaction"}, text.lower(), told="write detect or transaction")


def with_pooler(url: str) -> str:
    """Of a pooler the URL tells everybody who connects."""
    if not url.startswith("postgresql") or "pgbouncer=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}pgbouncer=true"


def redis_url(text: str) -> str:
    """The spelling of the rest is read where clients are made (workers/process/redis_address.py)."""
    if not re.match(r"(redis|rediss|valkey|valkeys|sentinel|unix|redis\+socket)://", text):
        raise ValueError("write redis://host:6379/0, rediss://… for TLS, or unix:///path/of/the/socket")
    return text


def api_url(text: str) -> str:
    """Without a slash at its end. Tokens travel over plain HTTP on this machine only."""
    parts = _parts(text)
    if parts is None or parts[0] not in ("http", "https") or not parts[1] or set(text) & set("?#@\\ "):
        raise ValueError("write https:// and a host, as in https://services.leadconnectorhq.com")
    if parts[0] == "http" and not is_loopback(text):
        raise ValueError("write https://, or tokens would travel in the clear; http:// is for a loopback address")
    return text.rstrip("/")


def is_loopback(url: str) -> bool:
    name = urlsplit(url).hostname or ""
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _parts(url: str) -> tuple[str, str] | None:
    """Scheme and host; None for what is no URL."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for one that is no number, or too great
        return parts.scheme, parts.hostname or ""
    except ValueError:
        return None


def _one_of(known: Mapping[str, str], text: str, *, told: str) -> str:
    if text not in known:
        raise ValueError(told)
    return known[text]
