"""`/livez`: the process lives; `/readyz`: it can take in notifications; `/metrics`: of all processes of the host."""

import os
from collections.abc import Iterator
from pathlib import Path

from flask import Blueprint, Response, jsonify
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy.exc import SQLAlchemyError

from migrations import is_current
from models.database import Database
from models.intake import journal
from models.reports import backlog
from models.reports.backlog import Backlog
from models.settings import Settings
from models.work import heartbeats
from models.work.heartbeats import Heartbeat
from webhook.deadline import DeadlinePool
from workers.telemetry.shared_counters import SharedCounters

PROBE_LIMIT_SECONDS = 1.0
"""Deadline of a probe's database call: a hanging database must not occupy the threads that notifications need."""


def blueprint_for(database: Database, settings: Settings) -> Blueprint:
    blueprint = Blueprint("health", __name__)
    pool = DeadlinePool(2, seconds=PROBE_LIMIT_SECONDS, name="health")

    @blueprint.get("/livez")
    def livez() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def readyz() -> Response:
        """200 if the database answers and has this code's schema, else 503. Redis may be away: no receipt needs it."""
        try:
            current = pool.run(lambda: is_current(database))
            problem = None if current else "the database has another schema: run `leadway-calls migrate`"
        except (SQLAlchemyError, TimeoutError) as error:
            problem = f"the database does not answer ({type(error).__name__})"
        response = jsonify(status="ready") if problem is None else jsonify(status="not ready", problem=problem)
        response.status_code = 200 if problem is None else 503
        return response

    @blueprint.get("/metrics")
    def metrics() -> Response:
        registry = CollectorRegistry()
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry.register(SharedCounters(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
        else:
            registry.register(REGISTRY)
        registry.register(_JournalCollector(settings.journal_folder))
        registry.register(_BacklogCollector(database, pool))
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return blueprint


class _JournalCollector:
    """Gauges of the journals of this host: also while the database is away."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        found = journal.waiting(self._folder)
        yield GaugeMetricFamily("leadway_journal_rows", "Notifications in the journals of this host.", found.number)
        yield GaugeMetricFamily(
            "leadway_journal_oldest_age_seconds", "Age of the oldest of them; 0: there is none.", found.oldest_seconds
        )


class _BacklogCollector:
    """Gauges of the backlog, read from the database at each scrape."""

    def __init__(self, database: Database, pool: DeadlinePool) -> None:
        self._database, self._pool = database, pool

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("leadway_database_up", "Whether the database answered this scrape.")
        try:
            found, processes = self._pool.run(self._read)
        except (SQLAlchemyError, TimeoutError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        number = GaugeMetricFamily(
            "leadway_rows", "Rows of work that are not done, by status.", labels=["location_id", "work", "status"]
        )
        age = GaugeMetricFamily(
            "leadway_oldest_age_seconds",
            "Age of the oldest row of work that is not done, by status.",
            labels=["location_id", "work", "status"],
        )
        for each in found:
            labels = [each.location_id, each.work, each.status]
            number.add_metric(labels, each.number)
            age.add_metric(labels, each.oldest_seconds)
        yield number
        yield age
        offset = GaugeMetricFamily(
            "leadway_clock_offset_seconds",
            "Seconds by which a process's clock is ahead of the database's.",
            labels=["process", "name"],
        )
        for one in processes:
            if one.is_alive and one.clock_offset is not None:
                offset.add_metric([one.process, one.name], one.clock_offset)
        yield offset

    def _read(self) -> tuple[list[Backlog], list[Heartbeat]]:
        with self._database.reading() as connection:
            return backlog.all_work(connection), heartbeats.all_of(connection)
