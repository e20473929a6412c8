"""Benchmark `start`: how long a web process takes to its first 202, beside bare Flask; memory; and CPU of `--help`.

Each start is a new process on warm caches; starts take turns, medians count. Memory is the proportional set size of all
processes (`make run`'s web with two processes, a worker, beat) after some calls went from receipt to note.
"""

import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import requests as http

from tests.benchmarks.receipt_peers import notification
from tests.support.services import EmbeddedRedis, PostgresServer
from tests.support.waiting import eventually
from tests.support.world import World
from workers.local.embedded_redis import free_port

MUST = {"first 202 ÷ bare Flask": 3.5, "pss_mib": 240.0, "help_cpu_seconds": 0.4}
FLASK = """
import sys
from flask import Flask, request
app = Flask("bare")
@app.post("/webhooks/leadway")
def receive():
    request.get_data()
    return "", 202
app.run(port=int(sys.argv[1]))
"""


def run(*, rounds: int = 7) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(Path(folder) / "redis") as redis,
        PostgresServer(durable=True) as postgres,
        World(
            Path(folder), database_url=postgres.create_database("start"), redis_url=redis.url,
            settings={"LOG_LEVEL": "WARNING", "WEB_PROCESSES": "2"},
        ) as world,
    ):  # fmt: skip
        world.processes.finish("release")
        bare, ours = [], []
        for turn in range(rounds + 1):
            port = free_port()
            bare.append(_first_202(world, ["python", "-c", FLASK, str(port)], f"bare-{turn}", port))
            ours.append(_first_202(world, None, f"web-{turn}", world.port))
        world.start("web", "worker", "beat")
        for _ in range(50):
            assert world.double.notify(world.double.place_call(actions=["CALL_TRANSFER"])).status == 202
        world.wait_until_done(calls=50)
        memory = {line: _pss_mib(world.processes.pid(line)) for line in ("web", "worker", "beat")}
    result = {
        "bare_flask_ms": round(1000 * median(bare[1:])),
        "web_ms": round(1000 * median(ours[1:])),
        "first 202 ÷ bare Flask": round(median(ours[1:]) / median(bare[1:]), 2),
        "pss_mib": round(sum(memory.values())),
        "pss_mib_of": {line: round(each) for line, each in memory.items()},
        "help_cpu_seconds": round(median(_cpu_of_help() for _ in range(5)), 2),
    }
    return {**result, "good": all(result[name] <= most for name, most in MUST.items())}


def _first_202(world: World, command: list[str] | None, name: str, port: int) -> float:
    body = notification(world).partition(b"\r\n\r\n")
    signature = next(line for line in body[0].decode().split("\r\n") if line.startswith("X-GHL")).partition(": ")[2]
    headers = {"X-GHL-Signature": signature, "Content-Type": "application/json"}
    began = time.perf_counter()
    if command is None:
        world.processes.start("web", name=name)
    else:
        world.processes.run(command, name=name)
    with http.Session() as session:
        while True:
            with contextlib.suppress(http.ConnectionError):
                answer = session.post(
                    f"http://127.0.0.1:{port}/webhooks/leadway", data=body[2], headers=headers, timeout=5
                )
                if answer.status_code == 202:
                    break
            time.sleep(0.005)
    took = time.perf_counter() - began
    world.processes.kill(name)
    eventually(lambda: not _listens(port), timeout=10)
    return took


def _listens(port: int) -> bool:
    with contextlib.suppress(http.RequestException):
        http.get(f"http://127.0.0.1:{port}/", timeout=1)
        return True
    return False


def _pss_mib(pid: int) -> float:
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(each.memory_full_info().pss for each in family)) / 2**20


def _cpu_of_help() -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(Path(sys.executable).with_name("leadway-calls")), "--help"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
