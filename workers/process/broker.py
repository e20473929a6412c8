"""How Celery reaches Redis, in every process: its broker, from REDIS_URL, and what kombu lacks to go on without us."""

from functools import cache
from queue import Empty
from typing import Any
from urllib.parse import quote

import redis
import structlog
from kombu import Connection

from models.settings import Settings
from workers.app import app
from workers.process.redis_address import RedisAddress, redis_address, sentinel_options
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

TRANSPORT = {
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
"""kombu's options; times in seconds."""
SENTINEL_LIMITS = {"socket_timeout": 1, "socket_connect_timeout": 1}
"""For each Sentinel: the next one is asked when this one is gone."""


def connect_broker(settings: Settings) -> None:
    """Points the app at the Redis of these settings. Raises SettingsError."""
    app.conf.update(broker_of(settings.redis_url))
    app.amqp.Connection = PromptConnection


def broker_of(url: str) -> dict[str, Any]:
    """Celery's settings for a REDIS_URL. Raises SettingsError."""
    address = redis_address(url)
    options: dict[str, Any] = {**TRANSPORT}
    if address.master is not None:
        options |= {"master_name": address.master, "sentinel_kwargs": sentinel_options(address, SENTINEL_LIMITS)}
    return {
        "broker_url": _broker_url(address),
        "broker_use_ssl": False if address.tls is None else dict(address.tls),
        "broker_transport_options": options,
    }


def _broker_url(address: RedisAddress) -> str:
    """In kombu's dialect. TLS goes beside it."""
    login = "" if address.password is None else f":{quote(address.password, safe='')}@"
    login = quote(address.username or "", safe="") + login
    if address.socket is not None:
        return f"redis+socket://{login}{quote(address.socket)}?virtual_host={address.db}"
    scheme = "redis" if address.master is None else "sentinel"
    return ";".join(
        f"{scheme}://{login}{f'[{host}]' if ':' in host else host}:{port}/{address.db}" for host, port in address.hosts
    )


class PromptConnection(Connection):
    """Tries to reach Redis every second while Redis is away.

    kombu's own connection waits longer each time, up to 30 s, and Celery has no setting for that: after a long outage
    the worker would go on sleeping.
    """

    def ensure_connection(self, *given: Any, **options: Any) -> Any:
        return super().ensure_connection(*given, **{"interval_start": 1, "interval_step": 0, **options})

    def get_transport_cls(self) -> Any:
        return _patched(super().get_transport_cls())


@cache
def _patched(transport: Any) -> Any:
    """The transport, but with two differences.

    A message that kombu or Celery cannot read is dropped. It would end the worker, and each next one: nothing is lost
    with it, for the row that it may have been about is enqueued again.

    A server that has become a replica counts as a lost connection: the address may lead to another server by now. kombu
    would keep the connection, and get the same refusal for ever.
    """

    class Channel(transport.Channel):
        connection_class = _leaving_replicas(transport.Channel.connection_class)
        connection_class_ssl = _leaving_replicas(transport.Channel.connection_class_ssl)

        def _brpop_read(self, **options: Any) -> Any:
            try:
                return super()._brpop_read(**options)
            except (Empty, *transport.connection_errors, *transport.channel_errors):
                raise
            except Exception as error:
                log.error("message_unreadable", error=type(error).__name__)
                metrics.UNREADABLE_MESSAGES.inc()
                return True

    return type(transport.__name__, (transport,), {"Channel": Channel})


def _leaving_replicas(connection: Any) -> Any:
    """This class of redis-py's connections, but it disconnects from a server that only reads."""

    class LeavingReplicas(connection):
        def read_response(self, *given: Any, **named: Any) -> Any:
            try:
                return super().read_response(*given, **named)
            except redis.ReadOnlyError:
                self.disconnect()
                raise redis.ConnectionError("the server has become a replica") from None

    return LeavingReplicas
