"""Reads one page of a window of Leadway's list: claims the window, asks for the page, takes all of it in or nothing."""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from sqlalchemy import Connection

from models.accounts import accounts, circuit_breaker
from models.accounts.accounts import Account
from models.failpoints import failpoint
from models.reconciling import seen_ids, windows
from models.reconciling.windows import AUTOMATIC, Window
from models.work.lifecycle import Claim
from models.work.work_rows import WorkKey
from workers.attempts.attempt import Attempt, claimed
from workers.attempts.failure_policy import POLICY, ForTheRow, apply_policy
from workers.leadway.client import CallType
from workers.leadway.documents import Page
from workers.leadway.errors import LeadwayError
from workers.process.connections import Connections
from workers.reconciling.close_window import PAGE_SIZE, after_page, close_if_not_worth_it, cut_if_too_long, end_of_list
from workers.reconciling.take_in_listed import take_in_listed
from workers.telemetry import metrics

log = structlog.get_logger(__name__)


class PageOutcome(StrEnum):
    """What became of one attempt to read a page."""

    READ = "read"
    NOT_READ = "not_read"
    """An error came instead of the page; the window is read again later."""
    NOT_CLAIMED = "not_claimed"
    """The window is finished, leased by another reader, not due, or its account is paused."""


def read_one_page(key: WorkKey) -> PageOutcome:
    """Makes one attempt at the next page of the open window; what it learns is committed when it returns.

    Raises SQLAlchemyError if the claim fails, and KeyboardInterrupt.
    """
    outcome = PageOutcome.NOT_READ
    with claimed(key, at_abort=_record_abort) as attempt:
        if attempt is None:
            return PageOutcome.NOT_CLAIMED
        attempt.outcome = outcome
        with attempt.this.database.reading() as connection:
            account = accounts.get(connection, key.location_id)
            window = windows.get_claimed(connection, attempt.claim)
        page = _ask(attempt, window, account=account)
        if isinstance(page, Page):
            whole = page
            failpoint("page_listed")
            attempt.commit(
                lambda connection: _take_in(connection, attempt.this, attempt.claim, window, whole, account=account)
            )
            failpoint("page_stored")
            attempt.outcome = outcome = PageOutcome.READ
        else:
            error = page
            attempt.commit(lambda connection: _hold_up(connection, attempt, window, error, account=account))
    return outcome


def _ask(attempt: Attempt, window: Window, *, account: Account) -> Page | LeadwayError:
    client = attempt.this.leadway.for_account(account, lane=window.lane, deadline=attempt.claim.deadline)
    try:
        return client.list_call_logs(
            since=window.window_from,
            until=window.window_until,
            call_type=CallType(window.call_type),
            page=window.next_page,
            page_size=PAGE_SIZE,
        )
    except LeadwayError as error:
        return error


def _take_in(
    connection: Connection, this: Connections, claim: Claim, window: Window, page: Page, *, account: Account
) -> None:
    """Stores the page in one transaction. Raises LeaseLost at its end if the claim does not hold any more."""
    if cut_if_too_long(connection, claim, window, page) or close_if_not_worth_it(connection, claim, window, page):
        return
    since = _counts_from(window, account)
    # The list of trials decides what is a trial, whatever its rows say: trials get no notes.
    is_trial = window.call_type == CallType.TRIAL
    rows = [replace(row, trial_call=True) if is_trial else row for row in page.rows]
    inside = [row for row in rows if _is_inside(row.started_at, row.ended_at, window, since)]
    inside_ids = {row.call_id for row in inside}
    outcome = take_in_listed(connection, this, claim, window, inside, account=account)
    seen_ids.record(
        connection,
        window,
        inside=inside_ids,
        outside=[row.call_id for row in page.rows if row.call_id not in inside_ids],
    )
    circuit_breaker.record_success(connection, account.location_id)
    log.info(
        "page_taken_in", location_id=account.location_id, kind=str(window.kind), page=window.next_page,
        call_type=window.call_type, listed=len(inside), unannounced=outcome.unannounced, changed=outcome.changed,
    )  # fmt: skip
    read = after_page(window, page, outcome)
    if not page.is_last:
        windows.go_on(connection, claim, replace(read, next_page=window.next_page + 1))
    else:
        end_of_list(connection, claim, read, page, account=account)
    if outcome.unannounced:
        metrics.UNANNOUNCED.labels(account.location_id).inc(outcome.unannounced)


def _hold_up(
    connection: Connection, attempt: Attempt, window: Window, error: LeadwayError, *, account: Account
) -> None:
    """Reschedules the window by the failure policy. It never dies, because the watermark waits for it."""
    apply_policy(connection, attempt.this, attempt.claim, error, account=account)
    waits = POLICY[error.kind].row is ForTheRow.WAITS
    requests = window.requests + (1 if error.reached else 0)
    windows.hold_up(connection, window, error=None if waits else str(error.kind), requests=requests)
    metrics.WINDOW_FAILURES.labels(error.kind).inc()
    if not waits:
        log.warning("page_not_read", location_id=window.location_id, kind=str(window.kind), error=str(error.kind))


def _record_abort(connection: Connection, claim: Claim, *, dead: bool) -> None:
    """Records that the window is held up by what this code cannot take in; the work tells the exception."""
    del dead  # a window never is
    window = windows.get_claimed(connection, claim)
    windows.hold_up(connection, window, error="broken", requests=window.requests)


def _counts_from(window: Window, account: Account) -> datetime | None:
    """The time before which a call must not have ended to be taken in; None: any call is.

    A new account is complete from the time it was added, so automatic windows leave out older calls.
    """
    return account.added_at if window.kind in AUTOMATIC else None


def _is_inside(started_at: datetime | None, ended_at: datetime | None, window: Window, since: datetime | None) -> bool:
    """Whether the call lies in the window: a list need not keep to its bounds. A call without times is inside."""
    if started_at is None or ended_at is None:
        return True
    slack = timedelta(milliseconds=1)
    in_bounds = window.window_from - slack <= started_at <= window.window_until + slack
    return in_bounds and (since is None or ended_at >= since)
