"""The tools that read the units and the proxies' files accept them, and a proxy lets nothing in but notifications."""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import requests

from tests.leadway_double.notifications import Dialect
from tests.support.clock import ROOT
from tests.support.waiting import eventually
from tests.support.world import World
from workers.local.embedded_redis import free_port

DEPLOY = ROOT / "deploy"


def program(name: str, package: str) -> str:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin:/bin")
    assert found is not None, f"{name} is missing: install Debian's package {package}"
    return found


def test_systemd_accepts_the_units_and_finds_little_that_they_expose(tmp_path: Path) -> None:
    analyze = program("systemd-analyze", "systemd")
    units = sorted((DEPLOY / "systemd").glob("*.service"))
    assert len(units) == 4
    for unit in units:  # the program has to be there
        placed = re.sub(r"ExecStart=\S+/(?:python|leadway-calls)", "ExecStart=/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(placed)
    paths = [str(tmp_path / unit.name) for unit in units]
    verified = subprocess.run([analyze, "verify", *paths], capture_output=True, text=True)
    assert (verified.returncode, verified.stderr) == (0, "")
    for path in paths:
        exposed = subprocess.run(
            [analyze, "security", "--offline=true", "--threshold=25", path], capture_output=True, text=True
        )
        assert exposed.returncode == 0, exposed.stdout


def _caddy(folder: Path, port: int, to: int) -> list[str]:
    text = (DEPLOY / "proxy" / "Caddyfile").read_text()
    subprocess.run(
        [program("caddy", "caddy"), "validate", "--adapter", "caddyfile", "--config", DEPLOY / "proxy" / "Caddyfile"],
        check=True,
        capture_output=True,
        env={"HOME": str(folder)},
    )
    placed = text.replace("calls.example.com", f"http://127.0.0.1:{port}").replace("127.0.0.1:8000", f"127.0.0.1:{to}")
    (folder / "Caddyfile").write_text("{\n\tadmin off\n}\n" + placed)
    return [program("caddy", "caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "Caddyfile")]


def _nginx(folder: Path, port: int, to: int) -> list[str]:
    text = (DEPLOY / "proxy" / "nginx.conf").read_text().replace("127.0.0.1:8000", f"127.0.0.1:{to}")
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port}").replace("/var/log/nginx", str(folder))
    text = re.sub(r"(?m)^ +ssl_certificate.*$", "", text)
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} http {{ {paths}\n{text} }}\n"
    )
    return [program("nginx", "nginx-light"), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]


@pytest.mark.parametrize("proxy", [_caddy, _nginx], ids=["caddy", "nginx"])
def test_a_proxy_lets_notifications_in_and_nothing_else(
    proxy, postgresql_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=postgresql_url, redis_url=redis_url) as world:
        world.start("web")
        port = free_port()
        world.processes.run(proxy(tmp_path, port, world.port), name="proxy")
        eventually(lambda: _listens(port), timeout=20, describe=lambda: world.processes.log("proxy"))
        outside = f"http://127.0.0.1:{port}"
        world.double.set_webhook_url(f"{outside}/webhooks/leadway")
        (call,) = world.double.place_calls(1)
        for dialect in (Dialect.FLAT, Dialect.WORKFLOW):
            assert world.double.notify(call, dialect=dialect).status == 202
        for path in ("/metrics", "/livez", "/readyz", "/ops/", "/", "/webhooks/../metrics", "/webhooks/%2e%2e/metrics"):
            request = requests.Request("GET", outside).prepare()
            request.url = outside + path
            with requests.Session() as session:
                assert session.send(request, timeout=5).status_code == 404, path


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
