"""Reads one page of a window of Leadway's list: claimed, asked, taken in; and ends the window when it is proven whole.

A window counts as read when its list was read to its end and showed as many distinct calls as Leadway told, without
that number falling meanwhile; a list in one page needs no more. Pages that shift under the reader fail that test, and
the list is begun again: by then nearly everything has its row. Only then the account's mark moves.
"""

import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from models import accounts, attempts, reconcile_schedule, reconciliations, unresolved
from models.accounts import Account
from models.attempts import LeaseLost
from models.database import moment
from models.reconcile_schedule import LOOK_DELAYS_SECONDS
from models.reconciliations import AUTOMATIC, Kind, Shown, Window
from workers import metrics
from workers.connections import Connections
from workers.leadway.client import CallType
from workers.leadway.documents import Page
from workers.leadway.errors import ErrorKind, LeadwayError, PermanentLeadwayError, RetryableLeadwayError
from workers.setbacks import NOT_A_TRY, PAUSING, SHORTEST_WAIT_SECONDS, note_outage, pause_for
from workers.take_in_listed import Taken, take_in_listed
from workers.webhook_truth import look_for_silence

log = structlog.get_logger(__name__)

PAGE_SIZE = 50
LARGEST_WINDOW = 2000
"""Calls. A list that tells more is cut, so that the mark moves on and pages do not lie deep."""
CUT_TO = 1500
SHORTEST_WINDOW = timedelta(seconds=1)
PASSES = 4
"""So often a list is begun again at once when it shifted; after that with the delays of a failure."""
SHIFTED = "list_shifted"
COUNTS_DIFFER = "counts_differ"
NOT_WORTH_IT = "not_worth_it"
NO_CALL_FOUND = "no_call_found"


class Step(StrEnum):
    """How one page went."""

    READ = "read"
    SET_BACK = "set_back"
    NOT_CLAIMED = "not_claimed"
    LEASE_LOST = "lease_lost"


def read_page(this: Connections, reconciliation_id: int) -> Step:
    """One attempt: one page. Everything that it learns is in the rows when it returns."""
    deadline = time.monotonic() + this.attempt_seconds
    window = this.database.transact(
        lambda session: reconciliations.claim(
            session, reconciliation_id, lease_seconds=this.settings.leadway_lease_seconds
        )
    )
    if window is None:
        return Step.NOT_CLAIMED
    try:
        with this.database.reading() as session:
            account = accounts.get(session, window.location_id)
        page = _ask(this, window, account=account, deadline=deadline)
        if isinstance(page, LeadwayError):
            error = page
            this.database.transact(lambda session: _set_back(session, this, window, error, account=account))
            return Step.SET_BACK
        this.database.transact(lambda session: _take_in(session, this, window, page, account=account))
    except LeaseLost:
        return Step.LEASE_LOST
    except KeyboardInterrupt:  # a person ends a command: who starts it again need not wait for the lease
        with suppress(LeaseLost, DBAPIError):
            this.database.transact(lambda session: reconciliations.release(session, window, next_attempt_at=moment()))
        raise
    except Exception as error:
        # Never raised on: its text may quote a row. The lease guards what cannot be written.
        log.exception("page_broke", location_id=window.location_id, kind=str(window.kind))
        metrics.BROKEN.labels("window", type(error).__name__).inc()
        broken = type(error).__name__
        with suppress(LeaseLost, DBAPIError):
            this.database.transact(lambda session: _put_back(session, this, window, broken))
        return Step.SET_BACK
    return Step.READ


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
    except (RetryableLeadwayError, PermanentLeadwayError) as error:
        return error


def _take_in(session: Session, this: Connections, window: Window, page: Page, *, account: Account) -> None:
    """One transaction: nothing of the page is kept unless the claim still holds at its end."""
    if _is_cut(session, window, page) or _is_not_worth_it(session, window, page):
        return
    since = _counts_from(window, account)
    # The list that it stands in says what a trial is, whatever the row says: trials get no notes.
    is_trial = window.call_type == CallType.TRIAL
    rows = [replace(row, trial_call=True) if is_trial else row for row in page.rows]
    inside = [row for row in rows if _is_inside(row.started_at, row.ended_at, window, since)]
    kept = {row.call_id for row in inside}
    taken = take_in_listed(session, this, window, inside, account=account, read_at=_read_at(window))
    reconciliations.note_listed(
        session, window, inside=kept, outside=[row.call_id for row in page.rows if row.call_id not in kept]
    )
    accounts.note_success(session, account.location_id)
    log.info(
        "page_taken_in", location_id=account.location_id, kind=str(window.kind), page=window.next_page,
        call_type=window.call_type, listed=len(inside), unannounced=taken.unannounced, changed=taken.changed,
    )  # fmt: skip
    progress = _progress(window, page, taken)
    if not page.is_last:
        reconciliations.release(session, window, next_page=window.next_page + 1, next_attempt_at=moment(), **progress)
    else:
        _end_of_list(session, this, window, page, progress, account=account)
    if taken.unannounced:
        metrics.UNANNOUNCED.labels(account.location_id).inc(taken.unannounced)


def _progress(window: Window, page: Page, taken: Taken) -> dict[str, Any]:
    first = window.next_page == 1
    fell = not first and page.total is not None and window.told is not None and page.total < window.told
    return {
        "told": page.total,
        "restless": (window.restless and not first) or fell,
        "unreadable": (0 if first else window.unreadable) + page.unreadable,
        "unannounced": window.unannounced + taken.unannounced,
        "changed": window.changed + taken.changed,
        "failures": 0,
        "error": None,
    }


def _end_of_list(
    session: Session, this: Connections, window: Window, page: Page, progress: dict[str, Any], *, account: Account
) -> None:
    shown = reconciliations.shown(session, window)
    if why := _why_not_whole(window, page, progress, shown):
        tired = window.pass_number % PASSES == 0
        delay = attempts.backoff(window.pass_number // PASSES, first_seconds=10.0) if tired else 0.0
        log.warning(
            "list_read_again", location_id=window.location_id, kind=str(window.kind), why=why, told=page.total,
            shown=shown.calls, held=shown.held,
        )  # fmt: skip
        reconciliations.release(
            session, window, **{**progress, "error": why if tired else None}, pass_number=window.pass_number + 1,
            next_page=1, next_attempt_at=moment(delay),
        )  # fmt: skip
        return
    progress |= {"listed": window.listed + shown.inside, "held": window.held + shown.held}
    if window.call_type == CallType.LIVE:
        reconciliations.release(
            session, window, **{**progress, "told": None, "restless": False}, call_type=str(CallType.TRIAL),
            pass_number=1, next_page=1, next_attempt_at=moment(),
        )  # fmt: skip
    elif window.kind is Kind.NARROW:
        _end_of_look(session, window, progress)
    else:
        _end_of_window(session, window, progress, account=account)


def _why_not_whole(window: Window, page: Page, progress: dict[str, Any], shown: Shown) -> str | None:
    """Why this pass does not prove that the whole list was seen; None: it does."""
    if shown.held != shown.inside:
        return COUNTS_DIFFER
    if page.total is not None:
        as_many = page.total == shown.calls + progress["unreadable"]
        return None if as_many and not progress["restless"] else SHIFTED
    if window.next_page == 1:
        return None
    seen_the_same_twice = window.pass_number > 1 and not shown.new and not shown.gone
    return None if seen_the_same_twice else SHIFTED


def _end_of_window(session: Session, window: Window, progress: dict[str, Any], *, account: Account) -> None:
    reconciliations.finish(session, window, **progress)
    unresolved.resolve(session, window.location_id)
    since = max(window.run_from, account.added_at) if window.kind in AUTOMATIC else window.run_from
    if since <= window.window_until:
        accounts.extend_complete(session, window.location_id, since=since, until=window.window_until)
    if not reconciliations.open_next(session, window) and window.kind is Kind.REGULAR:
        reconcile_schedule.next_regular(session, window.location_id)
        look_for_silence(session, window.location_id)
    metrics.WINDOWS.labels(window.kind).inc()
    complete_until = accounts.get(session, window.location_id).complete_until
    if complete_until is not None:
        metrics.COMPLETE_UNTIL.labels(window.location_id).set(complete_until.timestamp())
    log.info(
        "window_read", location_id=window.location_id, kind=str(window.kind), listed=progress["listed"],
        held=progress["held"], unannounced=progress["unannounced"], changed=progress["changed"],
        requests=window.requests, complete_until=complete_until and complete_until.isoformat(),
    )  # fmt: skip


def _end_of_look(session: Session, window: Window, progress: dict[str, Any]) -> None:
    """A notification's call may take minutes to be listed: it is looked for a few times, ever later."""
    unresolved.resolve(session, window.location_id)
    looks = window.looks + 1
    found = window.notification_id is None or not unresolved.is_unresolved(session, window.notification_id)
    if found or looks >= len(LOOK_DELAYS_SECONDS):
        reconciliations.finish(session, window, **{**progress, "error": None if found else NO_CALL_FOUND}, looks=looks)
        log.info("notification_looked_for", location_id=window.location_id, found=found, looks=looks)
        return
    reconciliations.release(
        session, window, **{**progress, "listed": 0, "held": 0}, looks=looks, call_type=str(CallType.LIVE),
        pass_number=1, next_page=1, next_attempt_at=moment(LOOK_DELAYS_SECONDS[looks]),
    )  # fmt: skip
    reconciliations.forget_listed(session, window)


def _is_cut(session: Session, window: Window, page: Page) -> bool:
    """A list that is too long is read as several windows: this one ends earlier, the run goes on after it."""
    length = window.window_until - window.window_from
    too_long = page.total is not None and page.total > LARGEST_WINDOW and length > 2 * SHORTEST_WINDOW
    if not too_long or window.next_page != 1 or window.kind is Kind.NARROW:
        return False
    # By whole milliseconds, as the list's bounds are.
    part = max(SHORTEST_WINDOW, length * (CUT_TO / (page.total or 1)))
    until = window.window_from + timedelta(milliseconds=part // timedelta(milliseconds=1))
    reconciliations.release(session, window, window_until=until, told=None, next_attempt_at=moment(), failures=0)
    reconciliations.forget_listed(session, window)
    return True


def _is_not_worth_it(session: Session, window: Window, page: Page) -> bool:
    """For the calls that wait: asking for them one by one may be fewer requests than the list of their time has."""
    first = window.next_page == 1 and window.pass_number == 1 and window.call_type == CallType.LIVE
    if window.kind is not Kind.BURST or not first or page.total is None:
        return False
    if page.total / PAGE_SIZE < reconcile_schedule.waiting_calls(session, window.location_id) / 2:
        return False
    reconciliations.finish(session, window, error=NOT_WORTH_IT)
    return True


def _counts_from(window: Window, account: Account) -> datetime | None:
    """A new account is complete from the time it was added: automatic windows leave out what ended before."""
    return account.added_at if window.kind in AUTOMATIC and window.kind is not Kind.NARROW else None


def _is_inside(started_at: datetime | None, ended_at: datetime | None, window: Window, since: datetime | None) -> bool:
    """No list is trusted to keep to the bounds that it was given. What tells no time is taken in."""
    if started_at is None or ended_at is None:
        return True
    slack = timedelta(milliseconds=1)
    in_bounds = window.window_from - slack <= started_at <= window.window_until + slack
    return in_bounds and (since is None or ended_at >= since)


def _read_at(window: Window) -> datetime:
    if window.claimed_at is None:
        raise AssertionError("a claimed window tells when it was claimed")
    return window.claimed_at


def _put_back(session: Session, this: Connections, window: Window, error: str) -> None:
    failures = window.failures + 1
    seconds = attempts.backoff(failures, first_seconds=this.settings.leadway_retry_seconds)
    reconciliations.release(session, window, next_attempt_at=moment(seconds), failures=failures, error=error)


def _set_back(session: Session, this: Connections, window: Window, error: LeadwayError, *, account: Account) -> None:
    """The window waits as the error says; only a narrow one is given up, for the mark must pass the others."""
    first_delay = this.settings.leadway_retry_seconds
    wait = error.retry_after if isinstance(error, RetryableLeadwayError) else None
    failures = window.failures
    if error.kind in NOT_A_TRY:
        seconds = max(wait or first_delay, SHORTEST_WAIT_SECONDS)
    elif error.kind is ErrorKind.THROTTLED:
        seconds = wait or first_delay
        accounts.hold(session, account.location_id, seconds=seconds, outage=False)
    else:
        failures += 1
        seconds = max(attempts.backoff(failures, first_seconds=first_delay), wait or 0.0)
        if error.kind in PAUSING:
            pause_for(session, error.kind, account=account, work="call")
        elif error.kind is ErrorKind.OUTAGE:
            note_outage(session, account=account, first_delay=first_delay)
    told = None if error.kind in NOT_A_TRY else str(error.kind)
    metrics.WINDOW_SETBACKS.labels(error.kind).inc()
    if window.kind is Kind.NARROW and failures >= len(LOOK_DELAYS_SECONDS):
        reconciliations.finish(session, window, error=told)
        return
    reconciliations.release(
        session, window, next_attempt_at=moment(seconds), failures=failures, error=told or window.error,
        requests=window.requests - (0 if error.reached else 1),
    )  # fmt: skip
    if told is not None:
        log.warning("page_not_read", location_id=window.location_id, kind=str(window.kind), error=told)
