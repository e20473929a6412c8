"""The release that this process runs; its one home is `version` in pyproject.toml."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


def release() -> str:
    """`0.1.0`. Platforms that install requirements.txt alone start from the folder, where pyproject.toml lies too."""
    try:
        return version("leadway-calls")
    except PackageNotFoundError:
        match tomllib.loads(PROJECT.read_text()):
            case {"project": {"version": str(told)}}:
                return told
        return "unknown"
