"""A bare machine has what requirements.txt names, and nothing that only the tests' packages bring along."""

import json
import re
import subprocess
import sys
from pathlib import Path

LOADS = """
import importlib, json, sys
from importlib.metadata import packages_distributions
for name in ("workers.__main__", "workers.process.celery_patches", "workers.fetch_call", "workers.send_follow_up",
             "workers.local.run",
             "workers.cli", "webhook.app", "webhook.server", "kombu.transport.redis", "flower.app", "psycopg"):
    importlib.import_module(name)
known = packages_distributions()
print(json.dumps(sorted({d for name in sys.modules for d in known.get(name.partition(".")[0], ())[:1]})))
"""
OURS = {"leadway-calls", "setuptools"}


def test_everything_that_the_processes_load_is_named_in_the_requirements() -> None:
    printed = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True).stdout
    loaded = {_normal(name) for name in json.loads(printed)}
    named = {
        _normal(line.partition("==")[0]) for line in Path("requirements.txt").read_text().splitlines() if "==" in line
    }
    assert {"celery", "flask", "packaging"} <= loaded
    assert loaded - named <= OURS


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
