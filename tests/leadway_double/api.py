"""One request from arrival to answer: route, rate limit, door, fault, answer, request log."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from tests.leadway_double import access, routes
from tests.leadway_double.answers import Answer, Asked, error
from tests.leadway_double.faults import Fault, FaultBoard, What
from tests.leadway_double.limits import RateLimits
from tests.leadway_double.memory import Memory
from tests.leadway_double.nouns import SeenRequest, Token
from tests.leadway_double.oauth import PATH, Apps
from tests.leadway_double.wire import Line, Request, Response

NO_ROUTE = routes.Route("unknown", "", "", "", lambda _memory, asked: error(404, "Cannot GET"))
NO_ANSWER = 0


@dataclass(frozen=True)
class Api:
    memory: Memory
    limits: RateLimits
    faults: FaultBoard
    table: dict[tuple[str, int], list[routes.Route]]
    under_way: set[int] = field(default_factory=set)
    """Requests that have not come to their end: those held, hanging, or to be executed late are among them."""

    def exchange(self, request: Request, line: Line) -> bool:
        """Answers one request as the API would, or as the fault on the board says; False: hang up."""
        route, ids = routes.find(self.table, request.method, request.path) or (NO_ROUTE, {})
        with self.memory.lock:
            token = access.token_of(self.memory, request)
            location_id = token.location_id if token else ""
            today = self.memory.now_utc().date()
        verdict = self.limits.arrive(location_id, today=today)
        date = formatdate(self.memory.now(), usegmt=True)
        seen = self._note(route, request, ids, location_id)
        refused = self._refuse(route, request, token, ids) if verdict.admitted else error(429, "Too Many Requests")
        fault = None if refused else self.faults.take(route.kind, [*ids.values(), location_id])
        seen.fault = fault.what if fault else None
        conversation = Conversation(self, route, request, ids, seen, {**verdict.headers, "Date": date}, line)
        self.under_way.add(id(seen))
        try:
            return conversation.say(refused) if refused else conversation.play(fault)
        except OSError:
            seen.status = NO_ANSWER
            return False
        finally:
            self.under_way.discard(id(seen))

    def renew_token(self, request: Request, line: Line, apps: Apps) -> bool:
        """POST /oauth/token: no bearer token, no rate limit. Faults of the kind `token` strike it like any other."""
        route = routes.Route(
            "token", "POST", PATH[1:], "", lambda _memory, _asked: apps.answer(request.body, request.headers)
        )
        form = Request(request.method, request.path, request.query, request.headers, b"")
        seen = self._note(route, request, {}, "")
        fault = self.faults.take(route.kind, [])
        seen.fault = fault.what if fault else None
        try:
            return Conversation(self, route, form, {}, seen, {}, line).play(fault)
        except OSError:
            seen.status = NO_ANSWER
            return False

    def _refuse(
        self, route: routes.Route, request: Request, token: Token | None, ids: Mapping[str, str]
    ) -> Answer | None:
        with self.memory.lock:
            if route is NO_ROUTE:
                return error(404, f"Cannot {request.method} {request.path}")
            refused = access.refusal(self.memory, request, token, scope=route.scope)
            if refused is None and token is not None:
                return access.wrong_location(self.memory, token, query=request.query, ids=ids)
            return refused

    def _note(self, route: routes.Route, request: Request, ids: Mapping[str, str], location_id: str) -> SeenRequest:
        seen = SeenRequest(
            at=self.memory.now(),
            kind=route.kind,
            method=request.method,
            template=route.template or request.path,
            location_id=location_id,
            subject=next(iter(ids.values()), ""),
        )
        self.memory.requests.append(seen)
        return seen


@dataclass(frozen=True, slots=True)
class Conversation:
    """What may still happen between a request that passed the door and the end of its answer."""

    api: Api
    route: routes.Route
    request: Request
    ids: Mapping[str, str]
    seen: SeenRequest
    headers: Mapping[str, str]
    line: Line

    def say(self, answer: Answer, *, extra: Mapping[str, str] | None = None) -> bool:
        return self._send(answer.response({**self.headers, **(extra or {})}))

    def play(self, fault: Fault | None) -> bool:
        """Carries the request out, or not, as the fault says; whether the connection goes on."""
        match fault.what if fault else None:
            case What.STATUS:
                return self._refuse(fault)
            case What.REDIRECT:
                to = {"Location": (fault and fault.to) or "/elsewhere"}
                return self.say(error((fault and fault.status) or 302, "Found"), extra=to)
            case What.RESET:
                self.line.reset()
                return False
            case What.HANG:
                self.line.wait_until_client_leaves()
                return False
            case What.DO_LATE:
                if self.line.wait_until_client_leaves() and not self.line.stopping.wait(_seconds(fault)):
                    self._do(fault)
                return False
            case What.HOLD:
                if not self._hold(fault):
                    return False
            case What.DELAY:
                if self.line.stopping.wait(_seconds(fault)):
                    return False
        return self._answer_badly(fault, self._do(fault))

    def _answer_badly(self, fault: Fault | None, answer: Answer) -> bool:
        """The request has been carried out; what the client learns of it."""
        response = answer.response(self.headers)
        match fault.what if fault else None:
            case What.DO_THEN_STATUS:
                return self._refuse(fault)
            case What.DO_THEN_RESET:
                self.line.reset()
                return False
            case What.DO_THEN_HANG:
                self.line.wait_until_client_leaves()
                return False
            case What.DO_THEN_HOLD:
                if not self._hold(fault):
                    return False
            case What.TRUNCATED:
                self.line.send_half(response)
                return False
            case What.BROKEN_JSON:
                return self._send(Response(response.status, response.body[: len(response.body) // 2], self.headers))
            case What.DRIP:
                self.seen.status = response.status
                self.line.drip(response, _seconds(fault))
                return True
        return self._send(response)

    def _hold(self, fault: Fault | None) -> bool:
        assert fault is not None
        port = self.line.connection.getpeername()[1]
        return self.api.faults.wait_for_release(fault, client_port=port, stopping=self.line.stopping)

    def _send(self, response: Response) -> bool:
        """The status is noted first: who has read the answer finds it in the request log."""
        self.seen.status = response.status
        self.line.send(response)
        return True

    def _refuse(self, fault: Fault | None) -> bool:
        assert fault is not None
        status = fault.status or 500
        answer = error(status, PLAIN_WORDS.get(status, "Internal server error"))
        if fault.body is not None:
            answer = Answer(status, fault.body.encode() if isinstance(fault.body, str) else fault.body)
        extra = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
        return self.say(answer, extra=extra)

    def _do(self, fault: Fault | None) -> Answer:
        body: Any = None
        if self.request.body:
            try:
                body = json.loads(self.request.body)
            except ValueError:
                return error(400, "Bad Request")
        asked = Asked(self.seen.location_id, self.ids, self.request.query, body, fault)
        with self.api.memory.lock:
            return self.route.answer(self.api.memory, asked)


PLAIN_WORDS = {
    400: "Bad Request",
    401: "Invalid token: access token is invalid",
    403: "The token does not have access to this location",
    404: "Not found",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    502: "Bad gateway",
    503: "Service Unavailable",
}


def _seconds(fault: Fault | None) -> float:
    return fault.seconds if fault else 0.0
