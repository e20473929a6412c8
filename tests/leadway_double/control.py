"""The double's control over HTTP: `POST /_double/<method>` with the method's keywords as a JSON object."""

import dataclasses
import json
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import requests

from tests.leadway_double.nouns import PlacedCall
from tests.leadway_double.sender import Delivery
from tests.leadway_double.wire import Request, Response, compact

if TYPE_CHECKING:
    from tests.leadway_double.double import LeadwayDouble

PREFIX = "/_double/"
METHODS = frozenset(
    {
        "add_location",
        "add_token",
        "revoke_token",
        "restore_token",
        "rotate_token",
        "set_scopes",
        "remove_scope",
        "place_call",
        "place_calls",
        "change_call",
        "notify",
        "deliveries",
        "set_repeats",
        "set_webhook_url",
        "fault",
        "clear_faults",
        "faults",
        "release",
        "set_rate_limit",
        "set_clock",
        "set_envelope",
        "stats",
        "reset_stats",
        "under_way",
        "overview",
    }
)
TRUTHS = frozenset(
    {
        "notes",
        "tasks",
        "tag_writes",
        "enrolments",
        "calls",
        "appointments",
        "requests",
    }
)


class RemoteDouble:
    """The same methods, asked of a double that runs as a process of its own: `remote.do("place_call", late=5)`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def do(self, method: str, **keywords: Any) -> Any:
        """The method's result as JSON. Raises ValueError with the double's own words when it refuses."""
        response = self._session.post(f"{self.url}{PREFIX}{method}", json=keywords, timeout=60)
        if response.status_code != 200:
            raise ValueError(response.text)
        return response.json()

    def truth(self, noun: str, **keywords: Any) -> Any:
        return self.do(f"truth/{noun}", **keywords)


def answer(double: "LeadwayDouble", request: Request) -> Response:
    """200 with the result, 400 for keywords that do not fit, 404 for an unknown method. GET has them in the query."""
    name = request.path.removeprefix(PREFIX).strip("/")
    if name == "public_keys":
        return Response(200, double.public_keys_pem.encode(), content_type="application/x-pem-file")
    try:
        keywords = dict(request.query) if request.method == "GET" else json.loads(request.body or b"{}")
        if name.startswith("truth/") and name.removeprefix("truth/") in TRUTHS:
            result = getattr(double.truth, name.removeprefix("truth/"))(**keywords)
        elif (name or "overview") in METHODS:
            result = getattr(double, name or "overview")(**keywords)
        else:
            return Response(404, compact({"error": f"no {name}", "methods": sorted(METHODS), "truth": sorted(TRUTHS)}))
    except (TypeError, ValueError, KeyError) as mistake:
        return Response(400, compact({"error": f"{type(mistake).__name__}: {mistake}"}))
    return Response(200, compact(_plain(result)))


def _plain(value: Any) -> Any:
    if isinstance(value, PlacedCall):
        document = {
            field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.name != "versions"
        }
        return _plain(document | {"log": json.loads(value.versions[-1][1])})
    if isinstance(value, Delivery):
        names = ("delivery_id", "call_id", "dialect", "proof", "attempts", "status", "accepted")
        return {name: _plain(getattr(value, name)) for name in names}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value
