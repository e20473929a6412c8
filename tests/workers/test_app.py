"""The Celery app: every task has its queue, nothing leans on Redis, and every task may run twice."""

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

from models.accounts import pauses
from models.accounts.pauses import PauseCause
from models.reconciling.windows import WindowKind
from tests.support.rows import write
from tests.support.waiting import meanwhile
from tests.support.worker import AtWork
from workers.app import QUEUES, SCHEDULE, app
from workers.dispatch_due import dispatch_due
from workers.reconciling.open_windows import open_windows


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


def test_tasks_are_named_noun_verb_and_written_in_a_module_that_the_app_includes() -> None:
    for name, task in our_tasks().items():
        assert [bool(part) for part in name.split(".")] == [True, True], name
        assert task.__module__ in app.conf.include, name


KEPT = [
    ("calls.fetch", ("a location", "a call")),
    ("due.dispatch", ()),
    ("expired.prune", ()),
    ("follow_ups.send", ("a location", "a follow-up")),
    ("grants.refresh", ("a location", "")),
    ("heartbeats.forget", ()),
    ("reconciliations.read_page", ("a location", "a slot")),
]
"""The messages of this release and of the one before. A line goes a release after nobody sends it any more; when a task
gets other arguments both lines stand here for a release (docs/upgrading.md)."""


def test_messages_of_the_release_before_are_understood() -> None:
    tasks = our_tasks()
    assert tasks.keys() == {name for name, _ in KEPT}, "a new task is listed too"
    for name, arguments in KEPT:
        inspect.signature(tasks[name].run).bind(*arguments)


# Every task may run twice


def something_to_do(at_work: AtWork, name: str) -> tuple[Any, ...]:
    """Work for every task; returns the arguments of this one."""
    at_work.settings.leadway_retention_days = 30
    old = at_work.fetched(actions=["CALL_TRANSFER"], ago=31 * 86_400)
    follow_up_id = at_work.owed()
    write(at_work.database, pauses.pause, at_work.location_id, cause=PauseCause.VERSION, detail="why")
    at_work.time_passes(31)
    at_work.change_call(old, first_heard_at=old.created_at)
    write(at_work.database, pauses.resume, at_work.location_id)
    call = at_work.double.place_call(actions=["CALL_TRANSFER"], contact=True)
    at_work.announce(call)
    given: dict[str, tuple[Any, ...]] = {
        "calls.fetch": (at_work.location_id, call.call_id),
        "follow_ups.send": (at_work.location_id, follow_up_id),
        "grants.refresh": (at_work.location_id, ""),
    }
    if name == "reconciliations.read_page":
        open_windows()
        given[name] = (at_work.location_id, WindowKind.REGULAR)
        our_tasks()[name](*given[name])  # what is left is its last page
    at_work.this.redis.flushall()
    return given.get(name, ())


def everything(at_work: AtWork) -> dict[str, Any]:
    """All that a task can change, but for what says how often it looked."""
    tables = (
        "calls",
        "work",
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
    task = {**our_tasks(), "due.dispatch": dispatch_due}[name]  # the task wakes the thread that dispatches
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
    for queue in QUEUES:
        for message in at_work.this.redis.lrange(queue, 0, -1):
            headers = json.loads(message)["headers"]
            assert (headers["retries"], headers["eta"], headers["expires"]) == (0, None, None), (
                "rows remember what is next"
            )
