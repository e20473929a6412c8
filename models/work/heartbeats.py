"""Heartbeats: which of our processes are alive, by the database's clock."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from models.database import UtcDateTime, insert, metadata, moment, now

BEAT_SECONDS = 3.0
GONE_AFTER_SECONDS = 10.0
FORGOTTEN_AFTER_SECONDS = 86_400.0
NEEDED_PROCESSES = {
    "web": "Leadway's notifications are refused by the connection",
    "worker": "no call is fetched and no note written",
    "beat": "nothing is emptied after its retention time",
}
"""What happens while none of the kind is alive."""
SKEW_SECONDS = 1.0
"""A clock that differs by more from the database's is told."""
NAMED = 5
"""Processes, where a line tells which."""

heartbeats_table = sa.Table(
    "heartbeats",
    metadata,
    sa.Column("name", sa.Text, primary_key=True, comment="of the process, new at each start"),
    sa.Column("process", sa.Text, nullable=False, comment="web, worker, beat"),
    sa.Column("slots", sa.Integer, nullable=False, comment="attempts that a worker makes at once"),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("beat_at", UtcDateTime, nullable=False),
    sa.Column("version", sa.Text, nullable=True, comment="release+schema; null: a release before 0005"),
    sa.Column(
        "clock_offset",
        sa.Float,
        nullable=True,
        comment="seconds by which the process's clock is ahead of the database's",
    ),
    sa.Column("queues", sa.Text, nullable=True, comment="of Redis, from which a worker takes messages now"),
    sa.Column("redis_epoch", sa.Text, nullable=True, comment="of the Redis that a worker enqueues into"),
)


@dataclass(frozen=True)
class Heartbeat:
    """The last heartbeat of a process."""

    name: str
    process: str
    slots: int
    started_at: datetime
    seconds_ago: float
    version: str | None
    clock_offset: float | None
    """Seconds by which the process's clock is ahead of the database's; negative: behind. None: not told."""
    queues: str | None
    """From which a worker takes messages, separated by commas. None: not told."""
    redis_epoch: str | None
    """Of the memory of the Redis that a worker enqueues into. None: not told."""

    @property
    def is_alive(self) -> bool:
        return self.seconds_ago < GONE_AFTER_SECONDS

    @property
    def has_skewed_clock(self) -> bool:
        return self.is_alive and abs(self.clock_offset or 0.0) > SKEW_SECONDS


def beat(
    connection: Connection,
    name: str,
    *,
    process: str,
    slots: int = 0,
    version: str | None = None,
    queues: str | None = None,
    redis_epoch: str | None = None,
) -> None:
    """Writes that the process is alive now, and how far its clock is from the database's."""
    before = datetime.now(UTC)
    at = now(connection)
    here = before + (datetime.now(UTC) - before) / 2
    offset = (here - at).total_seconds()
    beating = {
        "beat_at": moment(), "slots": slots, "clock_offset": offset, "queues": queues, "redis_epoch": redis_epoch,
    }  # fmt: skip
    connection.execute(
        insert(connection, heartbeats_table)
        .values(name=name, process=process, started_at=moment(), version=version, **beating)
        .on_conflict_do_update(index_elements=["name"], set_=beating)
    )


def leave(connection: Connection, name: str) -> None:
    """Removes the heartbeat of a process that ends on purpose."""
    connection.execute(sa.delete(heartbeats_table).where(heartbeats_table.c.name == name))


def forget_gone(connection: Connection) -> None:
    """Removes the heartbeats of processes that ended long ago."""
    connection.execute(sa.delete(heartbeats_table).where(heartbeats_table.c.beat_at < moment(-FORGOTTEN_AFTER_SECONDS)))


def live_workers(connection: Connection) -> list[str]:
    """The names of the workers that are alive."""
    return list(connection.execute(_LIVE_WORKERS).scalars())


def live_slots(connection: Connection) -> int:
    """How many attempts all live workers together make at once."""
    return int(connection.execute(_LIVE_SLOTS).scalar_one())


def all_of(connection: Connection) -> list[Heartbeat]:
    """One for each process that is alive or ended without `leave` in the last day."""
    at = now(connection)
    rows = connection.execute(
        sa.select(heartbeats_table).order_by(heartbeats_table.c.process, heartbeats_table.c.started_at)
    )
    return [
        Heartbeat(
            row.name,
            row.process,
            row.slots,
            row.started_at,
            (at - row.beat_at).total_seconds(),
            row.version,
            row.clock_offset,
            row.queues,
            row.redis_epoch,
        )
        for row in rows
    ]


def mixed_versions(processes: Iterable[Heartbeat]) -> str:
    """`0.1.0+0005: web-1@a, worker-1@a; older: beat-1@b`: who runs which version. Empty when all live ones run one."""
    names: dict[str, list[str]] = {}
    for each in processes:
        if each.is_alive:
            names.setdefault(each.version or "older", []).append(each.name)
    told = [f"{version}: {few(of_it)}" for version, of_it in sorted(names.items())]
    return "; ".join(told) if len(told) > 1 else ""


def skewed_clocks(processes: Iterable[Heartbeat]) -> str:
    """`worker-1@a is 5.0 s ahead, web-1@b is 3.1 s behind`. Empty when all clocks agree with the database's."""
    skewed = [each for each in processes if each.has_skewed_clock]
    told = (
        f"{each.name} is {abs(each.clock_offset or 0):.1f} s {'ahead' if (each.clock_offset or 0) > 0 else 'behind'}"
        for each in skewed
    )
    return few(list(told))


def unconsumed_queues(processes: Iterable[Heartbeat], queues: Collection[str]) -> list[str]:
    """Those of `queues` from which no live worker takes messages, although workers are alive and all tell."""
    told = [each.queues for each in processes if each.is_alive and each.process == "worker"]
    if not told or None in told:
        return []
    consumed = {queue for of_one in told if of_one is not None for queue in of_one.split(",")}
    return sorted(set(queues) - consumed)


def different_redis(processes: Iterable[Heartbeat]) -> str:
    """`worker-1@a, worker-2@a; worker-1@b`: which workers share a Redis. Empty when all that tell share one."""
    names: dict[str, list[str]] = {}
    for each in processes:
        if each.is_alive and each.redis_epoch is not None:
            names.setdefault(each.redis_epoch, []).append(each.name)
    return "; ".join(sorted(few(of_it) for of_it in names.values())) if len(names) > 1 else ""


def few(names: Sequence[str]) -> str:
    """`a, b, c, d, e and 7 more`."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def seconds_since_heard(connection: Connection) -> dict[str, float]:
    """Of each live process by its name. Works on the schema of any release: `migrate` asks it about older ones."""
    at = now(connection)
    return {name: (at - beat_at).total_seconds() for name, beat_at in connection.execute(_HEARD)}


def _alive() -> sa.ColumnElement[bool]:
    return heartbeats_table.c.beat_at > moment(-GONE_AFTER_SECONDS)


_OF_LIVE_WORKERS = (_alive(), heartbeats_table.c.process == "worker")
_LIVE_WORKERS = sa.select(heartbeats_table.c.name).where(*_OF_LIVE_WORKERS)
_HEARD = sa.select(heartbeats_table.c.name, heartbeats_table.c.beat_at).where(_alive()).order_by("name")
_LIVE_SLOTS = sa.select(sa.func.coalesce(sa.func.sum(heartbeats_table.c.slots), 0)).where(*_OF_LIVE_WORKERS)
"""Built once: every dispatch runs them."""
