"""Takes notifications in: from the inbox, where the web process wrote them, into their history and into work.

Runs before each dispatch. Several at once do no harm: each takes rows of its own, and what one transaction takes is
deleted, counted and made work by it, or by none.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import StatementError

from models.accounts import accounts
from models.calls import calls
from models.database import Database, is_of_one_row, now
from models.failpoints import failpoint
from models.intake import inbox, notifications, quarantine, rejection_counts
from models.intake.inbox import ScanBound
from models.intake.notifications import Arrival, NotificationStatus
from models.reconciling import schedule, unknown_calls
from workers.process.connections import connections
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

NOT_SERVED = "location_not_served"
QUARANTINED = "quarantined"


def take_in(database: Database, bound: ScanBound | None = None) -> None:
    """Takes in what waits, batch by batch. Raises SQLAlchemyError when the database is away: then it all waits.

    `bound`: where this process' scans begin; None: at the beginning.
    """
    bound = bound or ScanBound()
    while True:
        with database.reading() as connection:  # no write lock is asked for while nothing waits
            numbers = inbox.numbers(connection, bound)
        if not numbers or _take_in_batch(database, numbers) < inbox.ARRIVALS_AT_ONCE:
            return


_bound = ScanBound()


def take_in_what_waits() -> None:
    """The step of this worker's tick."""
    take_in(connections().database, _bound)


def _take_in_batch(database: Database, numbers: Sequence[int]) -> int:
    """Returns how many rows have left the inbox."""
    try:
        taken = _committed(database, numbers)
    except (StatementError, ValueError) as error:
        if not is_of_one_row(error):
            raise
        taken = _take_in_singly(database, numbers)
    for status, number in taken.items():
        metrics.TAKEN_IN.labels(status).inc(number)
    if taken:
        log.info("notifications_taken_in", **{str(status): number for status, number in taken.items()})
        failpoint("taken_in")
    return taken.total()


def _committed(database: Database, numbers: Sequence[int]) -> Counter[str]:
    """Takes them in a transaction; then they leave the inbox also where that is a file of its own."""
    counted = database.transact(partial(_take, numbers=numbers))
    failpoint("taken_in_committed")
    inbox.forget(database, numbers)
    return counted


def _take(connection: Connection, numbers: Sequence[int]) -> Counter[str]:
    """In one transaction: takes rows of the inbox, writes their history, makes them work. Returns how many became
    what."""
    taken = list(inbox.take(connection, numbers).values())
    if not taken:
        return Counter()
    failpoint("inbox_taken")
    served = accounts.served_among(connection, {each.location_id for each in taken if each.location_id is not None})
    decided = [_decided(each, served=each.location_id in served) for each in taken]
    arrivals = _without_unknown(connection, decided)
    if not arrivals:
        return Counter({NotificationStatus.IGNORED.value: len(taken)})
    notifications.merge(connection, arrivals)
    failpoint("notifications_merged")
    heard_at = {each.call_key: each.received_at for each in reversed(arrivals) if each.call_key is not None}
    calls.announce_all(connection, heard_at, heard_at=heard_at)
    for location_id in sorted(
        {each.location_id for each in arrivals if each.location_id and each.status is NotificationStatus.UNRESOLVED}
    ):
        schedule.look_for_unresolved(connection, location_id)
    failpoint("taken_in_before_commit")
    counted = Counter(each.status.value for each in arrivals)
    counted[NotificationStatus.IGNORED.value] += len(taken) - len(arrivals)
    return +counted


def _decided(arrival: Arrival, *, served: bool) -> Arrival:
    """Ignores it when its account is not served, whatever the receipt saw: accounts are added and removed."""
    if served or arrival.status is NotificationStatus.IGNORED:
        return arrival
    return replace(arrival, status=NotificationStatus.IGNORED, reason=NOT_SERVED, call_id=None, document=None)


def _without_unknown(connection: Connection, arrivals: Sequence[Arrival]) -> Sequence[Arrival]:
    """Without the signed ones that name unknown calls of accounts beyond their ceiling: these are only counted.

    If there is such a call, Leadway's list brings it.
    """
    signed = [each for each in arrivals if each.is_signed and each.status is not NotificationStatus.IGNORED]
    beyond = {
        location_id
        for location_id in sorted({each.location_id for each in signed if each.location_id is not None})
        if unknown_calls.are_too_many(connection, location_id)
    }
    dropped = {
        each.arrival_id: each.location_id
        for each in signed
        if each.location_id in beyond and unknown_calls.is_one(connection, each.location_id, each.call_id)
    }
    if not dropped:
        return arrivals
    trace = {"at": now(connection).isoformat(timespec="seconds"), "locations": sorted(set(dropped.values()))}
    rejection_counts.count(connection, unknown_calls.TOO_MANY, number=len(dropped), trace=trace)
    log.warning("signed_notifications_only_counted", number=len(dropped), location_ids=trace["locations"])
    return [each for each in arrivals if each.arrival_id not in dropped]


def _take_in_singly(database: Database, numbers: Sequence[int]) -> Counter[str]:
    """After the database refused a batch: each row in a transaction of its own, so that one row stops no other."""
    taken: Counter[str] = Counter()
    for number in numbers:
        try:
            taken += _committed(database, [number])
        except (StatementError, ValueError) as error:
            if not is_of_one_row(error):
                raise
            kind = type(error).__name__
            if database.transact(partial(quarantine.set_aside, number=number, error=kind)):
                inbox.forget(database, [number])
                log.error("notification_quarantined", number=number, error=kind)
                taken[QUARANTINED] += 1
    return taken
