"""Lets every process of a host count into files that one scrape of the web process reads."""

import hashlib
import os
from pathlib import Path

from prometheus_client import values

from models.settings import Settings
from workers.telemetry.shared_counters import ProcessName, fold


def metrics_dir(settings: Settings) -> Path:
    """Where the processes of one deployment keep their counters: told apart by database, as deployments are."""
    if settings.metrics_dir is not None:
        return settings.metrics_dir
    name = hashlib.sha256(settings.database_url.encode()).hexdigest()[:12]
    return Path("var/metrics") / name


def share_counters(settings: Settings) -> None:
    """An entry point calls this before it imports `workers.telemetry.metrics`: prometheus_client looks only then."""
    directory = metrics_dir(settings)
    directory.mkdir(parents=True, exist_ok=True)
    directory = directory.resolve()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(ProcessName(directory))  # type: ignore[no-untyped-call]
    fold(directory)
