"""Benchmark `receipt_peers`: a durable receipt beside a no-op on the same server, and beside other ways to build one.

Each server is one process on the first core; load, Redis and PostgreSQL have the second one. Bodies are unique, of 600
bytes, validly signed. The rounds of all servers take turns; ratios are of the same round, and their median counts. The
run is void when the no-op's rounds differ by more than half.
"""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from uuid import uuid4

import psutil
import requests as http

from tests.benchmarks.load import Answers, send
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World
from workers.local.embedded_redis import free_port

CONNECTIONS = 32
BODY_BYTES = 600
SPREAD_ALLOWED = 1.5
MUST = {
    "postgresql / noop": 0.35, "sqlite / noop": 0.35, "postgresql / naive": 3.5, "sqlite / naive": 3.5,
    "postgresql / fastapi": 0.9, "sqlite / fastapi": 0.9,
}  # fmt: skip


def run(*, rounds: int = 5, number: int = 2000) -> dict[str, Any]:
    with _servers() as servers:
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in servers.ports}
        for name in servers.ports:  # connections, caches, compiled statements
            send(servers.ports[name], servers.messages(name, 500), connections=CONNECTIONS)
        for _ in range(rounds):
            for name in servers.ports:
                measured[name].append(servers.measure(name, number))
        half = {name: 0.5 * median(one["per_second"] for one in measured[name]) for name in ("postgresql", "sqlite")}
        tails: dict[str, list[float]] = {name: [] for name in half}
        for _ in range(rounds):
            for name, rate in half.items():
                of_noop = servers.send("noop", number, per_second=rate).percentile(0.99)
                tails[name].append(servers.send(name, number, per_second=rate).percentile(0.99) / of_noop)
    rates = {name: [one["per_second"] for one in each] for name, each in measured.items()}
    spread = max(rates["noop"]) / min(rates["noop"])
    ratios = {
        f"{ours} / {peer}": round(median(a / b for a, b in zip(rates[ours], rates[peer], strict=True)), 2)
        for ours in half
        for peer in rates
        if peer not in half
    }
    return {
        "per_second": {name: round(median(each)) for name, each in rates.items()},
        "cpu_ms": {name: round(median(one["cpu_ms"] for one in each), 2) for name, each in measured.items()},
        "ratios": ratios,
        "p99 / noop's at half of its own capacity": {name: round(median(each), 1) for name, each in tails.items()},
        "half_capacity": {name: round(each) for name, each in half.items()},
        "spread_of_noop": round(spread, 2),
        "void": spread > SPREAD_ALLOWED,
        "load": os.getloadavg(),
        "good": all(ratios[name] >= wanted for name, wanted in MUST.items()),
    }


class Servers:
    def __init__(self, worlds: Mapping[str, World]) -> None:
        self.worlds = worlds
        """Whose signatures a server knows: the peers those of the first one."""
        self.ports: dict[str, int] = {}
        self.pids: dict[str, int] = {}

    def messages(self, name: str, number: int) -> list[bytes]:
        world = self.worlds.get(name) or self.worlds["postgresql"]
        return [notification(world) for _ in range(number)]

    def send(self, name: str, number: int, *, per_second: float | None = None) -> Answers:
        answers = send(self.ports[name], self.messages(name, number), connections=CONNECTIONS, per_second=per_second)
        assert set(answers.statuses) == {202}, f"{name}: {answers.statuses}"
        return answers

    def measure(self, name: str, number: int) -> dict[str, float]:
        before = _cpu_seconds(self.pids[name])
        answers = self.send(name, number)
        cpu_ms = 1000 * (_cpu_seconds(self.pids[name]) - before) / number
        return {"per_second": answers.per_second, "cpu_ms": cpu_ms}


def notification(world: World) -> bytes:
    body = json.dumps(
        {"type": "VoiceAiCallEnd", "id": uuid4().hex, "locationId": world.double.location_id, "pad": ""},
        separators=(",", ":"),
    )
    body = body.replace('"pad":""', f'"pad":"{"x" * (BODY_BYTES - len(body))}"')
    signature = world.double.sign(body.encode())
    return (
        "POST /webhooks/leadway HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"X-GHL-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@contextmanager
def _servers() -> Iterator[Servers]:
    others = {1} if (os.cpu_count() or 1) > 1 else {0}
    os.sched_setaffinity(0, others)
    with (
        tempfile.TemporaryDirectory() as name,
        EmbeddedRedis(Path(name) / "redis") as redis,
        PostgresServer(durable=True) as postgres,
    ):
        folder = Path(name)
        urls = {"postgresql": postgres.create_database("ours"), "sqlite": f"sqlite:///{name}/ours.db"}
        without_driver = postgres.create_database("peers").replace("postgresql+psycopg", "postgresql")
        with_driver = without_driver.replace("postgresql://", "postgresql+psycopg://")
        worlds = {
            database: World(
                folder / database, database_url=url, redis_url=redis.url,
                settings={"WEB_PROCESSES": "1", "LOG_LEVEL": "WARNING"},
            )
            for database, url in urls.items()
        }  # fmt: skip
        for each in worlds:
            (folder / each).mkdir()
        with worlds["postgresql"] as world, worlds["sqlite"]:
            servers = Servers(worlds)
            key = world.double.ed25519_public_pem
            peers = {
                "noop": ["noop", "{port}", "same"],
                "noop on gunicorn": ["noop", "{port}", "gunicorn"],
                "naive": ["naive", "{port}", with_driver, redis.url, key],
                "fastapi": ["fastapi_insert", "{port}", without_driver, redis.url, key],
            }
            for peer, (module, *arguments) in peers.items():
                port = free_port()
                words = [word.replace("{port}", str(port)) for word in arguments]
                world.processes.run(["python", "-m", f"tests.benchmarks.peers.{module}", *words], name=peer)
                servers.ports[peer], servers.pids[peer] = port, world.processes.pid(peer)
            for database, each in worlds.items():
                each.start("web")
                servers.ports[database] = int(each.base_url.rpartition(":")[2])
                servers.pids[database] = each.processes.pid("web")
            for peer, port in servers.ports.items():
                eventually(lambda port=port: _answers(port), timeout=60, describe=f"{peer} to answer")
                for process in (psutil.Process(servers.pids[peer]), *psutil.Process(servers.pids[peer]).children()):
                    for thread in process.threads():
                        os.sched_setaffinity(thread.id, {0})
            yield servers


def _answers(port: int) -> bool:
    try:
        return http.get(f"http://127.0.0.1:{port}/livez", timeout=2).status_code > 0
    except http.RequestException:
        return False


def _cpu_seconds(pid: int) -> float:
    """Of a process and its children."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(each.cpu_times().user + each.cpu_times().system for each in family)
