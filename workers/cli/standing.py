"""Whether the system needs a person: looks at database, Redis, processes and accounts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import redis

from models.accounts.pauses import PauseCause
from models.database import now
from models.intake import inbox, journal, quarantine
from models.intake.inbox import Waiting
from models.intake.journal import WaitingInJournals
from models.reports import overview
from models.reports.overview import AccountOverview
from models.settings import Settings
from models.work import heartbeats
from models.work.heartbeats import NEEDED_PROCESSES, Heartbeat
from workers.app import QUEUES
from workers.cli.opened import Failure, expected_errors, opened, read_checked_settings
from workers.cli.screen import age, count
from workers.process.redis_address import redis_client

PING_SECONDS = 1.0
FINE, NEEDS_A_PERSON, CANNOT_TELL = range(3)


@dataclass(frozen=True)
class RedisSeen:
    """What one look at Redis has found."""

    trouble: str | None = None
    """Why it cannot be used, in words; None: it answers."""
    do: str = ""
    policy: str | None = None
    """What it does when its memory is full (maxmemory-policy). None: it does not tell us."""

    @property
    def loses_messages(self) -> bool:
        """Whether it drops what it holds when it is full. A full one that refuses is as if away, and harms nothing."""
        return self.policy not in (None, "noeviction")


@dataclass(frozen=True)
class Standing:
    """What `status` shows. `redis` None: REDIS_URL is not set, so Redis was not asked."""

    at: datetime
    database_reachable: bool
    redis: "RedisSeen | None"
    processes: Sequence[Heartbeat]
    accounts: Sequence[AccountOverview]
    inbox: Waiting
    journals: WaitingInJournals
    """Of this host."""
    quarantined: int
    """Notifications of the last day."""
    reasons: Sequence[str]
    """Why a person is needed, or why nothing is known; one sentence each, with what to do."""

    @property
    def exit_code(self) -> int:
        if not self.database_reachable:
            return CANNOT_TELL
        return NEEDS_A_PERSON if self.reasons else FINE


def look() -> Standing:
    """Looks at everything. Raises nothing for what a person can put right: `reasons` holds that."""
    settings = None
    try:
        with expected_errors():
            settings = read_checked_settings()
        with opened(reads_only=True) as this, this.database.reading() as connection:
            at = now(connection)
            processes, accounts = heartbeats.all_of(connection), overview.of_accounts(connection)
            waiting, quarantined = inbox.waiting(connection), quarantine.in_the_last_day(connection)
    except Failure as failure:
        seen = None if settings is None else _redis_of(settings)
        journals = journal.waiting(None if settings is None else settings.journal_folder)
        return Standing(datetime.now(UTC), False, seen, (), (), Waiting(0, 0.0), journals, 0, (failure.message,))
    seen, journals = _redis_of(settings), journal.waiting(settings.journal_folder)
    reasons = [
        *_of_processes(processes, seen),
        *_of_inbox(waiting, quarantined),
        *_of_journals(journals),
        *(each for one in accounts for each in _of_account(one)),
    ]
    return Standing(at, True, seen, processes, accounts, waiting, journals, quarantined, reasons)


def _redis_of(settings: Settings) -> RedisSeen | None:
    if "redis_url" not in settings.chosen:
        return None  # the address of an embedded one is known only to the processes that it was started for
    return look_at_redis(settings, PING_SECONDS)


def look_at_redis(settings: Settings, seconds: float) -> RedisSeen:
    """Asks Redis, and gives up after `seconds`. PING decides: a user may have no right to ask about the rest."""
    try:
        with redis_client(settings.redis_url, seconds=seconds, retries=0) as client:
            client.ping()
            try:
                told = client.info()
            except redis.ResponseError:
                return RedisSeen()
    except (redis.RedisError, OSError) as error:
        return _trouble(error)
    if told.get("role") == "slave":
        return RedisSeen("is a replica, which takes no writes", "let REDIS_URL lead to the primary", None)
    return RedisSeen(policy=told.get("maxmemory_policy"))


def _trouble(error: Exception) -> RedisSeen:
    if isinstance(error, redis.AuthenticationError):
        return RedisSeen("refuses the user name or the password", "correct REDIS_URL")
    if isinstance(error, redis.sentinel.MasterNotFoundError):
        return RedisSeen("has no server that the Sentinels know by this name", "correct `master` in REDIS_URL, or wait")
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return RedisSeen("has a certificate that is not trusted", "name its authority: `ssl_ca_certs` in REDIS_URL")
    return RedisSeen(f"does not answer ({type(error).__name__})", "start it, or correct REDIS_URL")


def _of_processes(processes: Sequence[Heartbeat], seen: RedisSeen | None) -> list[str]:
    alive = {each.process for each in processes if each.is_alive}
    reasons = [
        f"no {name} process is alive: start one; until then {meanwhile}"
        for name, meanwhile in NEEDED_PROCESSES.items()
        if name not in alive
    ]
    if skewed := heartbeats.skewed_clocks(processes):
        reasons.append(f"clocks differ from the database's ({skewed}): let all hosts keep time by NTP")
    if unconsumed := heartbeats.unconsumed_queues(processes, QUEUES):
        reasons.append(f"workers are alive and take nothing from {', '.join(unconsumed)}: look at Redis, restart them")
    if different := heartbeats.different_redis(processes):
        reasons.append(
            f"workers use different Redis ({different}): two deployments share this database, and neither sees what"
            " the other has enqueued. Give all one REDIS_URL, or each deployment a database of its own"
        )
    if seen is not None and seen.trouble is not None:
        reasons.append(f"Redis {seen.trouble}: notifications are received, everything else waits until it is back")
    return reasons


def _of_inbox(waiting: Waiting, quarantined: int) -> Iterator[str]:
    if waiting.is_too_long:
        yield f"{waiting_told(waiting)}: look whether a worker runs, and what it logs"
    if quarantined:
        yield (
            f"the database refused {count(quarantined, 'notification')} in the last day: look into its table"
            " quarantine. The calls are found in Leadway's list."
        )


def _of_journals(found: WaitingInJournals) -> Iterator[str]:
    if found.unreadable:
        yield f"{', '.join(found.unreadable)} in LEADWAY_JOURNAL_DIR cannot be read: look whose files they are"
    if found.is_too_long:
        yield f"{in_journals_told(found)}: look whether web or a worker runs on this host and reaches the database"


def in_journals_told(waiting: Waiting) -> str:
    return (
        f"{count(waiting.number, 'notification')} in the journals of this host, the oldest for"
        f" {age(waiting.oldest_seconds)}"
    )


def waiting_told(waiting: Waiting) -> str:
    """`2 notifications wait to be taken in, the oldest for 3 s`."""
    wait = "waits" if waiting.number == 1 else "wait"
    return (
        f"{count(waiting.number, 'notification')} {wait} to be taken in, the oldest for {age(waiting.oldest_seconds)}"
    )


def _of_account(one: AccountOverview) -> list[str]:
    location_id = one.account.location_id
    reasons = [
        f"{location_id} is paused by {each.cause}: {each.detail}"
        for each in one.paused
        if each.cause != PauseCause.PERSON
    ]
    if one.account.api_token_encrypted is None:
        reasons.append(f"{location_id} has no API token: `leadway-calls accounts set-token {location_id}`")
    if one.account.references_lost_at is not None:
        reasons.append(
            f"{location_id}: Leadway returned a note without our reference line, by which it would be found again."
            " Whether an unclear note is there is left to a person: look for a workflow or an app that changes notes."
        )
    if one.quarantined_rows:
        number = sum(one.quarantined_rows.values())
        reasons.append(
            f"{location_id}: {count(number, 'listed row')} could not be taken in ({', '.join(one.quarantined_rows)}):"
            " table quarantined_rows tells when; ask Leadway's support about the calls of that time"
        )
    found = one.completeness
    if found.alarm is not None:
        reasons.append(
            f"{location_id}: the webhook does not tell of every call ({found.unannounced_in_the_last_day} of"
            f" {found.calls_in_the_last_day} in the last day came unannounced): {found.alarm.sentence}"
        )
    for each in one.dead:
        what, how = _DEAD[each.work]
        ids = _some(each.oldest_ids, each.number)
        reasons.append(f"{location_id}: {count(each.number, what)} ({each.cause}): {ids}. {how}")
    if one.unclear.for_a_person:
        number, ids = one.unclear.for_a_person, _some(one.unclear.oldest_ids, one.unclear.for_a_person)
        reasons.append(
            f"{location_id}: {count(number, 'unclear follow-up')} that only a person can settle: {ids}."
            " `leadway-calls follow-up ID` says how."
        )
    return reasons


def _some(ids: Sequence[str], number: int) -> str:
    return ", ".join(ids) + (f" and {number - len(ids)} more" if number > len(ids) else "")


_DEAD = {
    "call": ("dead call", "`leadway-calls call ID` tells why; `leadway-calls replay call --dead` fetches them again."),
    "follow_up": ("dead follow-up", "`leadway-calls follow-up ID` tells why and what to do."),
}
