"""Reads one page of a window of Leadway's list: claims the window, asks for the page, takes all of it in or nothing."""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import StatementError

from models.accounts import accounts, circuit_breaker
from models.accounts.accounts import Account
from models.database import is_of_one_row
from models.failpoints import failpoint
from models.reconciling import seen_ids, windows
from models.reconciling.windows import AUTOMATIC, Window
from models.work.lifecycle import Claim
from models.work.work_rows import WorkKey
from workers.attempts.attempt import Attempt, claimed, tell_celery
from workers.attempts.failure_policy import POLICY, ForTheRow, apply_policy
from workers.leadway.client import CallType
from workers.leadway.documents import Page
from workers.leadway.errors import ErrorKind, LeadwayError
from workers.reconciling.close_window import (
    PAGE_REPEATS,
    after_page,
    close_if_not_worth_it,
    cut_if_too_long,
    end_of_list,
    go_around,
    is_last,
    is_one_page,
    read_again,
)
from workers.reconciling.take_in_listed import TakeInRows, set_aside, take_in_listed, take_in_singly
from workers.telemetry import metrics

log = structlog.get_logger(__name__)


_SUCCEEDED = ("read", ErrorKind.BUDGET, ErrorKind.NO_TIME)
"""Outcomes of an attempt with which nothing is wrong."""


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
            _commit(attempt, window, whole, account=account)
            failpoint("page_stored")
            attempt.outcome = outcome = PageOutcome.READ
        else:
            error = page
            attempt.outcome = error.kind
            attempt.commit(lambda connection: _hold_up(connection, attempt, window, error, account=account))
    tell_celery(attempt, succeeded=_SUCCEEDED)
    return outcome


def _commit(attempt: Attempt, window: Window, page: Page, *, account: Account) -> None:
    """Takes the page in; where the database refuses it, row by row, so that one row stops no other."""

    def take_in(connection: Connection, *, take_in_rows: TakeInRows) -> None:
        _take_in(connection, attempt, window, page, account=account, take_in_rows=take_in_rows)

    try:
        attempt.commit_alone(partial(take_in, take_in_rows=take_in_listed))
    except StatementError as error:
        if not is_of_one_row(error):
            raise
        attempt.commit_alone(partial(take_in, take_in_rows=take_in_singly))


def _ask(attempt: Attempt, window: Window, *, account: Account) -> Page | LeadwayError:
    client = attempt.this.leadway.for_account(account, lane=window.lane, deadline=attempt.claim.deadline)
    try:
        return client.list_call_logs(
            since=window.window_from,
            until=window.window_until,
            call_type=CallType(window.call_type),
            page=window.next_page,
            page_size=window.page_size,
        )
    except LeadwayError as error:
        return error


def _take_in(
    connection: Connection,
    attempt: Attempt,
    window: Window,
    page: Page,
    *,
    account: Account,
    take_in_rows: TakeInRows,
) -> None:
    """Stores the page in one transaction. Raises LeaseLost at its end if the claim does not hold any more."""
    this, claim = attempt.this, attempt.claim
    if cut_if_too_long(connection, claim, window, page) or close_if_not_worth_it(connection, claim, window, page):
        return
    since = _counts_from(window, account)
    # The list of trials decides what is a trial, whatever its rows say: trials get no notes.
    is_trial = window.call_type == CallType.TRIAL
    rows = [replace(row, trial_call=True) if is_trial else row for row in page.rows]
    inside = [row for row in rows if _is_inside(row.started_at, row.ended_at, window, since)]
    outcome = take_in_rows(connection, this, claim, window, inside, account=account)
    refused = [*page.refused, *outcome.refused]
    set_aside(connection, window, refused)
    refused_ids = {row.call_id for row in outcome.refused}
    inside_ids = {row.call_id for row in inside} - refused_ids
    shown_before = seen_ids.count_in_pass(connection, window) if window.next_page > 1 else 0
    seen_ids.record(
        connection,
        window,
        inside=inside_ids,
        outside=[row.call_id for row in page.rows if row.call_id not in inside_ids | refused_ids],
    )
    circuit_breaker.record_success(connection, account.location_id)
    log.info(
        "page_taken_in", location_id=account.location_id, kind=str(window.kind), page=window.next_page,
        call_type=window.call_type, listed=len(inside), unannounced=outcome.unannounced, changed=outcome.changed,
    )  # fmt: skip
    read = after_page(window, page, outcome, refused=len(refused))
    shown = seen_ids.count_in_pass(connection, window)
    repeats = not page.is_empty and window.next_page > 1 and shown == shown_before
    if repeats and not is_one_page(page, shown=shown):
        read_again(connection, claim, read, PAGE_REPEATS, shown=shown)
    elif repeats or is_last(read, page, shown=shown):
        end_of_list(connection, claim, read, page, account=account)
    else:
        windows.go_on(connection, claim, replace(read, next_page=window.next_page + 1))
    if outcome.unannounced:
        metrics.UNANNOUNCED.labels(account.location_id).inc(outcome.unannounced)


def _hold_up(
    connection: Connection, attempt: Attempt, window: Window, error: LeadwayError, *, account: Account
) -> None:
    """Reschedules the window by the failure policy. It never dies, because the watermark waits for it."""
    if error.kind is ErrorKind.TOO_LARGE:
        go_around(connection, attempt.claim, window)
        return
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
