"""The Celery app: every task has its queue, nothing leans on Redis, and every task may run twice."""

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workers
from models.accounts import pauses
from models.accounts.pauses import PauseCause
from models.settings import Settings
from tests.support.waiting import meanwhile
from tests.support.worker import AtWork
from workers.app import QUEUES, WAKE_UP_TRANSPORT, app, connect_broker, connect_for_wake_ups
from workers.schedule import SCHEDULE

FOLDER = Path(workers.__file__).parent
OF_CELERYS_RETRIES = {"retry", "countdown", "eta", "apply_async", "delay", "autoretry_for", "max_retries", "acks_late"}
ALLOWED = {
    ("app.py", "max_retries"),
    ("wake_up.py", "retry"),
    ("connections.py", "retry"),
    ("system.py", "retry"),
    ("standing.py", "retry"),
}
"""About reaching Redis, not about running tasks again."""


def our_tasks() -> dict[str, Callable[..., None]]:
    app.loader.import_default_modules()
    return {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}


def queue_of(name: str) -> str:
    return str(app.amqp.router.route({}, name)["queue"].name)


def test_every_task_of_the_schedule_exists() -> None:
    assert {entry["task"] for entry in SCHEDULE.values()} <= our_tasks().keys()


def test_every_task_has_a_queue_that_the_worker_consumes() -> None:
    queues = {name: queue_of(name) for name in our_tasks()}
    assert set(queues.values()) <= set(QUEUES)
    assert queues["calls.fetch"] == "calls"
    assert queues["follow_ups.send"] == "follow_ups"
    assert queues["due.dispatch"] == "housekeeping"


def test_ticks_expire_so_that_none_pile_up_while_no_worker_listens() -> None:
    assert all(2 <= entry["options"]["expires"] <= 3600 for entry in SCHEDULE.values())
    assert SCHEDULE["dispatch what is due"]["options"]["expires"] == 2


def test_tasks_are_named_noun_verb_and_written_in_a_module_that_the_app_includes() -> None:
    for name, task in our_tasks().items():
        assert [bool(part) for part in name.split(".")] == [True, True], name
        assert task.__module__ in app.conf.include, name


def test_nowhere_are_celerys_own_retries_countdowns_or_etas_used() -> None:
    found = set()
    for file in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[Any] = [node.arg] if isinstance(node, ast.keyword) else []
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            names += (
                [key.value for key in node.keys if isinstance(key, ast.Constant)] if isinstance(node, ast.Dict) else []
            )
            found |= {(file.name, name) for name in names if name in OF_CELERYS_RETRIES}
    assert found - ALLOWED == set()


def test_the_measured_settings_hold() -> None:
    wanted = {
        "task_acks_late": False, "task_ignore_result": True, "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True, "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None, "task_serializer": "json", "accept_content": ["json"],
        "result_backend": None, "enable_utc": True, "task_create_missing_queues": False,
    }  # fmt: skip
    assert {name: app.conf[name] for name in wanted} == wanted
    for queue in app.conf.task_queues:
        assert queue.exchange is None or queue.exchange.type == "direct"


def test_worker_and_web_reach_redis_with_the_limits_that_were_measured(redis_url: str) -> None:
    settings = Settings(redis_url=redis_url)
    connect_broker(settings)
    from workers.app import WORKER_TRANSPORT

    measured = {
        "socket_timeout": 5, "socket_connect_timeout": 2, "socket_keepalive": True, "health_check_interval": 5,
        "visibility_timeout": 300, "unacked_restore_interval": 5, "unacked_restore_throttle": 1,
    }  # fmt: skip
    assert {name: WORKER_TRANSPORT[name] for name in measured} == measured
    before = {
        name: app.conf[name]
        for name in (
            "broker_connection_timeout", "broker_pool_limit", "task_publish_retry", "task_send_sent_event",
            "broker_transport_options",
        )
    }  # fmt: skip
    connect_for_wake_ups(settings)
    try:
        assert app.conf.broker_transport_options == WAKE_UP_TRANSPORT
        assert (app.conf.task_publish_retry, app.conf.broker_connection_timeout) == (False, 0.25)
        assert {WAKE_UP_TRANSPORT[name] for name in ("max_retries", "interval_start", "interval_step")} == {0}
        assert WAKE_UP_TRANSPORT["socket_timeout"] == WAKE_UP_TRANSPORT["socket_connect_timeout"] == 0.25
    finally:
        app.conf.update(before)


# Every task may run twice


def something_to_do(at_work: AtWork, name: str) -> tuple[Any, ...]:
    """Work for every task; returns the arguments of this one."""
    at_work.settings.leadway_retention_days = 30
    old = at_work.fetched(actions=["CALL_TRANSFER"], ago=31 * 86_400)
    follow_up_id = at_work.owed()
    with at_work.database.transaction() as connection:
        pauses.pause(connection, at_work.location_id, cause=PauseCause.VERSION, detail="why")
    at_work.time_passes(31)
    at_work.change_call(old, created_at=old.created_at)
    with at_work.database.transaction() as connection:
        pauses.resume(connection, at_work.location_id)
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True)
    at_work.announce(call)
    given: dict[str, tuple[Any, ...]] = {
        "calls.fetch": (at_work.location_id, call.call_id),
        "follow_ups.send": (follow_up_id,),
    }
    if name == "reconciliations.read_page":
        our_tasks()["accounts.reconcile"]()
        [window] = at_work.rows("reconciliations")
        given[name] = (window["reconciliation_id"],)
        our_tasks()[name](*given[name])  # what is left is its last page
    at_work.this.redis.flushall()
    return given.get(name, ())


def everything(at_work: AtWork) -> dict[str, Any]:
    """All that a task can change, but for what says how often it looked."""
    tables = (
        "calls",
        "call_actions",
        "follow_ups",
        "attempts",
        "notifications",
        "pauses",
        "accounts",
        "reconciliations",
    )
    truth = at_work.double.truth
    sent = {queue: at_work.this.redis.lrange(queue, 0, -1) for queue in ("calls", "follow_ups")}
    return {
        **{table: at_work.rows(table) for table in tables},
        "written": (truth.notes(), truth.tasks(), truth.tag_writes(), truth.enrolments()),
        "sent": sent,
    }


@pytest.mark.parametrize("at_once", [False, True], ids=["in a row", "at once"])
@pytest.mark.parametrize("name", sorted(our_tasks()))
def test_every_task_may_run_twice(at_work: AtWork, name: str, at_once: bool) -> None:
    arguments = something_to_do(at_work, name)
    task = our_tasks()[name]
    before = everything(at_work)
    if at_once:
        with meanwhile(lambda: task(*arguments)), meanwhile(lambda: task(*arguments)):
            pass
    else:
        task(*arguments)
    after = everything(at_work)
    if name in ("calls.fetch", "follow_ups.send", "due.dispatch", "expired.prune"):
        assert after != before, "the test has something to show"
    task(*arguments)
    assert everything(at_work) == after
    assert len(at_work.double.truth.notes()) == (name == "follow_ups.send")
    assert len(at_work.rows("attempts")) == len(before["attempts"]) + (name in ("calls.fetch", "follow_ups.send"))
    for messages in after["sent"].values():
        assert len(messages) == len(set(messages))
