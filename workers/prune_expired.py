"""Empties rows past the retention time: people's words go, the rows stay, so that no listing brings the words back."""

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from models.calls.calls import call_actions, calls
from models.database import moment
from models.follow_ups.follow_ups import follow_ups
from models.intake.notifications import notifications
from models.work.heartbeats import forget_gone
from models.work.lifecycle import WorkStatus
from workers.app import app
from workers.process.connections import connections

log = structlog.get_logger(__name__)

BATCH = 500


@app.task(name="expired.prune")
def prune_expired() -> None:
    """Empties batch by batch; without LEADWAY_RETENTION_DAYS no call and no notification is emptied."""
    this = connections()
    this.database.transact(forget_gone)
    days = this.settings.leadway_retention_days
    if days is None:
        return
    emptied = 0
    while batch := this.database.transact(lambda connection: empty_calls(connection, days=days)):
        emptied += batch
    if emptied:
        log.info("expired_emptied", calls=emptied)
    while this.database.transact(lambda connection: empty_notifications(connection, days=days)):
        pass


def empty_calls(connection: Connection, *, days: int) -> int:
    """Empties one batch of calls that are settled and older than so many days; returns how many."""
    old = moment(-86_400.0 * days)
    keys = connection.execute(
        sa.select(calls.c.location_id, calls.c.call_id)
        .where(
            calls.c.created_at < old, sa.func.coalesce(calls.c.started_at, calls.c.created_at) < old,
            calls.c.status.in_((WorkStatus.DONE, WorkStatus.DEAD)), calls.c.document.is_not(None),
        )
        .limit(BATCH)
    ).all()  # fmt: skip
    for location_id, call_id in keys:
        for table, values in _EMPTY:
            of_call = sa.and_(table.c.location_id == location_id, table.c.call_id == call_id)
            connection.execute(sa.update(table).where(of_call).values(values))
    return len(keys)


def empty_notifications(connection: Connection, *, days: int) -> int:
    """The same for notifications of no call that is kept: ignored, unresolved, or of a call that never had a log."""
    old = sa.select(notifications.c.notification_id).where(
        notifications.c.last_received_at < moment(-86_400.0 * days),
        notifications.c.document.is_not(None) | notifications.c.from_number.is_not(None),
    )
    keys = list(connection.execute(old.limit(BATCH)).scalars())
    emptied = sa.update(notifications).where(notifications.c.notification_id.in_(keys))
    connection.execute(emptied.values(document=sa.null(), from_number=None))
    return len(keys)


_EMPTY: tuple[tuple[sa.Table, dict[str, object]], ...] = (
    (calls, {
        "summary": None, "transcript": None, "translation": sa.null(), "extracted_data": sa.null(),
        "document": sa.null(), "from_number": None,
    }),
    (call_actions, {"parameters": {}}),
    (follow_ups, {"body": None, "title": None}),
    (notifications, {"document": sa.null(), "from_number": None}),
)  # fmt: skip
