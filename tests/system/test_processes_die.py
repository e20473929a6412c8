"""Web, worker and beat are killed, told to stop, or run twice: nothing is lost, nothing is done twice."""

import os
import random
import signal
import time

from tests.crash.stage import Stage
from tests.support.traffic import NOTES_OF, Traffic, assert_each_note_once
from tests.support.waiting import eventually

ENDS_WITHIN_SECONDS = 30.0
SEED = 20


def test_whatever_process_is_killed_while_calls_come_in_nothing_is_lost_and_nothing_is_doubled(stage: Stage) -> None:
    chance = random.Random(SEED)
    with Traffic(stage.world, per_second=4) as traffic:
        for victim in ("worker", "web", "beat", "web", "worker"):
            _wait_for_work(stage)
            time.sleep(chance.uniform(0.0, 0.5))  # any moment of it
            stage.kill(victim)
    stage.wait_for_peace(traffic.calls)
    assert_each_note_once(stage.world, traffic.calls)


def test_a_worker_that_is_told_to_stop_ends_what_it_has_in_hand_and_leaves_the_rest_to_others(
    stage_on_sqlite: Stage,
) -> None:
    stage, world = stage_on_sqlite, stage_on_sqlite.world
    with stage.world.another("worker") as name:
        world.double.fault("fetch", "delay", seconds=0.7)
        world.double.fault("list", "shortened", count=0)  # a list would take the rows over
        with Traffic(world, per_second=10) as traffic:
            in_hand = eventually(lambda: _in_hand(stage, name), describe="the second worker to have something in hand")

            assert world.processes.stop("worker-2", timeout=ENDS_WITHIN_SECONDS) == 0

        outcomes = {(row["subject"], row["fence"]): row["outcome"] for row in _attempts(stage, name)}
        assert {attempt: outcomes.get(attempt) for attempt in in_hand} == dict.fromkeys(in_hand, "done")
        assert not _in_hand(stage, name)
    stage.wait_for_peace(traffic.calls)
    assert_each_note_once(world, traffic.calls)


def test_two_workers_started_with_the_same_command_share_the_work(stage_on_sqlite: Stage) -> None:
    stage = stage_on_sqlite
    with stage.world.another("worker") as name:
        with Traffic(stage.world, per_second=6) as traffic:
            eventually(lambda: _attempts(stage, name), describe="an attempt by the second worker")
            eventually(lambda: _attempts(stage, name, others=True), describe="an attempt by the first worker")
        stage.wait_for_peace(traffic.calls)
        assert_each_note_once(stage.world, traffic.calls)
        readings = stage.world.rows(
            "SELECT subject, count(*) AS number FROM attempts WHERE kind = 'call' GROUP BY subject"
        )
        number = {row["subject"]: row["number"] for row in readings}
        assert {number[call.call_id] for call in traffic.calls} == {1}, "both dispatch, and enqueue nothing twice"


def test_a_web_process_that_is_told_to_stop_answers_what_it_has_begun(stage_on_sqlite: Stage) -> None:
    stage, world = stage_on_sqlite, stage_on_sqlite.world
    stage.arm("receipt_before_commit")
    call = world.double.place_call(actions=NOTES_OF, contact=True, booked=True)
    delivery = world.double.notify(call, wait=False)
    stage.wait_until_reached("receipt_before_commit")
    old = world.processes.pid("web")
    os.kill(old, signal.SIGTERM)
    stage.let_go("receipt_before_commit")

    assert delivery.wait(10)
    assert [attempt.status for attempt in delivery.attempts] == [202]
    eventually(
        lambda: world.processes.pid("web") != old,
        timeout=ENDS_WITHIN_SECONDS,
        describe="the old process to end and the supervisor to start another",
    )
    stage.wait_for_peace([call])


def _wait_for_work(stage: Stage) -> None:
    """Until some more attempts were made: then everybody is up again."""
    made = "SELECT count(*) FROM attempts WHERE outcome = 'done'"
    before = eventually(lambda: 1 + stage.world.scalar(made))
    eventually(lambda: stage.world.scalar(made) > before + 3, timeout=30, describe="attempts to be made")


def _in_hand(stage: Stage, worker: str) -> set[tuple[str, int]]:
    """The call and the fence of every attempt that this worker makes just now."""
    return {
        (row["subject"], row["fence"])
        for row in stage.world.rows(
            "SELECT subject, fence FROM work WHERE kind = 'call' AND running_on = :worker", worker=worker
        )
    }


def _attempts(stage: Stage, worker: str, *, others: bool = False) -> list[dict[str, object]]:
    """Attempts at calls that this worker made; with `others`, those of any other since it came."""
    came = "(SELECT started_at FROM heartbeats WHERE name = :worker)"
    whose = f"worker <> :worker AND started_at > {came}" if others else "worker = :worker"
    query = f"SELECT subject, fence, outcome FROM attempts WHERE kind = 'call' AND {whose}"
    return [dict(row) for row in stage.world.rows(query, worker=worker)]
