"""Reads one page of a window of Leadway's list: claims the window, asks for the page, takes all of it in or nothing."""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from models.accounts import accounts, circuit_breaker
from models.accounts.accounts import Account
from models.calls.calls import CALL
from models.database import moment
from models.reconciling import seen_ids, windows
from models.reconciling.schedule import LOOK_DELAYS_SECONDS
from models.reconciling.windows import AUTOMATIC, Window, WindowKind
from models.work import lifecycle
from models.work.lifecycle import LeaseLost
from workers.attempts.failure_policy import apply_to_account, seconds_until_retry
from workers.leadway.client import CallType
from workers.leadway.documents import Page
from workers.leadway.errors import NOT_A_TRY, ErrorKind, LeadwayError
from workers.process.connections import Connections
from workers.reconciling.close_window import PAGE_SIZE, close_if_not_worth_it, cut_if_too_long, end_of_list, progress_of
from workers.reconciling.take_in_listed import take_in_listed
from workers.telemetry import metrics

log = structlog.get_logger(__name__)


class PageOutcome(StrEnum):
    """What became of one attempt to read a page."""

    READ = "read"
    RESCHEDULED = "rescheduled"
    """An error came instead of the page; the window is read again later, or was closed."""
    NOT_CLAIMED = "not_claimed"
    """The window is finished, leased by another reader, not due, or its account is paused."""
    LEASE_LOST = "lease_lost"


def read_page(this: Connections, reconciliation_id: int) -> PageOutcome:
    """Makes one attempt at the window's next page; what it learns is committed when it returns.

    Raises SQLAlchemyError if the claim fails, and KeyboardInterrupt; nothing else.
    """
    deadline = time.monotonic() + this.attempt_seconds
    window = this.database.transact(
        lambda connection: windows.claim(
            connection, reconciliation_id, lease_seconds=this.settings.leadway_lease_seconds
        )
    )
    if window is None:
        return PageOutcome.NOT_CLAIMED
    try:
        with this.database.reading() as connection:
            account = accounts.get(connection, window.location_id)
        page = _ask(this, window, account=account, deadline=deadline)
        if isinstance(page, LeadwayError):
            error = page
            this.database.transact(lambda connection: _apply_policy(connection, this, window, error, account=account))
            return PageOutcome.RESCHEDULED
        this.database.transact(lambda connection: _take_in(connection, this, window, page, account=account))
    except LeaseLost:
        return PageOutcome.LEASE_LOST
    except KeyboardInterrupt:  # a person ends a command: the same command, started again, need not wait for the lease
        with suppress(LeaseLost, SQLAlchemyError):
            this.database.transact(lambda connection: windows.release(connection, window, next_attempt_at=moment()))
        raise
    except Exception as error:
        # Not raised again: its text may quote a row. If the window cannot be written now, its lease runs out.
        log.exception("page_raised", location_id=window.location_id, kind=str(window.kind))
        metrics.UNEXPECTED_ERRORS.labels("window", type(error).__name__).inc()
        name = type(error).__name__
        with suppress(LeaseLost, SQLAlchemyError):
            this.database.transact(lambda connection: _abort(connection, this, window, name))
        return PageOutcome.RESCHEDULED
    return PageOutcome.READ


def _ask(this: Connections, window: Window, *, account: Account, deadline: float) -> Page | LeadwayError:
    client = this.leadway.for_account(account, lane=window.lane, deadline=deadline)
    try:
        return client.list_call_logs(
            since=window.window_from,
            until=window.window_until,
            call_type=CallType(window.call_type),
            page=window.next_page,
            page_size=PAGE_SIZE,
            contact_id=window.contact_id,
        )
    except LeadwayError as error:
        return error


def _take_in(connection: Connection, this: Connections, window: Window, page: Page, *, account: Account) -> None:
    """Stores the page in one transaction. Raises LeaseLost at its end if the claim does not hold any more."""
    if cut_if_too_long(connection, window, page) or close_if_not_worth_it(connection, window, page):
        return
    since = _counts_from(window, account)
    # The list of trials decides what is a trial, whatever its rows say: trials get no notes.
    is_trial = window.call_type == CallType.TRIAL
    rows = [replace(row, trial_call=True) if is_trial else row for row in page.rows]
    inside = [row for row in rows if _is_inside(row.started_at, row.ended_at, window, since)]
    inside_ids = {row.call_id for row in inside}
    outcome = take_in_listed(connection, this, window, inside, account=account, read_at=_read_at(window))
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
    progress = progress_of(window, page, outcome)
    if not page.is_last:
        windows.release(connection, window, next_page=window.next_page + 1, next_attempt_at=moment(), **progress)
    else:
        end_of_list(connection, window, page, progress, account=account)
    if outcome.unannounced:
        metrics.UNANNOUNCED.labels(account.location_id).inc(outcome.unannounced)


def _counts_from(window: Window, account: Account) -> datetime | None:
    """The time before which a call must not have ended to be taken in; None: any call is.

    A new account is complete from the time it was added, so automatic windows leave out older calls.
    """
    return account.added_at if window.kind in AUTOMATIC and window.kind is not WindowKind.NARROW else None


def _is_inside(started_at: datetime | None, ended_at: datetime | None, window: Window, since: datetime | None) -> bool:
    """Whether the call lies in the window: a list need not keep to its bounds. A call without times is inside."""
    if started_at is None or ended_at is None:
        return True
    slack = timedelta(milliseconds=1)
    in_bounds = window.window_from - slack <= started_at <= window.window_until + slack
    return in_bounds and (since is None or ended_at >= since)


def _read_at(window: Window) -> datetime:
    if window.claimed_at is None:
        raise AssertionError("a claimed window tells when it was claimed")
    return window.claimed_at


def _abort(connection: Connection, this: Connections, window: Window, error: str) -> None:
    failures = window.failures + 1
    seconds = lifecycle.backoff(failures, first_seconds=this.settings.leadway_retry_seconds)
    windows.release(connection, window, next_attempt_at=moment(seconds), failures=failures, error=error)


def _apply_policy(
    connection: Connection, this: Connections, window: Window, error: LeadwayError, *, account: Account
) -> None:
    """Reschedules the window by the failure policy. Only a narrow one is closed: the watermark waits for all others."""
    first_delay = this.settings.leadway_retry_seconds
    apply_to_account(connection, error, account=account, work=CALL.name, first_delay=first_delay)
    failures = window.failures + (error.kind not in (*NOT_A_TRY, ErrorKind.THROTTLED))
    metrics.WINDOW_FAILURES.labels(error.kind).inc()
    reason = None if error.kind in NOT_A_TRY else str(error.kind)
    if window.kind is WindowKind.NARROW and failures >= len(LOOK_DELAYS_SECONDS):
        windows.close(connection, window, error=reason)
        seen_ids.forget(connection, window)
        return
    seconds = seconds_until_retry(error, tries=failures, first_delay=first_delay)
    windows.release(
        connection, window, next_attempt_at=moment(seconds), failures=failures, error=reason or window.error,
        requests=window.requests - (0 if error.reached else 1),
    )  # fmt: skip
    if reason is not None:
        log.warning("page_not_read", location_id=window.location_id, kind=str(window.kind), error=reason)
