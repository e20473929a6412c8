"""`/livez`: the process lives; `/readyz`: it can take in notifications, and with `?verbose` the verdict on the whole
system; `/metrics`: of all processes of the host."""

import hmac
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path

from flask import Blueprint, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from sqlalchemy.exc import SQLAlchemyError

from migrations import is_current
from models.accounts import accounts, circuit_breaker, pauses
from models.accounts.accounts import Account
from models.accounts.circuit_breaker import BreakerState
from models.accounts.pauses import Pause
from models.database import Database, now
from models.intake import journal
from models.reports import backlog
from models.reports.backlog import Backlog
from models.reports.verdict.findings import SystemVerdict, as_json
from models.settings import Secret, Settings
from models.work import heartbeats
from models.work.heartbeats import NEEDED_PROCESSES, Heartbeat
from webhook.copies import CopyOf
from webhook.deadline import DeadlinePool
from workers.telemetry.release import release
from workers.telemetry.shared_counters import SharedCounters

METRICS_CLOSED = (
    "Metrics are told over loopback, and to whoever sends METRICS_TOKEN in `Authorization: Bearer …`. Set it in the"
    " environment of the web process.\n"
)
PROBE_LIMIT_SECONDS = 1.0
"""Deadline of a probe's database call: a hanging database must not occupy the threads that notifications need."""


def blueprint_for(database: Database, settings: Settings, verdict: CopyOf[SystemVerdict]) -> Blueprint:
    blueprint = Blueprint("health", __name__)
    pool = DeadlinePool(2, seconds=PROBE_LIMIT_SECONDS, name="health")
    problem = CopyOf(lambda: _problem(database, pool))
    scrape = CopyOf(lambda: _scrape(database, pool, settings.journal_folder, verdict))

    @blueprint.get("/livez")
    def livez() -> Response:
        return jsonify(status="alive")

    @blueprint.get("/readyz")
    def readyz() -> Response:
        """200 if the database answers and has this code's schema, else 503. Redis may be away: no receipt needs it.

        `?verbose`: the verdict too, to whoever may see the metrics. It changes nothing in the status.
        """
        found = problem.get()
        told: dict[str, object] = {"status": "ready"} if found is None else {"status": "not ready", "problem": found}
        if "verbose" in request.args and _may_see_metrics(settings.metrics_token):
            told |= as_json(verdict.get())
        response = jsonify(told)
        response.status_code = 200 if found is None else 503
        return response

    @blueprint.get("/metrics")
    def metrics() -> Response:
        if not _may_see_metrics(settings.metrics_token):
            return Response(METRICS_CLOSED, 403, content_type="text/plain; charset=utf-8")
        return Response(scrape.get(), content_type=CONTENT_TYPE_LATEST)

    return blueprint


def _may_see_metrics(token: Secret | None) -> bool:
    """Whoever asks from this machine, not through a proxy on it; anybody else with the token."""
    is_forwarded = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-IP"))
    if not is_forwarded and ip_address(request.remote_addr or "0.0.0.0").is_loopback:  # noqa: S104 - is no loopback
        return True
    given = request.authorization
    return (
        token is not None
        and given is not None
        and given.type == "bearer"
        and hmac.compare_digest((given.token or "").encode(), token.get_secret_value().encode())
    )


def _problem(database: Database, pool: DeadlinePool) -> str | None:
    """Why this process is not ready; None: it is."""
    try:
        is_up_to_date = pool.run(lambda: is_current(database))
    except (SQLAlchemyError, TimeoutError) as error:
        return f"the database does not answer ({type(error).__name__})"
    return None if is_up_to_date else "the database has another schema: run `leadway-calls migrate`"


def _scrape(
    database: Database, pool: DeadlinePool, journal_folder: Path | None, verdict: CopyOf[SystemVerdict]
) -> bytes:
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry.register(SharedCounters(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])))
    else:
        registry.register(REGISTRY)
    registry.register(_BuildCollector())
    registry.register(_JournalCollector(journal_folder))
    registry.register(_StateCollector(database, pool))
    registry.register(_VerdictCollector(verdict))
    return generate_latest(registry)


class _BuildCollector:
    """`leadway_build_info`: which release answers this scrape."""

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("leadway_build", "The release of this web process.", {"version": release()})


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


class _VerdictCollector:
    """One gauge for each rule that could be asked: none of those that need the database while it is away."""

    def __init__(self, verdict: CopyOf[SystemVerdict]) -> None:
        self._verdict = verdict

    def collect(self) -> Iterator[Metric]:
        told = GaugeMetricFamily(
            "leadway_verdict", "1 while the rule finds something, else 0.", labels=["rule", "severity"]
        )
        verdict = self._verdict.get()
        found = {each.rule for each in verdict.findings}
        for rule, severity in verdict.asked.items():
            told.add_metric([rule, severity], int(rule in found))
        yield told


@dataclass(frozen=True)
class _State:
    """What the database tells of one moment."""

    at: datetime
    backlog: list[Backlog]
    processes: list[Heartbeat]
    accounts: list[Account]
    pauses: list[Pause]


class _StateCollector:
    """Gauges of what stands in the database, read at each scrape: so they are the same whichever host is asked."""

    def __init__(self, database: Database, pool: DeadlinePool) -> None:
        self._database, self._pool = database, pool

    def collect(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("leadway_database_up", "Whether the database answered this scrape.")
        try:
            state = self._pool.run(self._read)
        except (SQLAlchemyError, TimeoutError):
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], 1)
        yield up
        yield from _of_backlog(state.backlog)
        yield from _of_processes(state.processes)
        yield from _of_accounts(state)

    def _read(self) -> _State:
        with self._database.reading() as connection:
            return _State(
                now(connection), backlog.all_work(connection), heartbeats.all_of(connection),
                accounts.served(connection), pauses.all_of(connection),
            )  # fmt: skip


def _of_backlog(found: list[Backlog]) -> Iterator[Metric]:
    names = ["location_id", "work", "status"]
    number = GaugeMetricFamily("leadway_rows", "Rows of work that are not done, by status.", labels=names)
    age = GaugeMetricFamily(
        "leadway_oldest_age_seconds", "Age of the oldest row of work that is not done, by status.", labels=names
    )
    for each in found:
        labels = [each.location_id, each.work, each.status]
        number.add_metric(labels, each.number)
        age.add_metric(labels, each.oldest_seconds)
    yield number
    yield age


def _of_processes(found: list[Heartbeat]) -> Iterator[Metric]:
    alive = GaugeMetricFamily("leadway_processes_alive", "Processes that send heartbeats.", labels=["process"])
    for kind in sorted({*NEEDED_PROCESSES, *(each.process for each in found)}):
        alive.add_metric([kind], sum(each.is_alive for each in found if each.process == kind))
    yield alive
    offset = GaugeMetricFamily(
        "leadway_clock_offset_seconds",
        "Seconds by which a process's clock is ahead of the database's.",
        labels=["process", "name"],
    )
    for one in found:
        if one.is_alive and one.clock_offset is not None:
            offset.add_metric([one.process, one.name], one.clock_offset)
    yield offset


def _of_accounts(state: _State) -> Iterator[Metric]:
    """A series for each account that is served; of pauses and breakers only for those that are not as usual."""
    complete = GaugeMetricFamily(
        "leadway_complete_until_timestamp_seconds",
        "Every call that Leadway lists until then is stored, open or dead.",
        labels=["location_id"],
    )
    breaker = GaugeMetricFamily(
        "leadway_breaker_not_closed", "1 while requests to Leadway are held back.", labels=["location_id", "state"]
    )
    for each in state.accounts:
        if each.complete_until is not None:
            complete.add_metric([each.location_id], each.complete_until.timestamp())
        if (found := circuit_breaker.state_of(each, state.at)) is not BreakerState.CLOSED:
            breaker.add_metric([each.location_id, found], 1)
    paused = GaugeMetricFamily("leadway_paused", "1 while it lasts.", labels=["location_id", "work", "cause"])
    for pause in state.pauses:
        paused.add_metric([pause.location_id, pause.work, pause.cause], 1)
    yield complete
    yield breaker
    yield paused
