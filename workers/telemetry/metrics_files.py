"""Lets every process of a host count into files that one scrape of the web process reads."""

import hashlib
import os
from pathlib import Path

from prometheus_client import values
from prometheus_client.metrics import MetricWrapperBase

from models.settings import Settings
from models.settings.places import make_usable
from workers.telemetry import metrics
from workers.telemetry.shared_counters import ProcessName, fold


def metrics_dir(settings: Settings) -> Path:
    """Where the processes of one deployment keep their counters: told apart by database, as deployments are."""
    if settings.metrics_dir is not None:
        return settings.metrics_dir
    name = hashlib.sha256(settings.database_url.encode()).hexdigest()[:12]
    return Path("var/metrics") / name


def share_counters(settings: Settings) -> None:
    """Moves every metric of this process into files of `metrics_dir`. An entry point calls this before it starts
    threads; what was counted in memory before is dropped. Raises SettingsError when the folder cannot be used.

    prometheus_client chooses memory or files when a metric is made, which is when its module is imported. So that the
    order of imports decides nothing, every metric gets its values anew here.
    """
    directory = metrics_dir(settings).resolve()
    # Of several users' processes only where somebody chose the folder.
    make_usable(directory, setting="METRICS_DIR", private=settings.metrics_dir is None)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    values.ValueClass = values.MultiProcessValue(ProcessName(directory))  # type: ignore[no-untyped-call]
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for each in (metric, *getattr(metric, "_metrics", {}).values()):
                if each._is_observable():
                    each._metric_init()
    fold(directory)
