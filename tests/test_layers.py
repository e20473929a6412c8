"""The directions of imports that pyproject.toml fixes hold: `make lint` asks the same."""

import subprocess
import sys

from tests.support.processes import ROOT


def test_imports_go_one_way() -> None:
    check = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    ran = subprocess.run(
        [sys.executable, "-c", check, "--no-cache", "--no-logo"], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
