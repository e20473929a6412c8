"""The Leadway double as an object: start it, place calls, break things, read the truth."""

import dataclasses
import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from tests.leadway_double import control, notifications, placing, routes
from tests.leadway_double.api import Api
from tests.leadway_double.faults import Fault, FaultBoard, What
from tests.leadway_double.limits import Limit, RateLimits
from tests.leadway_double.memory import Memory
from tests.leadway_double.notifications import Dialect, Proof
from tests.leadway_double.nouns import ALL_SCOPES, Location, PlacedCall, Token, iso_milliseconds
from tests.leadway_double.oauth import PATH, App, Apps
from tests.leadway_double.placing import CallPlacer, Wish
from tests.leadway_double.sender import Delivery, Repeats, Sender
from tests.leadway_double.server import Listener
from tests.leadway_double.signing import Signer
from tests.leadway_double.truth import Truth
from tests.leadway_double.wire import Line, Request

KINDS = frozenset(route.kind for group in routes.table(lambda *_: None).values() for route in group) | {"token"}


class LeadwayDouble:
    """A Leadway with memory on a real port. One location, `loc_demo`, with one token and one secret is there at once;
    `location_id`, `token` and `intake_secret` name them. Use as a context manager, or `start` and `stop`."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        location_id: str = "loc_demo",
        token: str = "pit-double-0001",
        intake_secret: str = "intake-secret-of-the-double",
        time_zone: str = "America/New_York",
        seed: int = 1,
        webhook_url: str | None = None,
    ) -> None:
        self.location_id, self.token, self.intake_secret = location_id, token, intake_secret
        self.webhook_url = webhook_url
        self.memory = Memory(seed=seed)
        self.truth = Truth(self.memory)
        self._chance = random.Random(f"notifications {seed}")
        self._limits = RateLimits()
        self._board = FaultBoard(seed)
        self._signer = Signer()
        self._sender = Sender()
        self._apps = Apps(self.memory)
        self._placer = CallPlacer(self.memory, seed=seed)
        table = routes.table(lambda of, at: self.place_call(of, started_at=at))
        self._api = Api(self.memory, self._limits, self._board, table)
        self._listener = Listener(host, port, exchange=self._exchange)
        self.add_location(location_id, token=token, intake_secret=intake_secret, time_zone=time_zone)

    @property
    def url(self) -> str:
        return f"http://{self._listener.host}:{self._listener.port}"

    def start(self) -> Self:
        self._listener.start()
        return self

    def stop(self) -> None:
        """Ends every connection and every repeat; what it remembers can still be read."""
        self._listener.stop()
        self._sender.stop()

    def go_away(self) -> None:
        """Nobody listens any more: connections are refused, memory stays."""
        self._listener.stop()

    def come_back(self) -> None:
        """Listens again on the same port."""
        self._listener = Listener(self._listener.host, self._listener.port, exchange=self._exchange)
        self._listener.start()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # Locations and tokens

    def add_location(
        self,
        location_id: str,
        *,
        token: str | None = None,
        intake_secret: str | None = None,
        time_zone: str = "America/New_York",
        scopes: Iterable[str] = ALL_SCOPES,
    ) -> str:
        """Adds a location with two workflows; returns its token."""
        with self.memory.lock:
            workflows = {self.memory.new_id(): name for name in ("New lead", "Missed call")}
            self.memory.locations[location_id] = Location(location_id, time_zone, intake_secret, workflows)
            return self.add_token(location_id, token or f"pit-{location_id}-{len(self.memory.tokens)}", scopes=scopes)

    def add_token(self, location_id: str, token: str, *, scopes: Iterable[str] = ALL_SCOPES) -> str:
        self.memory.tokens[token] = Token(token, location_id, frozenset(scopes))
        return token

    def install_app(
        self,
        location_id: str,
        *,
        client_id: str = "app-of-the-double",
        client_secret: str = "secret-of-the-app",
        refresh_token: str = "first-refresh-token",
        life_seconds: float = 86_399,
    ) -> App:
        """A Marketplace app that the location installed: `/oauth/token` renews its tokens from now on."""
        app = App(location_id, client_id, client_secret, refresh_token, life_seconds)
        self._apps.install(app)
        return app

    def revoke_token(self, token: str | None = None) -> None:
        self.memory.tokens[token or self.token].revoked = True

    def restore_token(self, token: str | None = None) -> None:
        self.memory.tokens[token or self.token].revoked = False

    def rotate_token(self, token: str | None = None, *, new: str, keep_old: bool = False) -> str:
        """A new token with the old one's location and scopes; the old one stops unless kept."""
        old = self.memory.tokens[token or self.token]
        old.revoked = not keep_old
        return self.add_token(old.location_id, new, scopes=old.scopes)

    def set_scopes(self, scopes: Iterable[str], *, token: str | None = None) -> None:
        self.memory.tokens[token or self.token].scopes = frozenset(scopes)

    def remove_scope(self, scope: str, *, token: str | None = None) -> None:
        held = self.memory.tokens[token or self.token]
        held.scopes -= {scope}

    # Calls

    def place_call(self, location_id: str | None = None, **wish: Any) -> PlacedCall:
        """Places one call; the keywords are the fields of `placing.Wish`. Nothing is announced."""
        return self._placer.place(self.memory.locations[location_id or self.location_id], Wish(**wish))

    def place_calls(
        self, count: int, location_id: str | None = None, *, over: float = 0.0, **wish: Any
    ) -> list[PlacedCall]:
        """Places `count` calls, spread evenly over the last `over` seconds (before `ago`), oldest first."""
        ago = float(wish.pop("ago", 0.0))
        steps = [over * (count - 1 - position) / max(1, count - 1) for position in range(count)]
        return [self.place_call(location_id, ago=ago + step, **wish) for step in steps]

    def change_call(self, call_id: str, *, after: float = 0.0, **fields: Any) -> None:
        """The log differs from `after` seconds on, e.g. `summary="…"` or `executedCallActions=[…]`."""
        placing.change(self.memory, call_id, fields=fields, after=after)

    # Notifications

    def notify(
        self,
        call: PlacedCall | str,
        *,
        dialect: str = Dialect.FLAT,
        proof: str | None = None,
        url: str | None = None,
        fields: Mapping[str, Any] | None = None,
        wait: bool = True,
        timeout: float = 30.0,
    ) -> Delivery:
        """Announces a call; with `wait` returns when it was accepted or given up. `proof` None: the dialect's usual.

        `fields` replace or add top-level names of the body. Raises ValueError without an address to send to.
        """
        message, proof = self.message(call, dialect=dialect, proof=proof, url=url, fields=fields)
        call_id = call if isinstance(call, str) else call.call_id
        delivery = self._sender.send(message, call_id=call_id, dialect=str(dialect), proof=proof)
        if wait:
            delivery.wait(timeout)
        return delivery

    def message(
        self,
        call: PlacedCall | str,
        *,
        dialect: str = Dialect.FLAT,
        proof: str | None = None,
        url: str | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> tuple[notifications.Message, str]:
        """The notification's url, headers and bytes, unsent, and the proof that was chosen."""
        if not (target := url or self.webhook_url):
            raise ValueError("no webhook_url: nobody to notify")
        placed = self.memory.calls[call] if isinstance(call, str) else call
        location = self.memory.locations[placed.location_id]
        body = notifications.document(
            Dialect(dialect),
            placed,
            location=location,
            contact=self.memory.contacts.get(placed.contact_id or ""),
            now=self.memory.now(),
            timestamp=iso_milliseconds(self.memory.now_utc()),
            random_id=uuid.UUID(int=self._chance.getrandbits(128), version=4),
        ) | dict(fields or {})
        chosen = Proof(proof or notifications.usual_proof(Dialect(dialect)))
        secret = location.intake_secret
        return notifications.message(body, url=target, proof=chosen, secret=secret, signer=self._signer), chosen

    def sign(self, body: bytes) -> str:
        """The `X-GHL-Signature` of any bytes."""
        return self._signer.ed25519(body)

    def resend(self, delivery: Delivery, *, wait: bool = True, timeout: float = 30.0) -> Delivery:
        """The original bytes once more: a duplicate, or the vendor's manual Resend."""
        again = self._sender.resend(delivery)
        if wait:
            again.wait(timeout)
        return again

    def deliveries(self) -> list[Delivery]:
        return list(self._sender.deliveries)

    def set_repeats(self, delays: Sequence[float], *, only_429: bool = False, timeout: float = 5.0) -> None:
        """How failed deliveries are repeated from now on; `[]`: never."""
        self._sender.repeats = Repeats(tuple(delays), only_429, timeout)

    def set_webhook_url(self, url: str | None) -> None:
        self.webhook_url = url

    @property
    def public_keys_pem(self) -> str:
        """Both public keys, for `LEADWAY_WEBHOOK_PUBLIC_KEYS`."""
        return self._signer.ed25519_public_pem + self._signer.rsa_public_pem

    @property
    def ed25519_public_pem(self) -> str:
        return self._signer.ed25519_public_pem

    # What goes wrong, and how fast

    def fault(self, kind: str, what: str, **how: Any) -> int:
        """Pins a fault (`faults.What`, `faults.Fault`) on an endpoint kind or `*`; returns its number."""
        if kind != "*" and kind not in KINDS:
            raise ValueError(f"no endpoint kind {kind!r}; there are {', '.join(sorted(KINDS))}")
        return self._board.pin(Fault(What(what), kind, **how))

    def clear_faults(self, fault_id: int | None = None) -> None:
        self._board.clear(fault_id)

    def faults(self) -> list[Fault]:
        """Those pinned, with their `hits` so far."""
        return self._board.pinned()

    def release(self, fault_id: int, *, executed: bool = True) -> None:
        """Requests that this fault (`hold`, `do_then_hold`) holds go on, and it holds no more. Not `executed`: those
        that `hold` holds are dropped, as if they had never come."""
        self._board.release(fault_id, executed=executed)

    def set_rate_limit(self, location_id: str | None = None, **limit: Any) -> None:
        """Keywords as `limits.Limit`; `per_window=None` switches refusals off. Without location: for all."""
        self._limits.set(Limit(**limit), location_id=location_id)

    def set_clock(self, offset_seconds: float) -> None:
        """The double's clock = the machine's + this. Rate windows and fault delays stay on the machine's."""
        self.memory.clock_offset = offset_seconds

    def set_envelope(self, shape: str) -> None:
        """`total` (with page and pageSize) or `totalRecords` alone."""
        if shape not in ("total", "totalRecords"):
            raise ValueError("total or totalRecords")
        self.memory.envelope = shape

    # What was seen

    def stats(self, location_id: str | None = None) -> dict[str, int]:
        """`{requests, refused, peak, today}` of a location: `refused` are the 429s by the limit, `peak` the most
        requests in any 10 s."""
        return self._limits.seen(location_id or self.location_id)

    def reset_stats(self) -> None:
        """Forgets the counts, the limit's windows and the request log; the written things stay."""
        self._limits.reset()
        self.memory.requests.clear()

    def under_way(self) -> int:
        """How many requests have not come to their end: also one whose client has left and that is executed late."""
        return len(self._api.under_way)

    def overview(self) -> dict[str, Any]:
        """What is there, in numbers."""
        memory = self.memory
        return {
            "url": self.url,
            "webhook_url": self.webhook_url,
            "locations": {name: self.stats(name) for name in memory.locations},
            "calls": len(memory.calls),
            "contacts": len(memory.contacts),
            "notes": len(memory.notes),
            "tasks": len(memory.tasks),
            "tag_writes": len(memory.tag_writes),
            "enrolments": len(memory.enrolments),
            "deliveries": len(self._sender.deliveries),
            "faults": [dataclasses.asdict(fault) for fault in self.faults()],
        }

    def _exchange(self, request: Request, line: Line) -> bool:
        if request.path.startswith(control.PREFIX):
            line.send(control.answer(self, request))
            return True
        if request.path == PATH and request.method == "POST":
            return self._api.renew_token(request, line, self._apps)
        return self._api.exchange(request, line)
