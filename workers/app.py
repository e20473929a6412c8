"""The Celery app: its queues, its settings, and how a process reaches Redis.

Redis holds hints: the rows in the database know what is due. Hence early acknowledgement, no results, and none of
Celery's retries, countdowns, ETAs or expiries. What has to go on every few seconds is no matter of Celery's either:
each worker ticks by itself (workers/process/ticks.py).
"""

from typing import Any

from celery import Celery
from celery.schedules import crontab
from kombu import Queue

from models.settings import Settings, read_settings

HOUSEKEEPING = "housekeeping"
QUEUES = ("calls", "follow_ups", HOUSEKEEPING)

SCHEDULE = {
    "empty what is past its retention time": {"task": "expired.prune", "schedule": crontab(hour="3", minute="17")},
    "forget the heartbeats of processes that are gone": {"task": "heartbeats.forget", "schedule": crontab(minute="47")},
}
"""Beat's, in UTC. Times and not intervals: an interval begins anew when beat starts, and a day's would never be over
where beat is started every day. Everything may be run twice at once, so two beats do no harm."""

WORKER_TRANSPORT = {
    # Without these a half-open connection leaves a worker deaf for minutes. kombu looks at each health check whether a
    # BRPOP is overdue by one interval: with 5 s it notices after 11 s at most; each further dead connection costs 5 s.
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
    "socket_keepalive": True,
    "health_check_interval": 5,
    "visibility_timeout": 300,
    "unacked_restore_interval": 5,
    "unacked_restore_throttle": 1,
    # Queues take turns: a long queue cannot keep the messages of another one waiting.
    "queue_order_strategy": "round_robin",
}
"""kombu's options in workers and beat; times in seconds."""


def _from_environment() -> dict[str, Any]:
    """Read when Celery first needs its configuration, so that `celery -A workers.app …` works as people expect."""
    return {"broker_url": read_settings().redis_url}


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
    broker_transport_options=WORKER_TRANSPORT,
    beat_schedule=SCHEDULE,
)


def connect_broker(settings: Settings) -> None:
    """Points the app at the Redis of these settings, as a worker or beat does."""
    app.conf.update(broker_url=settings.redis_url)
