"""The Celery app: its queues and its settings. How it reaches Redis: workers/process/broker.py.

Redis holds hints: the rows in the database know what is due. Hence early acknowledgement, no results, and none of
Celery's retries, countdowns, ETAs or expiries. What has to go on every few seconds is no matter of Celery's either:
each worker ticks by itself (workers/process/ticks.py).
"""

from typing import Any

from celery import Celery
from celery.schedules import crontab
from kombu import Queue
from kombu.utils.imports import symbol_by_name

from models.settings import read_settings

HOUSEKEEPING = "housekeeping"
QUEUES = ("calls", "follow_ups", HOUSEKEEPING)

SCHEDULE = {
    "empty what is past its retention time": {"task": "expired.prune", "schedule": crontab(hour="3", minute="17")},
    "forget the heartbeats of processes that are gone": {"task": "heartbeats.forget", "schedule": crontab(minute="47")},
}
"""Beat's, in UTC. Times and not intervals: an interval begins anew when beat starts, and a day's would never be over
where beat is started every day. Everything may be run twice at once, so two beats do no harm."""


def _from_environment() -> dict[str, Any]:
    """Read when Celery first needs its configuration, so that `celery -A workers.app …` works as people expect.

    By name, because what knows how Redis is reached stands above this module."""
    broker: dict[str, Any] = symbol_by_name("workers.process.broker:broker_of")(read_settings().redis_url)
    return broker


app = Celery(
    "leadway-calls",
    include=[
        "workers.fetch_call",
        "workers.send_follow_up",
        "workers.dispatch_due",
        "workers.heal_pauses",
        "workers.read_page",
        "workers.prune_expired",
    ],
)
app.add_defaults(_from_environment)
app.Task.Request = "workers.process.celery_patches:Hint"
app.conf.update(
    # A message is a hint. To keep unacknowledged messages would cost two round trips for each.
    task_queues=[Queue(name, routing_key=name, no_ack=True) for name in QUEUES],
    task_default_queue=HOUSEKEEPING,
    task_create_missing_queues=False,
    task_routes={"calls.*": {"queue": "calls"}, "follow_ups.*": {"queue": "follow_ups"}},
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    task_acks_late=False,
    task_serializer="json",
    accept_content=["json"],
    enable_utc=True,
    timezone="UTC",
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_send_task_events=True,
    task_send_sent_event=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # What Redis refuses (as a replica, for a missing right) is over some time: reconnect, as after a lost connection.
    broker_channel_error_retry=True,
    beat_schedule=SCHEDULE,
)
