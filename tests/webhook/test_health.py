"""What a platform and a Prometheus ask: alive, ready, and the numbers of all processes."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from models.accounts import circuit_breaker, pauses
from models.accounts.pauses import PauseCause
from models.calls import calls
from models.calls.calls import work_key
from models.reconciling import schedule
from models.settings import Secret
from tests.support.hearts import beating
from tests.support.rows import booked_call, call_log, change, dead_call, fetch, write
from tests.support.waiting import eventually
from tests.support.world import World
from tests.webhook.conftest import Intake
from webhook import copies
from webhook.copies import CopyOf
from workers.telemetry.release import release

AN_HOUR_AGO = timedelta(hours=1)


def test_a_process_with_its_database_is_alive_and_ready(intake: Intake) -> None:
    client = intake.app.test_client()

    assert (client.get("/livez").status_code, client.get("/livez").json) == (200, {"status": "alive"})
    assert (client.get("/readyz").status_code, client.get("/readyz").json) == (200, {"status": "ready"})


def test_what_waits_is_told_by_account_work_and_status_with_the_age_of_the_oldest(intake: Intake) -> None:
    old, young = intake.double.place_call(), intake.double.place_call()
    intake.post(intake.message(old))
    intake.post(intake.message(young))
    done = intake.double.place_call()
    intake.post(intake.message(done))
    intake.take_in()
    intake.post(intake.message(done))
    fetch(intake.database, booked_call(done.call_id), location_id=intake.double.location_id)
    change(intake.database, work_key(old.location_id, old.call_id), created_at=datetime.now(UTC) - AN_HOUR_AGO)
    write(intake.database, schedule.open_regular, old.location_id, until=datetime.now(UTC))

    told = intake.app.test_client().get("/metrics").text
    labels = f'{{location_id="{intake.double.location_id}",status="pending",work="call"}}'
    assert "leadway_database_up 1.0" in told
    assert f"leadway_rows{labels} 2.0" in told
    age = re.search(rf"leadway_oldest_age_seconds{re.escape(labels)} ([0-9.]+)", told)
    assert age is not None
    assert 3600 <= float(age[1]) < 3700
    assert 'status="complete"' not in told
    assert 'status="pending",work="window"' not in told, "how long it takes is no backlog"
    assert f"leadway_rows{labels.replace('call', 'notification')} 1.0" in told, "it waits to be taken in"


def test_the_verdict_is_told_to_whoever_may_see_metrics_and_as_a_gauge_for_each_rule(intake: Intake) -> None:
    def asked(path: str, **environ: str) -> tuple[int, Any]:
        answer = intake.app.test_client().get(path, environ_base=environ or LOOPBACK)
        return answer.status_code, answer.json if answer.is_json else answer.text

    with beating(intake.database):
        status, told = asked("/readyz?verbose")
        assert (status, told["status"], told["verdict"], told["findings"]) == (200, "ready", "fine", [])
        dead_call(intake.database, "call-1", location_id=intake.double.location_id)
        status, told = asked("/readyz?verbose")
        assert (status, told["verdict"]) == (200, "needs_a_person"), "it takes notifications in as before"
        assert [each["rule"] for each in told["findings"]] == ["dead_call"]
        metrics = asked("/metrics")[1]
        assert 'leadway_verdict{rule="dead_call",severity="warning"} 1.0' in metrics
        assert 'leadway_verdict{rule="worker_missing",severity="critical"} 0.0' in metrics
        assert asked("/readyz?verbose", **ELSEWHERE) == (200, {"status": "ready"})
        write(intake.database, calls.replay, intake.double.location_id, "call-1")
        assert 'leadway_verdict{rule="dead_call",severity="warning"} 0.0' in asked("/metrics")[1]


def test_without_its_database_web_tells_what_it_still_sees(redis_url: str, tmp_path: Path) -> None:
    with Intake(f"sqlite:///{tmp_path}/empty.db", redis_url) as intake:
        client = intake.app.test_client()
        told = client.get("/readyz?verbose", environ_base=LOOPBACK)
        assert (told.status_code, told.json["verdict"]) == (503, "cannot_tell")
        assert [each["rule"] for each in told.json["findings"]] == ["database_unusable"]
        metrics = client.get("/metrics", environ_base=LOOPBACK).text
    assert 'leadway_verdict{rule="database_unusable",severity="critical"} 1.0' in metrics
    assert 'leadway_verdict{rule="redis_unreachable",severity="critical"} 0.0' in metrics
    assert "worker_missing" not in metrics, "nobody was asked"


def test_a_log_that_is_not_settled_is_no_waiting_call(intake: Intake) -> None:
    call = intake.double.place_call()
    intake.post(intake.message(call))
    intake.take_in()
    fetch(intake.database, call_log(call.call_id, duration_seconds=95.0), location_id=call.location_id)
    told = intake.app.test_client().get("/metrics").text
    labels = f'location_id="{call.location_id}",status="%s",work="call"'
    assert f"leadway_rows{{{labels % 'unsettled'}}} 1.0" in told
    assert labels % "pending" not in told


def test_states_of_accounts_and_processes_are_told_and_go_away_with_their_cause(intake: Intake) -> None:
    location_id = intake.double.location_id
    told = intake.app.test_client().get("/metrics").text
    assert _value(told, 'leadway_processes_alive{process="worker"}') == 0
    assert "leadway_paused{" not in told
    write(intake.database, pauses.pause, location_id, cause=PauseCause.PERSON, detail="a test")
    for _ in range(circuit_breaker.OUTAGES_BEFORE_OPEN):
        write(intake.database, circuit_breaker.record_outage, location_id, first_seconds=30.0)

    def says(series: str) -> bool:
        return series in intake.app.test_client().get("/metrics").text  # of at most a second ago

    paused = f'leadway_paused{{cause="person",location_id="{location_id}",work="all"}} 1.0'
    broken = f'leadway_breaker_not_closed{{location_id="{location_id}",state="open"}} 1.0'
    eventually(lambda: says(paused) and says(broken))
    write(intake.database, pauses.resume, location_id)
    eventually(lambda: not says("leadway_paused{"))


def test_answers_are_counted_by_status_reason_and_credential(intake: Intake) -> None:
    before = intake.app.test_client().get("/metrics").text
    intake.post(intake.message())
    intake.send(b"{}", {})
    after = intake.app.test_client().get("/metrics").text

    for series in (
        'leadway_notifications_total{authenticated_by="ed25519",status="accepted"}',
        'leadway_notifications_total{authenticated_by="none",status="refused"}',
        'leadway_rejections_total{reason="credentials_missing"}',
    ):
        assert _value(after, series) == _value(before, series) + 1
    assert _value(after, "leadway_receipt_seconds_count") == _value(before, "leadway_receipt_seconds_count") + 2


def test_a_scrape_tells_the_release(intake: Intake) -> None:
    assert _value(intake.app.test_client().get("/metrics").text, f'leadway_build_info{{version="{release()}"}}') == 1


def test_one_scrape_tells_the_counters_of_two_web_processes_and_a_worker_also_when_they_have_ended(
    sqlite_url: str, redis_url: str, tmp_path: Path
) -> None:
    with World(tmp_path, database_url=sqlite_url, redis_url=redis_url, settings={"WEB_PROCESSES": "2"}) as world:
        world.start("web", "worker")
        for call in world.double.place_calls(4, actions=[]):
            assert world.double.notify(call).status == 202
        world.wait_until_done(calls=4)

        def counted() -> bool:
            told = requests.get(f"{world.base_url}/metrics", timeout=5).text
            return (
                _value(told, 'leadway_notifications_total{authenticated_by="ed25519",status="accepted"}') == 4
                and _value(told, 'leadway_attempts_total{outcome="settled",work="call"}') == 4
                and _value(told, "leadway_stored_after_seconds_count") == 4
            )

        def counted_by_whichever_answers() -> None:
            for _ in range(4):
                eventually(counted, describe=lambda: requests.get(f"{world.base_url}/metrics", timeout=5).text)

        counted_by_whichever_answers()
        ended = _counting(world)
        for name in ("web", "worker"):
            world.processes.restart(name)
        world.wait_for_web()
        counted_by_whichever_answers()
        assert ended
        assert not ended & _counting(world)


def _counting(world: World) -> set[str]:
    """The processes that have files of their own."""
    return {file.stem.rpartition("_")[2] for file in world.processes.folder.rglob("var/metrics/*/*.db")}


def _value(told: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} ([0-9.e+]+)$", told, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_scrape_is_a_copy_of_at_most_a_second_ago_however_many_ask(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    copy = CopyOf(lambda: made.append(1) or len(made))  # type: ignore[func-returns-value]
    monkeypatch.setattr(copies, "COPY_SECONDS", 3600)
    with ThreadPoolExecutor(8) as askers:
        assert set(askers.map(lambda _: copy.get(), range(50))) == {1}
    monkeypatch.setattr(copies, "COPY_SECONDS", 0)
    assert copy.get() == 2


LOOPBACK, ELSEWHERE = {"REMOTE_ADDR": "127.0.0.1"}, {"REMOTE_ADDR": "192.0.2.7"}


@pytest.mark.parametrize(
    ("environ", "headers", "status"),
    [
        (LOOPBACK, {}, 200),
        (ELSEWHERE, {}, 403),
        (LOOPBACK, {"X-Forwarded-For": "192.0.2.7"}, 403),
        (ELSEWHERE, {"Authorization": "Bearer the-token-of-prometheus"}, 200),
        (ELSEWHERE, {"Authorization": "Bearer another"}, 403),
        (ELSEWHERE, {"Authorization": "Basic dGhlLXRva2VuLW9mLXByb21ldGhldXM6"}, 403),
    ],
)
def test_metrics_are_told_over_loopback_and_to_whoever_has_the_token(
    sqlite_url: str, redis_url: str, environ: dict[str, str], headers: dict[str, str], status: int
) -> None:
    with Intake(sqlite_url, redis_url, metrics_token=Secret("the-token-of-prometheus")) as intake:
        answer = intake.app.test_client().get("/metrics", environ_base=environ, headers=headers)
    assert answer.status_code == status
    assert ("METRICS_TOKEN" in answer.text) == (status == 403)


def test_without_a_token_metrics_are_told_to_no_other_machine(intake: Intake) -> None:
    for headers in ({}, {"Authorization": "Bearer "}):
        assert intake.app.test_client().get("/metrics", environ_base=ELSEWHERE, headers=headers).status_code == 403
