"""The release is known also where only the requirements are installed, as platforms do."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.clock import ROOT


def test_the_release_is_known_where_the_project_is_not_installed(tmp_path: Path) -> None:
    for place in (
        "pyproject.toml",
        "workers/__init__.py",
        "workers/telemetry/__init__.py",
        "workers/telemetry/release.py",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / place, tmp_path / place)
    ask = "from workers.telemetry.release import release; print(release())"
    told = subprocess.run([sys.executable, "-S", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
