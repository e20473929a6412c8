"""`leadway-calls backfill`: takes in an account's history, after an estimate of calls, requests and time."""

import math
import time
from dataclasses import dataclass
from datetime import datetime

import click
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from models.accounts import accounts
from models.accounts.accounts import Account
from models.calls import listed_calls
from models.database import now
from models.reconciling import runs, windows
from models.reconciling.windows import PAGE_SIZE, Window, WindowKind
from models.work.work_rows import Lane
from workers.cli.listing import Time, connected
from workers.cli.opened import Failure, opened
from workers.cli.screen import age, count, say, when
from workers.leadway.client import CallType
from workers.leadway.errors import ErrorKind, PermanentLeadwayError, RetryableLeadwayError
from workers.process.connections import Connections
from workers.read_page import AccountStandsStill, read_to_end
from workers.reconciling.reading import PageOutcome

SHARE_OF_BUDGET = 0.5
"""Part of the account's allowance that a backfill uses at most, also while nothing else uses it."""
STORING_SECONDS = 0.15
"""Time to store a page of 50 calls, for the estimate."""
ESTIMATE_PATIENCE_SECONDS = 120.0
"""The estimate waits this long for a slot of the request budget."""


@dataclass(frozen=True)
class Estimate:
    """What a backfill takes. `stored`: how many of the calls are in the database already."""

    calls: int
    stored: int
    requests: int
    seconds: float


@click.command
@click.argument("location")
@click.option(
    "--from", "since", type=Time(), required=True, metavar="TIME", help="Calls that began at this time or after."
)
@click.option(
    "--to", "until", type=Time(), metavar="TIME", help="And before this one; default: where the account's own begin."
)
@click.option("--follow-ups", is_flag=True, help="Write notes as well, for calls within the account's follow-up age.")
@click.option("--dry-run", is_flag=True, help="Only show the estimate.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def backfill(
    location: str, since: datetime, until: datetime | None, follow_ups: bool, dry_run: bool, yes: bool
) -> None:
    """Takes in the calls of a time before the account was added, from Leadway's list, fifty with each request.

    It gives way to live calls and writes no notes without --follow-ups. Ctrl-C stops it; the same command goes on from
    there, also after a crash. Calls that are here already are not taken in twice.

    \b
    Examples:
      leadway-calls backfill ve9EPM428h8vShlRW1KT --from 2025-01-01 --dry-run
      leadway-calls backfill ve9EPM428h8vShlRW1KT --from 2025-01-01 --to 2025-07-01 --yes
    """
    with opened() as this:
        with this.database.reading() as connection:
            account = accounts.get(connection, location)
            until = until or account.complete_from or now(connection)
        if until <= since:
            raise click.UsageError(f"nothing lies between: --from is {when(since)}, the end is {when(until)}")
        slot = f"{WindowKind.BACKFILL}:{since.isoformat()}/{until.isoformat()}{'+notes' if follow_ups else ''}"
        with connected(this) as connections:
            estimate = _estimate(connections, account, since=since, until=until)
            with this.database.reading() as connection:
                interrupted = windows.get_open(connection, location, slot) is not None
            _show(estimate, connections, account, interrupted=interrupted, follow_ups=follow_ups)
            if dry_run or not (yes or click.confirm("Take them in now?")):
                return
            _run(connections, account, slot, estimate, since=since, until=until, follow_ups=follow_ups)


def _estimate(this: Connections, account: Account, *, since: datetime, until: datetime) -> Estimate:
    """Asks Leadway for the number of calls, by two requests for a page of one row each. Raises Failure."""
    began = time.monotonic()
    numbers = [_number_of(this, account, each, since=since, until=until) for each in CallType]
    per_request = max(_seconds_per_page(this, account), (time.monotonic() - began) / len(numbers) + STORING_SECONDS)
    requests = sum(max(1, math.ceil(number / PAGE_SIZE)) for number in numbers)
    with this.database.reading() as connection:
        stored = listed_calls.count_stored(connection, account.location_id, since=since, until=until)
    return Estimate(sum(numbers), stored, requests, requests * per_request)


def _number_of(this: Connections, account: Account, call_type: str, *, since: datetime, until: datetime) -> int:
    patience = time.monotonic() + ESTIMATE_PATIENCE_SECONDS
    while True:
        deadline = time.monotonic() + this.attempt_seconds
        client = this.leadway.for_account(account, lane=Lane.BACKFILLED, deadline=deadline)
        try:
            page = client.list_call_logs(since=since, until=until, call_type=CallType(call_type), page_size=1)
        except RetryableLeadwayError as error:
            if error.kind is not ErrorKind.BUDGET or time.monotonic() > patience:
                raise Failure(f"Leadway does not answer now ({error}): try again later") from None
            time.sleep(min(5.0, error.retry_after or 1.0))
        except PermanentLeadwayError as error:
            raise Failure(f"Leadway refuses: {error}. `leadway-calls doctor` looks what is wrong.") from None
        else:
            return page.total or 0


def _show(estimate: Estimate, this: Connections, account: Account, *, interrupted: bool, follow_ups: bool) -> None:
    allowed = this.leadway.allowance(account).per_10_seconds / 10
    share = min(1.0, estimate.requests / max(estimate.seconds, 1e-9) / allowed)
    say(f"{count(estimate.calls, 'call')} listed, of which {estimate.stored} are here already.")
    say(
        f"About {count(estimate.requests, 'request')}, {age(estimate.seconds)}, at {share:.0%} of the account's request"
        f" budget at most. {'Notes are written for calls that are not too old.' if follow_ups else 'No notes.'}"
    )
    if interrupted:
        say("An earlier backfill of the same range was interrupted: this goes on from there.")


def _run(
    this: Connections,
    account: Account,
    slot: str,
    estimate: Estimate,
    *,
    since: datetime,
    until: datetime,
    follow_ups: bool,
) -> None:
    location_id = account.location_id
    this.database.transact(
        lambda connection: windows.open_run(
            connection,
            location_id,
            kind=WindowKind.BACKFILL,
            slot=slot,
            since=since,
            until=until,
            wants_follow_ups=follow_ups,
        )
    )
    with this.database.reading() as connection:
        first_id = runs.first_of_run(connection, location_id, slot)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task(location_id, total=estimate.calls)
        began = time.monotonic()

        def on_page(_outcome: PageOutcome, _window: Window) -> None:
            nonlocal began
            with this.database.reading() as connection:
                done = runs.totals(connection, location_id, slot, first_id=first_id)
            progress.update(bar, completed=done.listed, total=max(estimate.calls, done.listed))
            time.sleep(max(0.0, _seconds_per_page(this, account) - (time.monotonic() - began)))
            began = time.monotonic()

        try:
            read_to_end(this, location_id, slot, on_page=on_page)
        except AccountStandsStill as reason:
            raise Failure(f"stopped: {reason} Then the same command goes on from here.") from None
        except KeyboardInterrupt:
            raise Failure("stopped; the same command goes on from here") from None
    with this.database.reading() as connection:
        done = runs.totals(connection, location_id, slot, first_id=first_id)
    say(f"{count(done.listed, 'call')} listed, {done.held} here; {count(done.requests, 'request')}.")


def _seconds_per_page(this: Connections, account: Account) -> float:
    """From one page to the next, by what Leadway allows this account."""
    return 10 / (SHARE_OF_BUDGET * this.leadway.allowance(account).per_10_seconds)
