"""The files that deploy the system name settings, commands and versions that exist, and agree with each other."""

import configparser
import json
import re
import shlex
import tomllib
from fnmatch import fnmatch
from typing import Any

import pytest
import yaml

from tests.support.clock import ROOT
from tests.support.image import stages
from tests.support.processes import procfile
from tests.test_docs import OF_FLOWER, every_setting
from workers.cli import COMMANDS

COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "leadway-calls"}
KUBERNETES = [
    document
    for file in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
APP = json.loads((ROOT / "app.json").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
IMAGE = stages()[-1]
OF_PYTHON = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}


def unit(name: str) -> dict[str, str]:
    """The keys of the section Service."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "deploy" / "systemd" / name)
    return dict(parser["Service"])


UNITS = {file.name: unit(file.name) for file in sorted((ROOT / "deploy" / "systemd").glob("*.service"))}


def pods() -> dict[str, Any]:
    """The pod of each deployment and job, by the name of its container."""
    found = [each["spec"]["template"]["spec"] for each in KUBERNETES if "template" in each.get("spec", {})]
    return {pod["containers"][0]["name"]: pod for pod in found}


def _of_systemd(name: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in UNITS[name]["Environment"].split())


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "Dockerfile": IMAGE.environment,
    "app.json": {name: each.get("value", "") for name, each in APP["env"].items()},
    "secret.yaml": next(each["stringData"] for each in KUBERNETES if each["kind"] == "Secret"),
    **{f"compose {name}": each["environment"] for name, each in OURS.items()},
    **{f"pod {name}": {e["name"]: e["value"] for e in pod["containers"][0]["env"]} for name, pod in pods().items()},
    **{name: _of_systemd(name) for name in UNITS},
}
COMMAND_LINES: dict[str, list[str]] = {
    "Dockerfile": IMAGE.command,
    **{f"compose {name}": each["command"] for name, each in OURS.items() if "command" in each},
    **{f"pod {name}": pod["containers"][0]["args"] for name, pod in pods().items()},
    **{name: shlex.split(each["ExecStart"].removeprefix("/opt/leadway-calls/bin/")) for name, each in UNITS.items()},
    **{f"Procfile {name}": shlex.split(line) for name, line in procfile().items() if name != "release"},
}


@pytest.mark.parametrize("place", ENVIRONMENTS)
def test_every_variable_that_is_set_is_a_setting(place: str) -> None:
    assert set(ENVIRONMENTS[place]) - every_setting() - OF_FLOWER - OF_PYTHON == set()


@pytest.mark.parametrize("place", COMMAND_LINES)
def test_every_process_is_started_by_a_command_that_exists(place: str) -> None:
    match COMMAND_LINES[place]:
        case ["python", "-m", package, *kind]:
            assert (ROOT / package / "__main__.py").exists()
            assert (package, *kind) in {("webhook",), ("workers",), ("workers", "beat"), ("workers", "flower")}
        case ["leadway-calls", command, *_]:
            assert command in COMMANDS
            assert PROJECT["scripts"] == {"leadway-calls": "workers.cli:main"}
        case other:
            raise AssertionError(other)


def test_every_line_of_the_procfile_has_its_service_and_its_pod() -> None:
    wanted = {"migrate" if name == "release" else name for name in procfile()}
    assert set(OURS) == wanted
    assert set(pods()) == wanted
    assert set(APP["formation"]) <= wanted


def test_the_journal_is_on_where_the_disk_outlives_the_process_and_off_elsewhere() -> None:
    journals = {
        place: each.get("LEADWAY_JOURNAL_DIR") for place, each in ENVIRONMENTS.items() if place != "secret.yaml"
    }
    kept = {place: str(folder) for place, folder in journals.items() if folder != "off"}
    assert set(kept) == {*(f"compose {name}" for name in OURS), *UNITS}
    for name, each in OURS.items():
        (volume,) = each["volumes"]
        assert volume.split(":")[0] in COMPOSE["volumes"]
        assert kept[f"compose {name}"].startswith(f"{volume.split(':')[1]}/")
    for name, service in UNITS.items():
        assert kept[name].startswith(f"/var/lib/{service['StateDirectory']}/")


def test_all_processes_run_without_rights_on_a_file_system_that_they_cannot_write_to() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", IMAGE.user)
    assert all(each["read_only"] and each["cap_drop"] == ["ALL"] for each in OURS.values())
    for pod in pods().values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
        assert not pod["enableServiceLinks"]
        assert {each["mountPath"] for each in pod["containers"][0]["volumeMounts"]} == {"/app/var", "/tmp"}
    assert {each["ProtectSystem"] for each in UNITS.values()} == {"strict"}


def test_web_and_the_proxies_speak_of_the_same_port_and_probes() -> None:
    assert IMAGE.environment["PORT"] == "8000"
    assert OURS["web"]["ports"] == ["127.0.0.1:8000:8000"]
    web = pods()["web"]["containers"][0]
    assert web["ports"] == [{"name": "http", "containerPort": 8000}]
    assert web["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert web["readinessProbe"]["httpGet"]["path"] == "/readyz"
    for name in ("Caddyfile", "nginx.conf"):
        assert "127.0.0.1:8000" in (ROOT / "deploy" / "proxy" / name).read_text()


def test_the_build_gets_every_file_that_it_copies_and_nothing_secret() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert {source for stage in stages() for sources, _ in stage.copies for source in sources} == let_in
    assert not any(fnmatch(secret, each) for secret in (".env", "var", ".git") for each in let_in)


def test_the_version_of_python_is_the_same_everywhere() -> None:
    wanted = (ROOT / ".python-version").read_text().strip()
    assert f"ARG PYTHON={wanted}-slim" in (ROOT / "Dockerfile").read_text()
    assert PROJECT["requires-python"] == f">={wanted}"
    assert {stage.base.split()[0] for stage in stages()} == {"python:${PYTHON}"}


def test_the_workflow_runs_what_every_change_has_to_pass() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    lines = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert ".ci/run" in lines
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for line in lines if line.startswith("make ") for word in line.split()[1:]}
    assert named
    assert named <= targets
    assert yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["version"] == 2
