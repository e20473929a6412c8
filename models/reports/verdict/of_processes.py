"""The rules about Redis, the journals, our processes, and what they take from the queues."""

from collections.abc import Callable
from datetime import datetime

from models.calls.calls import CALL
from models.follow_ups.follow_ups import FOLLOW_UP
from models.reconciling.windows import WINDOW
from models.reports.verdict.evidence import Evidence
from models.reports.verdict.findings import Around
from models.reports.verdict.rule import Trouble, Troubles
from models.reports.wording import age, count, verb
from models.work import heartbeats
from models.work.heartbeats import NEEDED_PROCESSES, Heartbeat

NEEDED_QUEUES = tuple(sorted({CALL.queue, FOLLOW_UP.queue, WINDOW.queue}))
START = {"web": "python -m webhook", "worker": "python -m workers", "beat": "python -m workers beat"}


def redis_unreachable(around: Around) -> Troubles:
    if around.redis is not None and around.redis.trouble is not None:
        yield Trouble(
            f"Redis {around.redis.trouble}: notifications are received, everything else waits until it is back",
            around.redis.do,
        )


def redis_evicts(around: Around) -> Troubles:
    if around.redis is not None and around.redis.loses_messages:
        yield Trouble(
            f"Redis drops what it holds when it is full (maxmemory-policy {around.redis.policy})",
            "set it with `CONFIG SET maxmemory-policy noeviction`, or where its host sets it",
        )


def journal_not_drained(around: Around) -> Troubles:
    found = around.journals
    if found is not None and found.is_too_long:
        yield Trouble(
            f"{count(found.number, 'notification')} in the journals of this host, the oldest for"
            f" {age(found.oldest_seconds)}",
            "look whether web or a worker runs on this host and reaches the database",
        )


def journal_unreadable(around: Around) -> Troubles:
    if around.journals is not None and around.journals.unreadable:
        yield Trouble(
            f"{', '.join(around.journals.unreadable)} in LEADWAY_JOURNAL_DIR cannot be read",
            "look whose files they are",
        )


def missing(process: str) -> Callable[[Evidence, Around], Troubles]:
    def judge(evidence: Evidence, _: Around) -> Troubles:
        of_kind = [each for each in evidence.processes if each.process == process]
        if any(each.is_alive for each in of_kind):
            return
        heard = f", the last was heard {age(min(each.seconds_ago for each in of_kind))} ago" if of_kind else ""
        yield Trouble(
            f"no {process} process is alive{heard}: {NEEDED_PROCESSES[process]}", f"start one: `{START[process]}`"
        )

    return judge


def process_silent(evidence: Evidence, _: Around) -> Troubles:
    for process in NEEDED_PROCESSES:
        of_kind = [each for each in evidence.processes if each.process == process]
        silent = _unreplaced(of_kind, evidence.at)
        if silent and any(each.is_alive for each in of_kind):  # else the process is missing
            told = heartbeats.few([f"{each.name} for {age(each.seconds_ago)}" for each in silent])
            yield Trouble(
                f"{told} without a heartbeat, and no other {process} was started since",
                "end it if it hangs, and start one in its place; it is forgotten after a day",
            )


def _unreplaced(processes: list[Heartbeat], at: datetime) -> list[Heartbeat]:
    """Those that fell silent, but for as many as were started afterwards."""
    started = sorted((at - each.started_at).total_seconds() for each in processes if each.is_alive)
    silent = sorted((each for each in processes if not each.is_alive), key=lambda each: each.seconds_ago)
    left = []
    for each in silent:
        if started and started[0] < each.seconds_ago:
            started.pop(0)
        else:
            left.append(each)
    return left


def clock_skewed(evidence: Evidence, _: Around) -> Troubles:
    if skewed := heartbeats.skewed_clocks(evidence.processes):
        yield Trouble(f"clocks differ from the database's ({skewed})", "let all hosts keep time by NTP")


def versions_mixed(evidence: Evidence, _: Around) -> Troubles:
    if mixed := heartbeats.mixed_versions(evidence.processes):
        yield Trouble(f"processes run different versions ({mixed})", "restart those of the older release")


def two_deployments(evidence: Evidence, _: Around) -> Troubles:
    if different := heartbeats.different_redis(evidence.processes):
        yield Trouble(
            f"workers use different Redis ({different}): two deployments share this database, and neither sees what the"
            " other has enqueued",
            "give all one REDIS_URL, or each deployment a database of its own",
        )


def queue_not_consumed(evidence: Evidence, around: Around) -> Troubles:
    if unconsumed := heartbeats.unconsumed_queues(evidence.processes, NEEDED_QUEUES):
        queued = (around.redis and around.redis.queued) or {}
        number = sum(queued.get(queue, 0) for queue in unconsumed)
        waiting = f", where {count(number, 'message')} {verb('waits', number)}" if number else ""
        yield Trouble(
            f"workers are alive and take nothing from {', '.join(unconsumed)}{waiting}", "look at Redis, restart them"
        )
