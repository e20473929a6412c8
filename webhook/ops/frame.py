"""What every page has in common: how often it renews itself, and the address under which it was opened."""

from urllib.parse import urlsplit

from flask import request

REFRESH_SECONDS = 2
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def address() -> str:
    """Scheme and host that the browser used, without a path; the scheme as a proxy in front of us says it."""
    forwarded = request.headers.get("X-Forwarded-Proto", "")
    scheme = forwarded if forwarded in ("http", "https") else request.scheme
    return f"{scheme}://{request.host}"


def loopback_host() -> str | None:
    """The host that the browser used, if that is the machine itself; an IPv6 address in brackets. Else None."""
    host = urlsplit(request.host_url).hostname or ""
    if host not in _LOOPBACK:
        return None
    return f"[{host}]" if ":" in host else host
