"""Empties what is past its retention time: people's words go, the row stays, so that a listing brings nothing back."""

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection

from models.calls.calls import call_actions_table, calls_table
from models.database import moment
from models.follow_ups.follow_ups import follow_ups_table
from models.intake.notifications import notifications_table
from models.work.heartbeats import forget_gone
from models.work.work_rows import WorkStatus
from workers.app import app
from workers.process.connections import connections

log = structlog.get_logger(__name__)

BATCH = 500


@app.task(name="expired.prune")
def prune_expired() -> None:
    """Does nothing about calls without LEADWAY_RETENTION_DAYS."""
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
        sa.select(calls_table.c.location_id, calls_table.c.call_id)
        .where(
            calls_table.c.created_at < old, sa.func.coalesce(calls_table.c.started_at, calls_table.c.created_at) < old,
            calls_table.c.status.in_((WorkStatus.DONE, WorkStatus.DEAD)), calls_table.c.document.is_not(None),
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
    old = sa.select(notifications_table.c.notification_id).where(
        notifications_table.c.last_received_at < moment(-86_400.0 * days),
        notifications_table.c.document.is_not(None) | notifications_table.c.from_number.is_not(None),
    )
    keys = list(connection.execute(old.limit(BATCH)).scalars())
    emptied = sa.update(notifications_table).where(notifications_table.c.notification_id.in_(keys))
    connection.execute(emptied.values(document=sa.null(), from_number=None))
    return len(keys)


_EMPTY: tuple[tuple[sa.Table, dict[str, object]], ...] = (
    (calls_table, {
        "summary": None, "transcript": None, "translation": sa.null(), "extracted_data": sa.null(),
        "document": sa.null(), "from_number": None,
    }),
    (call_actions_table, {"parameters": {}}),
    (follow_ups_table, {"body": None, "title": None}),
    (notifications_table, {"document": sa.null(), "from_number": None}),
)  # fmt: skip
