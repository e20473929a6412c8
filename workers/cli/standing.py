"""What `status` and `doctor` look at: the verdict, and beside it the numbers that a person wants to see."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from models.intake import inbox, journal, quarantine
from models.intake.inbox import Waiting
from models.intake.journal import WaitingInJournals
from models.reports import overview
from models.reports.overview import AccountOverview
from models.reports.verdict import judging
from models.reports.verdict.findings import Around, Finding, State, SystemVerdict
from models.settings import Settings
from models.work import heartbeats
from models.work.heartbeats import Heartbeat
from workers.cli.opened import Failure, expected_errors, opened, read_checked_settings
from workers.cli.screen import age, count
from workers.process import redis_look

EXIT_CODES = {State.FINE: 0, State.NEEDS_A_PERSON: 1, State.CANNOT_TELL: 2}


@dataclass(frozen=True)
class Standing:
    """What `status` shows."""

    verdict: SystemVerdict
    around: Around
    processes: Sequence[Heartbeat]
    accounts: Sequence[AccountOverview]
    inbox: Waiting
    journals: WaitingInJournals
    """Of this host."""
    quarantined: int
    """Notifications of the last day."""

    @property
    def at(self) -> datetime:
        return self.verdict.at


def look() -> Standing:
    """Looks at everything. Raises nothing for what a person can put right: the verdict holds that."""
    around = Around()
    try:
        with expected_errors():
            settings = read_checked_settings()
        around = look_around(settings)
        with opened(reads_only=True) as this, this.database.reading() as connection:
            verdict = judging.judge(connection, around)
            processes, accounts = heartbeats.all_of(connection), overview.of_accounts(connection, verdict.at)
            waiting, quarantined = inbox.waiting(connection), quarantine.in_the_last_day(connection)
    except Failure as failure:
        told, _, do = failure.message.partition(": ")
        verdict = judging.without_database(around, told=told, do=do)
        processes, accounts, waiting, quarantined = [], [], Waiting(0, 0.0), 0
    journals = around.journals or WaitingInJournals(0, 0.0)
    return Standing(verdict, around, processes, accounts, waiting, journals, quarantined)


def look_around(settings: Settings) -> Around:
    """Redis only where REDIS_URL is set: the address of an embedded one is known only to the processes that it was
    started for."""
    is_set = "redis_url" in settings.chosen
    seen = redis_look.look(settings.redis_url) if is_set else None
    return Around(redis=seen, journals=journal.waiting(settings.journal_folder))


def reason(finding: Finding) -> str:
    """A finding in one line: where, what is the matter, what to do."""
    where = f"{finding.location_id}: " if finding.location_id else ""
    return f"{where}{finding.told}: {finding.do.removesuffix('.')}."


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
