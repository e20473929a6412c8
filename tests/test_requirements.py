"""A bare machine has what requirements.txt names, and nothing that only the tests' packages bring along."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

LOADS = """
import importlib, json, re, sys
from importlib.metadata import packages_distributions
known, there = packages_distributions(), set(sys.argv[1:])
class BareMachine:  # libraries load some others only where these are there
    def find_spec(self, name, path=None, target=None):
        brought_by = {re.sub("[-_.]+", "-", each).lower() for each in known.get(name.partition(".")[0], ())}
        if brought_by and not brought_by & there:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, BareMachine())
for name in ("workers.cli", "workers.local.run", "workers.__main__", "workers.process.celery_patches",
             "workers.fetch_call", "workers.send_follow_up",
             "webhook.app", "webhook.server", "kombu.transport.redis", "flower.app", "psycopg"):
    importlib.import_module(name)
loaded = {name.partition(".")[0] for name, module in sys.modules.items() if module}
print(json.dumps(sorted({d for name in loaded for d in known.get(name, ())[:1]})))
"""
OURS = {"leadway-calls", "setuptools"}


def test_everything_that_the_processes_load_is_named_in_the_requirements() -> None:
    named = {
        _normal(line.partition("==")[0]) for line in Path("requirements.txt").read_text().splitlines() if "==" in line
    }
    command = [sys.executable, "-c", LOADS, *named, *OURS]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    loaded = {_normal(name) for name in json.loads(printed)}
    assert {"celery", "flask", "packaging"} <= loaded
    assert loaded - named <= OURS


@pytest.mark.parametrize("entry", ["workers.__main__", "webhook.__main__"])
def test_a_process_loads_nothing_that_only_commands_draw_with(entry: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", entry.removesuffix(".__main__")]
    ran = subprocess.run(command, capture_output=True, text=True, env={"REDIS_URL": "no address"})
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}
    assert {"structlog", "sqlalchemy"} <= loaded, ran.stderr[-500:]
    assert loaded & {"rich.console", "pygments.token", "attr.validators", "yaml.reader"} == set()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
