"""What a route is asked and what it answers, and the error bodies as the vendor words them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.leadway_double.faults import Fault
from tests.leadway_double.wire import Response, compact


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that passed the door: `ids` are those in the path, `fault` one that the route itself plays."""

    location_id: str
    ids: Mapping[str, str]
    query: Mapping[str, str]
    body: Any
    fault: Fault | None


@dataclass(frozen=True, slots=True)
class Answer:
    """`document` is JSON to be written, or bytes already written."""

    status: int
    document: Any

    def response(self, headers: Mapping[str, str]) -> Response:
        body = self.document if isinstance(self.document, bytes) else compact(self.document)
        return Response(self.status, body, headers)


ERRORS = {401: "Unauthorized", 403: "Forbidden", 422: "Unprocessable Entity"}


def error(status: int, message: str | list[str]) -> Answer:
    """The error body of the vendor: 422 carries a list of messages, 401, 403 and 422 an `error` word."""
    if status == 422 and isinstance(message, str):
        message = [message]
    document: dict[str, Any] = {"statusCode": status, "message": message}
    if status in ERRORS:
        document["error"] = ERRORS[status]
    return Answer(status, document | {"traceId": str(uuid.uuid4())})


NOT_THIS_LOCATION = "The token does not have access to this location"
