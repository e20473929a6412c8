"""The numbers of many processes' counter files, added up by prometheus_client's own keys.

A key is metric, sample, labels and help text as one line of JSON. Sums are exact, whatever the order of their parts,
and are stored rounded up: a counter that goes down by a bit looks to Prometheus as if it had begun anew.
"""

import json
import math
import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
from prometheus_client.core import Metric
from prometheus_client.mmap_dict import MmapedDict

log = structlog.get_logger(__name__)

LATEST = "gauge_mostrecent"
"""The one kind of gauge that outlives its process; every gauge of our catalogue is one. Others are dropped with it."""

Series = tuple[str, str, tuple[tuple[str, str], ...]]
"""Metric, sample and labels. The help text is not part of it: a release may change that text."""


class Totals:
    """What `ended.json` stores, and what is added to it. `stored`: an earlier `as_json`, or {}."""

    def __init__(self, stored: dict[str, Any]) -> None:
        self._sums: dict[tuple[str, str], list[float]] = defaultdict(list)
        for kind, values in stored.get("sums", {}).items():
            for key, value in values.items():
                self._sums[kind, key].append(value)
        self._latest: dict[Series, tuple[str, float, float]] = {}
        """Key, value, and when the value was set."""
        for key, (value, set_at) in stored.get("latest", {}).items():
            self._keep_newest(key, value, set_at)

    def add(self, file: Path) -> None:
        """Raises FileNotFoundError."""
        kind = kind_of(file)
        for key, value, set_at in values_in(file):
            if kind != LATEST:
                self._sums[kind, key].append(value)
            else:
                self._keep_newest(key, value, set_at)

    def _keep_newest(self, key: str, value: float, set_at: float) -> None:
        metric, sample, labels, _ = _parsed(key)
        series = (metric, sample, labels)
        _, _, newest = self._latest.get(series, ("", 0.0, 0.0))
        if set_at > newest:  # a gauge that was never set has 0
            self._latest[series] = (key, value, set_at)

    def as_json(self) -> dict[str, Any]:
        sums: dict[str, dict[str, float]] = defaultdict(dict)
        for (kind, key), values in self._sums.items():
            sums[kind][key] = _rounded_up(values)
        return {"sums": sums, "latest": {key: (value, at) for key, value, at in self._latest.values()}}

    def metrics(self) -> Iterable[Metric]:
        """In prometheus_client's form: a stored bucket counts its own range, a reported one all smaller buckets too."""
        metrics: dict[str, Metric] = {}
        values: dict[Series, list[float]] = defaultdict(list)
        for (kind, key), found in self._sums.items():
            metric, sample, labels, told = _parsed(key)
            metrics.setdefault(metric, Metric(metric, told, kind))
            values[metric, sample, labels] += found
        buckets: dict[tuple[str, tuple[tuple[str, str], ...]], dict[str, float]] = defaultdict(dict)
        for (metric, sample, labels), found in values.items():
            total = math.fsum(found)
            if metrics[metric].type == "histogram" and sample == f"{metric}_bucket":
                buckets[metric, tuple(each for each in labels if each[0] != "le")][dict(labels)["le"]] = total
            else:
                metrics[metric].add_sample(sample, dict(labels), total)
        for (metric, labels), by_limit in buckets.items():
            so_far = 0.0
            for limit in sorted(by_limit, key=float):
                so_far += by_limit[limit]
                metrics[metric].add_sample(f"{metric}_bucket", {**dict(labels), "le": limit}, so_far)
            metrics[metric].add_sample(f"{metric}_count", dict(labels), so_far)
        for key, value, _ in self._latest.values():
            metric, sample, labels, told = _parsed(key)
            metrics.setdefault(metric, Metric(metric, told, "gauge")).add_sample(sample, dict(labels), value)
        return metrics.values()


def outlives_its_process(file: Path) -> bool:
    return kind_of(file) == LATEST or not kind_of(file).startswith("gauge")


def kind_of(file: Path) -> str:
    """`counter`, `gauge_mostrecent`, …"""
    return file.name.rpartition("_")[0]


def values_in(file: Path) -> Sequence[tuple[str, float, float]]:
    """Key, value, and when it was set (gauges only). Raises FileNotFoundError.

    A file that is being made is empty; one whose process died with its machine may hold anything.
    """
    if not file.stat().st_size:
        return ()
    try:
        found = [(key, value, at) for key, value, at, _ in MmapedDict.read_all_values_from_file(file)]  # type: ignore[no-untyped-call]
        for key, _, _ in found:
            _parsed(key)
    except (ValueError, TypeError, AttributeError, struct.error, RuntimeError) as error:
        log.warning("metrics_file_unreadable", file=file.name, error=type(error).__name__)
        return ()
    return found


@lru_cache(maxsize=10_000)
def _parsed(key: str) -> tuple[str, str, tuple[tuple[str, str], ...], str]:
    """Metric, sample, labels, help text. Raises ValueError, TypeError, AttributeError."""
    metric, sample, labels, told = json.loads(key)
    return metric, sample, tuple(sorted(labels.items())), told


def _rounded_up(values: Sequence[float]) -> float:
    """Their sum, never below the exact one."""
    total = math.fsum(values)
    return math.nextafter(total, math.inf) if math.fsum([*values, -total]) > 0 else total
