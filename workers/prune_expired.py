"""The tasks of beat's schedule: empties rows past the retention time, and forgets processes that are gone.

People's words go, the rows stay, so that no listing brings the words back.
"""

import structlog

from models.retention import empty_calls, empty_notifications
from models.work.heartbeats import forget_gone
from workers.app import app
from workers.process.connections import connections

log = structlog.get_logger(__name__)


@app.task(name="expired.prune")
def prune_expired() -> None:
    """Empties batch by batch; without LEADWAY_RETENTION_DAYS no call and no notification is emptied."""
    this = connections()
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


@app.task(name="heartbeats.forget")
def forget_heartbeats() -> None:
    """Removes the heartbeats of processes that ended long ago without a word."""
    connections().database.transact(forget_gone)
