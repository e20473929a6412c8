"""POST /oauth/token: renews access tokens of an app, form-encoded, with a refresh token that each use replaces."""

import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.leadway_double.answers import Answer, error
from tests.leadway_double.memory import Memory
from tests.leadway_double.nouns import ALL_SCOPES, Token

PATH = "/oauth/token"
REPEAT_SECONDS = 30.0
"""So long a refresh token that was just used brings the same answer once more."""


@dataclass
class App:
    """A Marketplace app as one location installed it. `refreshes`: how many new tokens it was given."""

    location_id: str
    client_id: str
    client_secret: str
    refresh_token: str
    life_seconds: float
    removed: bool = False
    refreshes: int = 0
    access_token: str = ""
    used: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)


class Apps:
    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._lock = threading.Lock()
        self._apps: dict[str, App] = {}

    def install(self, app: App) -> None:
        self._apps[app.client_id] = app

    def of(self, client_id: str) -> App:
        return self._apps[client_id]

    def answer(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """200 with both tokens; 422 for a missing name or another content type; 401 for the app; 400 for the grant."""
        if not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return error(422, ["client_id must be a string"])
        form = dict(parse_qsl(body.decode("latin-1")))
        missing = [name for name in ("client_id", "client_secret", "grant_type", "refresh_token") if name not in form]
        if missing:
            return error(422, [f"{name} must be a string" for name in missing])
        with self._lock:
            app = self._apps.get(form["client_id"])
            if app is None or app.client_secret != form["client_secret"]:
                return error(401, "Invalid client: client is invalid")
            if form["grant_type"] != "refresh_token" or app.removed:
                return error(400, "Invalid grant: refresh token is invalid")
            now = self._memory.now()
            at, again = app.used.get(form["refresh_token"], (0.0, None))
            if again is not None and now - at <= REPEAT_SECONDS:
                return Answer(200, again)
            if form["refresh_token"] != app.refresh_token:
                return error(400, "Invalid grant: refresh token is invalid")
            return Answer(200, self._renew(app, form["refresh_token"], now))

    def _renew(self, app: App, used: str, now: float) -> dict[str, Any]:
        app.refreshes += 1
        app.access_token, app.refresh_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        self._memory.tokens[app.access_token] = Token(
            app.access_token, app.location_id, ALL_SCOPES, expires_at=now + app.life_seconds
        )
        document = {
            "access_token": app.access_token,
            "token_type": "Bearer",
            "expires_in": int(app.life_seconds),
            "refresh_token": app.refresh_token,
            "scope": " ".join(sorted(ALL_SCOPES)),
            "userType": "Location",
            "locationId": app.location_id,
        }
        app.used[used] = (now, document)
        return document
