"""Lets every process of a host count into files that one scrape of the web process reads."""

import hashlib
import os
from pathlib import Path

from prometheus_client import values
from prometheus_client.metrics import MetricWrapperBase

from models.settings import Settings
from workers.telemetry import metrics

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Where prometheus_client's values in files, and the page that adds them up, look for the folder."""


def metrics_dir(settings: Settings) -> Path:
    """Where the processes of one deployment keep their counters: told apart by database, as deployments are."""
    if settings.metrics_dir is not None:
        return settings.metrics_dir
    name = hashlib.sha256(settings.database_url.encode()).hexdigest()[:12]
    return Path("var/metrics") / name


def share_counters(settings: Settings) -> None:
    """An entry point calls this before it counts anything; what was counted before is dropped.

    prometheus_client gives a metric its values, in memory or in files, when the metric is made. Metrics are made when
    modules are imported, so the order of imports would decide. Here every metric gets its values anew, in files.
    """
    directory = metrics_dir(settings).resolve()
    if os.environ.get(VARIABLE) == str(directory) and values.ValueClass is not values.MutexValue:
        return  # a file that is open twice in one process would lose counts
    directory.mkdir(parents=True, exist_ok=True)
    os.environ[VARIABLE] = str(directory)
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            for each in (metric, *getattr(metric, "_metrics", {}).values()):
                if each._is_observable():
                    each._metric_init()
