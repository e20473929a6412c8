"""The catalogue of metrics, its page, and the files by which the processes of a host share their counters."""

import re
import subprocess
import sys
from pathlib import Path

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

from models.settings import Secret, Settings
from tests.support.clock import ROOT, shared_clock
from tests.support.rows import ENCRYPTION_KEY, on_sqlite
from tests.support.worker import AtWork
from webhook.app import create_app
from workers.telemetry import metrics
from workers.telemetry.metrics_files import metrics_dir

PAGE = ROOT / "docs" / "metrics.md"
SHARE = """
from models.settings import Secret, Settings
from workers.telemetry.metrics_files import share_counters
share_counters(Settings(database_url="sqlite:///x.db"))
"""
IMPORT_EVERYTHING = "import webhook.__main__, workers.__main__, workers.cli"
IMPORT = """
from workers.telemetry import metrics
labelled = metrics.ENQUEUED.labels("call")
"""
COUNT = """
import sys
labelled.inc(int(sys.argv[1]))
metrics.UNKNOWN_FIELDS.inc(int(sys.argv[1]))
metrics.STORED_SECONDS.observe(int(sys.argv[1]))
metrics.WEBHOOK_ALARM.labels("L1").set(int(sys.argv[1]))
"""
TELL = """
from prometheus_client import CollectorRegistry, generate_latest
from workers.telemetry.metrics_files import metrics_dir
from workers.telemetry.shared_counters import SharedCounters
registry = CollectorRegistry()
registry.register(SharedCounters(metrics_dir(Settings(database_url="sqlite:///x.db"))))
print(generate_latest(registry).decode())
"""


def test_the_page_names_exactly_the_metrics_that_there_are(sqlite_url: str, redis_url: str) -> None:
    in_code = {_name(each) for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)}
    web = create_app(
        Settings(database_url=sqlite_url, redis_url=redis_url, token_encryption_keys=(Secret(ENCRYPTION_KEY),))
    ).test_client()
    gauges = set(re.findall(r"^# TYPE (leadway_\w+)(?<!_created) gauge", web.get("/metrics").text, re.MULTILINE))
    in_page = re.findall(r"^\| `(leadway_[a-z_]+)`", PAGE.read_text(), re.MULTILINE)

    assert set(in_page) == in_code | gauges
    assert len(in_page) == len(set(in_page))


def test_names_say_whose_they_are_what_they_count_and_in_which_unit() -> None:
    for each in vars(metrics).values():
        if isinstance(each, prometheus_client.Counter):
            assert re.fullmatch(r"leadway_[a-z_]+_total", _name(each))
        elif isinstance(each, prometheus_client.Histogram):
            assert re.fullmatch(r"leadway_[a-z_]+_seconds|leadway_stored_after_seconds", _name(each))


@on_sqlite
def test_no_metric_is_told_apart_by_a_call_or_a_person(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.send(follow_up_id)
    [call] = at_work.rows("calls")

    told = prometheus_client.generate_latest().decode()

    assert "leadway_stored_after_seconds_count" in told
    for column in ("call_id", "contact_id", "from_number"):
        assert str(call[column]) not in told
    assert follow_up_id not in told


def test_counters_of_several_processes_are_added_up_in_whatever_order_their_modules_were_imported(
    tmp_path: Path,
) -> None:
    _run(tmp_path, SHARE + IMPORT + COUNT, "2")
    _run(tmp_path, IMPORT + SHARE + COUNT, "3")
    told = _run(tmp_path, IMPORT + SHARE + SHARE + COUNT + TELL, "5")

    assert 'leadway_enqueued_total{work="call"} 10.0' in told
    assert "leadway_unknown_fields_total 10.0" in told
    assert "leadway_stored_after_seconds_count 3.0" in told
    assert "leadway_stored_after_seconds_sum 10.0" in told
    assert 'leadway_webhook_alarm{location_id="L1"} 5.0' in told


def test_importing_opens_no_file_whatever_the_environment_says(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    _run(folder, IMPORT_EVERYTHING, PROMETHEUS_MULTIPROC_DIR=str(folder))
    _run(folder, IMPORT_EVERYTHING, PROMETHEUS_MULTIPROC_DIR=str(folder / "not there"))

    assert list(folder.iterdir()) == []


def test_deployments_with_different_databases_do_not_count_together(tmp_path: Path) -> None:
    one, two = (metrics_dir(Settings(database_url=f"sqlite:///{name}.db")) for name in ("one", "two"))

    assert one != two
    assert metrics_dir(Settings(metrics_dir=tmp_path)) == tmp_path


def test_the_folder_of_counters_shows_nothing_of_the_databases_password() -> None:
    folder = metrics_dir(Settings(database_url="postgresql://leadway:hunter2@localhost/leadway"))

    assert "hunter2" not in str(folder)


def _run(folder: Path, program: str, *words: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), **shared_clock(), **environment},
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def _name(metric: MetricWrapperBase) -> str:
    """As it is scraped: the client keeps a counter's name without its ending."""
    [family] = metric.describe()
    return str(family.name) + ("_total" if isinstance(metric, prometheus_client.Counter) else "")
