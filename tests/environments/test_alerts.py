"""docs/operating/alerts.yml by Debian's Prometheus: every rule of the verdict alarms and ends, also a real one."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import requests

from models.reports.verdict.rule import Severity
from models.reports.verdict.rules import ALWAYS, RULES
from tests.support.processes import ROOT
from tests.support.redis_servers import RedisServer, wheels_valkey
from tests.support.waiting import eventually
from tests.support.world import World
from workers.local.embedded_redis import free_port

pytestmark = pytest.mark.timeout(300)

ALERTS = ROOT / "docs/operating/alerts.yml"
ALARMING = sorted(
    (rule.name, rule.severity) for rule in (*ALWAYS, *RULES) if rule.severity in (Severity.CRITICAL, Severity.WARNING)
)


def program(name: str) -> str:
    path = shutil.which(name)
    assert path is not None, f"this test runs {name}: install Debian's package prometheus"
    return path


def test_the_rules_are_valid() -> None:
    checked = subprocess.run([program("promtool"), "check", "rules", ALERTS], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "4 rules found" in checked.stdout


def test_the_dashboard_asks_for_metrics_that_there_are_and_prometheus_understands_every_question(
    tmp_path: Path,
) -> None:
    panels = json.loads((ROOT / "docs/operating/grafana.json").read_text())["panels"]
    questions = [target["expr"] for panel in panels for target in panel["targets"]]
    documented = set(re.findall(r"`(leadway_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    asked = {re.sub("_bucket$", "", name) for name in re.findall(r"leadway_\w+", " ".join(questions))}
    assert asked <= documented
    assert len(asked) > 15
    rules = [{"record": f"question:{at}", "expr": each.replace("$job", ".*")} for at, each in enumerate(questions)]
    file = tmp_path / "questions.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run([program("promtool"), "check", "rules", file], capture_output=True, text=True)
    assert f"{len(rules)} rules found" in checked.stdout, checked.stdout + checked.stderr


def test_every_rule_of_the_verdict_alarms_after_its_time_and_no_longer_than_it_finds_something(tmp_path: Path) -> None:
    def case(rule: str, severity: str) -> dict[str, object]:
        """Found from the first to the twentieth minute."""
        name, seconds = ("LeadwayCallsCritical", 30) if severity == "critical" else ("LeadwayCallsWarning", 300)
        series = f'leadway_verdict{{job="leadway", instance="web1", rule="{rule}", severity="{severity}"}}'
        here = 'leadway_database_up{job="leadway", instance="web1"}'
        alarm = {"exp_labels": {"severity": severity, "rule": rule, "job": "leadway"}}
        moments = [(60 + seconds - 15, []), (60 + seconds + 15, [alarm]), (1190, [alarm]), (1230, [])]
        return {
            "interval": "15s",
            "input_series": [
                {"series": series, "values": "0x3 1x75 0x40"}, {"series": here, "values": "1x120"},
            ],
            "alert_rule_test": [
                {"eval_time": f"{at}s", "alertname": name, "exp_alerts": expected} for at, expected in moments
            ],
        }  # fmt: skip

    silence = {
        "interval": "15s",
        "input_series": [{"series": 'leadway_database_up{job="leadway"}', "values": "1x8 _x20 1x10"}],
        "alert_rule_test": [
            {"eval_time": "2m", "alertname": "LeadwayCallsNotScraped", "exp_alerts": []},
            {"eval_time": "9m", "alertname": "LeadwayCallsNotScraped", "exp_alerts": []},
        ],
    }
    guessing = {
        "interval": "15s",
        "input_series": [
            {"series": 'leadway_sign_ins_total{job="leadway", outcome="failed"}', "values": "0x40 1+1x40 41x200"},
        ],
        "alert_rule_test": [
            {"eval_time": "9m", "alertname": "LeadwayCallsPasswordGuessed", "exp_alerts": []},
            {"eval_time": "20m", "alertname": "LeadwayCallsPasswordGuessed",
             "exp_alerts": [{"exp_labels": {"severity": "warning", "job": "leadway"}}]},
            {"eval_time": "45m", "alertname": "LeadwayCallsPasswordGuessed", "exp_alerts": []},
        ],
    }  # fmt: skip
    rules = tmp_path / "alerts.yml"
    rules.write_text("".join(line for line in ALERTS.read_text().splitlines(keepends=True) if not _is_told(line)))
    tests = tmp_path / "test.yml"
    tests.write_text(
        json.dumps({
            "rule_files": [str(rules)], "evaluation_interval": "15s",
            "tests": [*(case(rule, str(severity)) for rule, severity in ALARMING), silence, guessing],
        })
    )  # fmt: skip
    tested = subprocess.run([program("promtool"), "test", "rules", tests], capture_output=True, text=True)
    assert tested.returncode == 0, (tested.stdout + tested.stderr)[-3000:]


def _is_told(line: str) -> bool:
    """The words of an alarm: promtool compares all of them, and they are for people."""
    return line.strip().startswith(("annotations:", "summary:", "description:"))


def test_the_metrics_are_as_promtool_wants_them_and_a_dead_redis_alarms_and_ends(
    sqlite_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "world"
    folder.mkdir()
    port = free_port()
    configuration = tmp_path / "prometheus.yml"
    with (
        RedisServer(tmp_path / "redis", program=wheels_valkey()) as server,
        World(folder, database_url=sqlite_url, redis_url=f"redis://127.0.0.1:{server.port}/0") as world,
    ):
        world.start("web", "worker", "beat")
        told = requests.get(f"http://127.0.0.1:{world.port}/metrics", timeout=10).text
        checked = subprocess.run([program("promtool"), "check", "metrics"], input=told, capture_output=True, text=True)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
        configuration.write_text(
            json.dumps({
                "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                "rule_files": [str(ALERTS)],
                "scrape_configs": [
                    {"job_name": "leadway", "static_configs": [{"targets": [f"127.0.0.1:{world.port}"]}]}
                ],
            })
        )  # fmt: skip
        world.processes.run(
            [program("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"], name="prometheus",
        )  # fmt: skip

        def alarms() -> set[str]:
            try:
                answer = requests.get(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=10)
            except requests.ConnectionError:
                return {"Prometheus is not there"}
            return {
                each["labels"].get("rule", each["labels"]["alertname"])
                for each in answer.json()["data"]["alerts"]
                if each["state"] == "firing"
            }

        eventually(lambda: alarms() == set(), timeout=60, describe=lambda: str(alarms()))
        server.kill()
        eventually(lambda: "redis_unreachable" in alarms(), timeout=90, describe=lambda: str(alarms()))
        server.start()
        eventually(lambda: alarms() == set(), timeout=90, describe=lambda: str(alarms()))
