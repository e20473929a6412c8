"""How long a process waits for the database, and how many connections it has at once."""

from dataclasses import dataclass, replace

from models.settings import Settings


@dataclass(frozen=True)
class Limits:
    """How long a process waits for the database, in seconds, and how often it repeats a transaction that broke."""

    connect: int
    lock: float
    statement: float
    retries: int
    pool: int
    """Connections at once; who wants one more waits."""
    kept: int
    """Of these as many stay open while nobody uses them: the server's connections are few, and others want them."""
    slot: float
    """How long a thread waits for one of them, also when the server has no free slot."""
    busy: float = 30.0
    """For the write lock of a SQLite file."""


WEB = Limits(connect=2, lock=0.6, statement=0.7, retries=0, pool=6, kept=2, slot=0.7, busy=0.6)
"""Of pages, probes and the copy of the accounts."""
HEARTBEAT = replace(WEB, pool=2, kept=1)
"""Of the heartbeat of a web process, and of what it drains."""
RECEIPTS = Limits(connect=2, lock=0.3, statement=0.7, retries=0, pool=2, kept=1, slot=0.0, busy=0.3)
"""Of the one thread that writes receipts down."""
LOOKING = Limits(connect=2, lock=0.05, statement=0.25, retries=0, pool=1, kept=1, slot=0.0, busy=0.05)
"""Of the same with a look that may as well be left out."""
WORKER = Limits(connect=2, lock=3.0, statement=5.0, retries=8, pool=8, kept=8, slot=15.0)
GROUPED = Limits(connect=2, lock=0.3, statement=5.0, retries=1, pool=1, kept=1, slot=15.0)
"""Of transactions in which others wait too. A lock that is not had soon is waited for by who needs it."""
COMMAND = Limits(connect=5, lock=30.0, statement=300.0, retries=2, pool=4, kept=1, slot=30.0)


def limits_of_web(settings: Settings) -> Limits:
    pool = settings.database_pool_size or min(WEB.pool, settings.web_other_threads + 2)
    return replace(WEB, pool=pool, kept=min(WEB.kept, pool))


def limits_of_worker(settings: Settings) -> Limits:
    """Most transactions of attempts go through two connections (docs/decisions/0094), so a few others are enough."""
    pool = settings.database_pool_size or min(WORKER.pool, settings.worker_threads)
    return replace(WORKER, pool=pool, kept=pool)


def connections_needed(settings: Settings) -> dict[str, int]:
    """The connections to PostgreSQL that one process of each kind has at most; `web` is all WEB_PROCESSES of a host."""
    of_one = limits_of_web(settings).pool + HEARTBEAT.pool + RECEIPTS.pool + LOOKING.pool
    return {
        "web": of_one * settings.web_processes,
        "worker": limits_of_worker(settings).pool + 2 * GROUPED.pool,
        "beat": 1,
    }
