"""The double announces calls as the vendor does: every dialect, every proof, repeated until somebody says 2xx."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.leadway_double.double import LeadwayDouble

ROOT = Path(__file__).parents[2]


class Inbox(ThreadingHTTPServer):
    """Keeps what arrives; answers the statuses it was given, then 202."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        super().__init__(("127.0.0.1", 0), _Keep)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/webhooks/leadway"


class _Keep(BaseHTTPRequestHandler):
    server: Inbox

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(self.server.statuses.pop(0) if self.server.statuses else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def double(inbox: Inbox) -> Iterator[LeadwayDouble]:
    with LeadwayDouble(webhook_url=inbox.url) as running:
        yield running


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("flat", ("id",)),
        ("flat_untyped", ("id",)),
        ("data", ("data", "id")),
        ("workflow", ("customData", "callId")),
        ("thin", ("callId",)),
        ("call_completed", ("callId",)),
    ],
)
def test_each_dialect_carries_the_call_id_in_its_own_place(
    double: LeadwayDouble, inbox: Inbox, dialect: str, path: tuple[str, ...]
) -> None:
    call = double.place_call(contact=True, actions=["SMS"])
    assert double.notify(call, dialect=dialect).accepted
    found: Any = json.loads(inbox.got[0][2])
    for name in path:
        found = found[name]
    assert found == call.call_id


def test_flat_events_name_actions_by_underscore_id_and_are_compact(double: LeadwayDouble, inbox: Inbox) -> None:
    double.notify(double.place_call(contact=True, actions=["SMS"], language="es"))
    body = inbox.got[0][2]
    event = json.loads(body)
    assert event["type"] == "VoiceAiCallEnd"
    assert "_id" in event["executedCallActions"][0]
    assert "actionId" not in event["executedCallActions"][0]
    assert body == json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def test_an_unresolved_body_holds_the_merge_tag_and_the_contact(double: LeadwayDouble, inbox: Inbox) -> None:
    call = double.place_call(contact=True)
    double.notify(call, dialect="unresolved")
    body = json.loads(inbox.got[0][2])
    assert body["customData"]["callId"].startswith("{{")
    assert body["contact_id"] == call.contact_id


def test_signatures_verify_with_the_public_keys_given_away(double: LeadwayDouble, inbox: Inbox) -> None:
    call = double.place_call()
    double.notify(call, proof="ed25519")
    double.notify(call, proof="rsa")
    modern, legacy = [
        pem + "-----END PUBLIC KEY-----\n" for pem in double.public_keys_pem.split("-----END PUBLIC KEY-----\n")[:2]
    ]
    ed25519 = serialization.load_pem_public_key(modern.encode())
    rsa = serialization.load_pem_public_key(legacy.encode())
    assert isinstance(ed25519, Ed25519PublicKey)
    assert isinstance(rsa, RSAPublicKey)
    (_, first, signed), (_, second, also_signed) = inbox.got
    ed25519.verify(base64.b64decode(first["x-ghl-signature"]), signed)
    signature = base64.b64decode(second["x-wh-signature"])
    assert len(signature) == 512
    rsa.verify(signature, also_signed, padding.PKCS1v15(), hashes.SHA256())


def test_intake_secrets_travel_in_the_header_or_the_path(double: LeadwayDouble, inbox: Inbox) -> None:
    call = double.place_call()
    double.notify(call, dialect="thin")
    double.notify(call, dialect="thin", proof="secret_path")
    (_, headers, _), (path, _, _) = inbox.got
    assert headers["x-intake-secret"] == double.intake_secret
    assert path == f"/webhooks/leadway/{double.intake_secret}"


def test_a_failed_delivery_is_repeated_with_the_same_bytes_until_2xx(double: LeadwayDouble, inbox: Inbox) -> None:
    double.set_repeats([0.01, 0.01, 0.01])
    inbox.statuses = [500, 401]
    delivery = double.notify(double.place_call())
    assert [attempt.status for attempt in delivery.attempts] == [500, 401, 202]
    assert len({body for _, _, body in inbox.got}) == 1
    assert double.resend(delivery).accepted
    assert len({body for _, _, body in inbox.got}) == 1


def test_the_older_rule_repeats_429_only(double: LeadwayDouble, inbox: Inbox) -> None:
    double.set_repeats([0.01, 0.01], only_429=True)
    inbox.statuses = [429, 500]
    delivery = double.notify(double.place_call())
    assert [attempt.status for attempt in delivery.attempts] == [429, 500]


def test_nobody_listening_is_retried_too_and_then_given_up(double: LeadwayDouble) -> None:
    double.set_repeats([0.01, 0.01])
    delivery = double.notify(double.place_call(), url="http://127.0.0.1:9/nobody")
    assert [attempt.status for attempt in delivery.attempts] == [None, None, None]
    assert not delivery.accepted


def test_the_double_runs_alone_and_ends_cleanly_on_sigterm(inbox: Inbox, tmp_path: Path) -> None:
    keys = tmp_path / "keys.pem"
    options = ["--webhook-url", inbox.url, "--calls-every", "0.05", "--signing-key-out", str(keys), "--calls", "3"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.leadway_double", *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        overview = requests.get(f"{found.group()}/_double/", timeout=5).json()
        assert overview["calls"] >= 3
        assert requests.get(f"{found.group()}/_double/public_keys", timeout=5).text == keys.read_text()
        for _ in range(200):
            if len(inbox.got) >= 3:
                break
            threading.Event().wait(0.05)
        assert len(inbox.got) >= 3
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
