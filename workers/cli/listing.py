"""What `reconcile` and `backfill` share: a worker's connections, and times as people type them."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from models.database import COMMAND
from workers.cli.opened import Opened
from workers.process.connections import Connections, open_connections
from workers.telemetry.logs import set_up_logs
from workers.telemetry.metrics_files import share_counters


class Time(click.ParamType[datetime]):
    """`2026-03-01`, `2026-03-01T09:30`, `2026-03-01T09:30:00+01:00`; without a zone it is UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail("write a date or a time as 2026-03-01 or 2026-03-01T09:30, in UTC or with a zone", param, ctx)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


@contextmanager
def connected(this: Opened) -> Iterator[Connections]:
    """A worker's connections for this process. Logs from warnings up go to standard error. Raises Failure."""
    set_up_logs(level="WARNING", form="console")
    share_counters(this.settings)
    this.cipher()  # raises SettingsError for a key that cannot be used
    connections = open_connections(this.settings, worker=f"command-{secrets.token_hex(3)}", limits=COMMAND)
    try:
        yield connections
    finally:
        connections.close()
