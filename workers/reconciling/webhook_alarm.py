"""Raises one alarm when calls come unannounced, and ends it: reconciling must not hide a broken webhook."""

import structlog
from sqlalchemy import Connection

from models.reconciling import webhook_coverage
from workers.telemetry import metrics

log = structlog.get_logger(__name__)


def update_webhook_alarm(connection: Connection, location_id: str) -> None:
    """Judges the account's webhook by its newest calls; logs each change of the verdict once."""
    cause = webhook_coverage.judge(connection, location_id)
    metrics.WEBHOOK_ALARM.labels(location_id).set(0 if cause is None else 1)
    if not webhook_coverage.set_alarm(connection, location_id, cause):
        return
    if cause is None:
        log.info("webhook_alarm_ended", location_id=location_id)
    else:
        log.error("webhook_alarm_raised", location_id=location_id, cause=str(cause), meaning=cause.sentence)
