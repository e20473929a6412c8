"""What a worker process is connected to: opened once, when it starts, by its entry point."""

from dataclasses import dataclass, field

import redis

from models.accounts.token_encryption import TokenCipher, cipher_for
from models.database import Database, Limits, limits_of_worker
from models.follow_ups.rules import Rules
from models.follow_ups.rules_file import load_rules
from models.settings import Settings
from models.work.dispatch_order import ScanMemory
from models.work.fences import GreatestFence
from workers.leadway import Leadway
from workers.process.grouped_transactions import GroupedTransactions
from workers.process.kept_accounts import KeptAccounts
from workers.process.life_watch import LifeWatch
from workers.process.redis_address import redis_client
from workers.process.redis_epoch import RedisEpoch

REDIS_SECONDS = 0.25
"""Time-out of the client that the budget and the dispatcher use; both know what to do without an answer."""


@dataclass(frozen=True)
class Connections:
    settings: Settings
    database: Database
    grouped: GroupedTransactions
    """The short transactions of attempts, but for the claims."""
    claims: GroupedTransactions
    """Apart, so that a claim waits for no store."""
    accounts: KeptAccounts
    cipher: TokenCipher
    rules: Rules
    redis: "redis.Redis"
    leadway: Leadway
    worker: str
    """The name under which this process holds leases, new at each start."""
    greatest_fence: GreatestFence
    """That this process has seen; the budget's script carries it out of the database."""
    life_watch: LifeWatch
    scan_memory: ScanMemory = field(default_factory=ScanMemory)
    """Of the process's dispatches."""
    redis_epoch: RedisEpoch = field(default_factory=RedisEpoch)
    """That the process's dispatches see."""

    @property
    def attempt_seconds(self) -> float:
        """The deadline of an attempt, in seconds from its claim: well within its lease."""
        return min(20.0, 0.6 * self.settings.leadway_lease_seconds)

    @property
    def mark_seconds(self) -> float:
        """How long a row's enqueue mark holds, in seconds: then its message is taken for lost, and sent again."""
        return min(30.0, 0.5 * self.settings.leadway_lease_seconds)

    def close(self) -> None:
        self.grouped.close()
        self.claims.close()
        self.database.close()
        self.leadway.close()
        self.redis.close()


_open: Connections | None = None


def open_connections(settings: Settings, *, worker: str, limits: Limits | None = None) -> Connections:
    """Makes this process's connections; nothing is sent over them yet.

    `worker`: the name for its leases. `limits`: if they are not those of a worker. Raises RulesError, and SettingsError
    when an encryption key is unusable.
    """
    global _open
    cipher = cipher_for(settings)
    client = redis_client(settings.redis_url, seconds=REDIS_SECONDS, health_check_interval=10)
    greatest_fence = GreatestFence()
    life_watch = LifeWatch(client, greatest_fence)
    database = Database(settings.database_url, limits=limits or limits_of_worker(settings), greet=life_watch.greet)
    _open = Connections(
        settings=settings,
        database=database,
        grouped=GroupedTransactions(database),
        claims=GroupedTransactions(database),
        accounts=KeptAccounts(database),
        cipher=cipher,
        rules=load_rules(settings.leadway_rules_file),
        redis=client,
        leadway=Leadway(
            settings, cipher=cipher, client=client, database=database, worker=worker, greatest_fence=greatest_fence
        ),
        worker=worker,
        greatest_fence=greatest_fence,
        life_watch=life_watch,
    )
    return _open


def connections() -> Connections:
    """What this process is connected to. Raises RuntimeError before `open_connections`."""
    if _open is None:
        raise RuntimeError("this process is not connected: its entry point has to call open_connections()")
    return _open


def look_at_the_databases_life() -> None:
    """The step of this worker's tick."""
    this = connections()
    this.life_watch.look(this.database)
