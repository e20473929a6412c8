"""What the end of a list means for its window: the list again, the next list, or the end and a moved watermark.

A window counts as read when its list was read to its end and showed as many distinct calls as Leadway's total, in one
pass or in all, while that total did not fall; a list of one page needs no more. Pages that shift under the reader fail
this test. Then the list is begun again: by then nearly every call has its row. Where that does not help, or a page
repeats an earlier one, the window is halved, until one page holds it. The account's watermark moves only after that.
"""

from dataclasses import replace
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from models.accounts import accounts
from models.accounts.accounts import Account
from models.database import now
from models.reconciling import local_days, quarantined_rows, schedule, seen_ids, unresolved, windows
from models.reconciling.quarantined_rows import TOO_LARGE, RefusedRow
from models.reconciling.seen_ids import SeenCounts
from models.reconciling.windows import AUTOMATIC, PAGE_SIZE, Window, WindowKind
from models.work import lifecycle
from models.work.lifecycle import Claim
from workers.leadway.client import CallType
from workers.leadway.documents import Page
from workers.reconciling.take_in_listed import ListedOutcome, set_aside
from workers.reconciling.webhook_alarm import update_webhook_alarm
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

LARGEST_WINDOW = 2000
"""Calls. A window with a longer list is cut, so that the watermark moves on and page numbers stay small."""
CUT_TO = 1500
"""Calls that a cut window should hold, if calls are spread evenly."""
SHORTEST_WINDOW = timedelta(seconds=1)
PASSES = 2
"""A list that shifted is begun again; after every PASSES-th pass it is halved or, if it is short, waited for."""
SHIFTED = "list_shifted"
COUNTS_DIFFER = "counts_differ"
PAGE_REPEATS = "page_repeats"
MOST_TOO_LARGE = 20
"""Rows of one window that are too large by themselves; of more it is the answers that are wrong, not the rows."""
SMALLEST_PAGE = 10
"""Calls. A server that was asked for PAGE_SIZE may grant fewer, hardly fewer than this (its default)."""
ROUND = 5
"""Page sizes are multiples of this."""
NOT_WORTH_IT = "not_worth_it"


def after_page(window: Window, page: Page, outcome: ListedOutcome, *, refused: int) -> Window:
    """The window with the counts of what this page brought. `refused`: rows of it that could not be taken in."""
    first = window.next_page == 1
    fell = not first and page.total is not None and window.told is not None and page.total < window.told
    return replace(
        window, told=page.total, restless=(window.restless and not first) or fell,
        unreadable=(0 if first else window.unreadable) + refused,
        unannounced=window.unannounced + outcome.unannounced, changed=window.changed + outcome.changed,
        requests=window.requests + 1, error=None,
    )  # fmt: skip


def is_last(window: Window, page: Page, *, shown: int) -> bool:
    """Whether the list ends with this page: it is empty, or shows the rest of what was told and does not look full.

    A server may grant fewer rows than were asked for, and tell fewer than there are: a page that is as long as the
    earlier ones, or a first one of a round number of rows, may be full, and the next one is looked at. No more pages
    are asked for than there can be. `window`: after the page. `shown`: distinct calls in this pass.
    """
    most = LARGEST_WINDOW if page.total is None else page.total
    if page.is_empty or window.next_page > most:
        return True
    earlier_pages = window.next_page - 1
    looks_full = page.length * earlier_pages >= shown - page.length if earlier_pages else page.length % ROUND == 0
    looks_full = looks_full or page.length >= window.page_size
    return page.total is not None and shown + window.unreadable >= page.total and not looks_full


def is_one_page(page: Page, *, shown: int) -> bool:
    """Whether a page that comes again and again is the whole list: no total promises more, and it is short."""
    return page.length == page.total == shown or (page.total is None and page.length < SMALLEST_PAGE)


def end_of_list(connection: Connection, claim: Claim, window: Window, page: Page, *, account: Account) -> None:
    """Ends this pass: begins the list again, goes on to the list of trials, or ends the window. Raises LeaseLost.

    `window`: after the list's last page.
    """
    shown = seen_ids.count_seen(connection, window)
    if why := _why_not_whole(window, page, shown):
        read_again(connection, claim, window, why, shown=shown.calls)
        return
    window = replace(window, listed=window.listed + shown.inside, held=window.held + shown.held)
    if window.call_type == CallType.LIVE:
        trials = replace(window, told=None, restless=False, call_type=CallType.TRIAL, pass_number=1, next_page=1)
        windows.go_on(connection, claim, trials)
    else:
        _end_of_window(connection, claim, window, account=account)


def read_again(connection: Connection, claim: Claim, window: Window, why: str, *, shown: int) -> None:
    """Begins the list again, or half of the window where that has not helped; where it cannot be halved, with growing
    delays, and the window tells why. Raises LeaseLost."""
    log.warning(
        "list_read_again", location_id=window.location_id, kind=str(window.kind), why=why, told=window.told, shown=shown
    )
    waits = window.pass_number % PASSES == 0 or why != SHIFTED
    length = window.window_until - window.window_from
    if waits and length >= 2 * SHORTEST_WINDOW:
        _cut(connection, claim, window, length / 2)
        return
    delay = lifecycle.backoff(max(1, window.pass_number // PASSES), first_seconds=10.0) if waits else 0.0
    again = replace(window, error=why if waits else None, pass_number=window.pass_number + 1, next_page=1)
    windows.go_on(connection, claim, again, seconds=delay)


def go_around(connection: Connection, claim: Claim, window: Window) -> None:
    """Goes on where a page is too large to be read: in halves of the window, then row by row. Raises LeaseLost.

    A row that is too large by itself is quarantined. That it is one shows in a later page, with which alone the list
    ends; where none comes, nothing stays quarantined.
    """
    window = replace(window, requests=window.requests + 1)
    if window.page_size > 1:
        if window.window_until - window.window_from >= 2 * SHORTEST_WINDOW:
            _cut(connection, claim, window, (window.window_until - window.window_from) / 2)
        else:
            by_row = replace(window, pass_number=window.pass_number + 1, next_page=1, page_size=1, error=TOO_LARGE)
            windows.go_on(connection, claim, by_row)
        return
    refused = 1 if window.next_page == 1 else window.unreadable + 1
    window = replace(window, unreadable=refused, error=TOO_LARGE)
    if refused > MOST_TOO_LARGE:
        quarantined_rows.forget_places(connection, window)
        read_again(connection, claim, window, TOO_LARGE, shown=0)
        return
    place = quarantined_rows.place_of(window)
    set_aside(connection, window, [RefusedRow(place, TOO_LARGE)])
    windows.go_on(connection, claim, replace(window, next_page=window.next_page + 1))


def _cut(connection: Connection, claim: Claim, window: Window, length: timedelta) -> None:
    """Ends the window after this length, and begins it anew; the run's next window begins there. Raises LeaseLost."""
    until = window.window_from + timedelta(milliseconds=length // timedelta(milliseconds=1))  # the list's unit
    windows.go_on(
        connection, claim,
        replace(
            window, window_until=until, told=None, restless=False, call_type=CallType.LIVE, pass_number=1, next_page=1,
            page_size=PAGE_SIZE, listed=0, held=0, unreadable=0, error=None,
        ),
    )  # fmt: skip
    seen_ids.forget(connection, window)


def _why_not_whole(window: Window, page: Page, shown: SeenCounts) -> str | None:
    """Why this pass does not prove that the whole list was seen; None: it proves it."""
    if shown.held != shown.inside:
        return COUNTS_DIFFER
    if page.total is not None:
        as_many = page.total - window.unreadable in (shown.calls, shown.ever)
        return None if as_many and not window.restless else SHIFTED
    if window.next_page <= 2:
        return None
    seen_the_same_twice = window.pass_number > 1 and not shown.new and not shown.gone
    return None if seen_the_same_twice else SHIFTED


def _end_of_window(connection: Connection, claim: Claim, window: Window, *, account: Account) -> None:
    windows.close(connection, claim, window)
    seen_ids.forget(connection, window)
    unresolved.resolve(connection, window.location_id)
    since = max(window.run_from, account.added_at) if window.kind in AUTOMATIC else window.run_from
    if since <= window.window_until:
        accounts.extend_completeness(connection, window.location_id, since=since, until=window.window_until)
    local_days.write(connection, accounts.get(connection, window.location_id), until=now(connection))
    if window.window_until >= window.run_until and window.kind is WindowKind.REGULAR:
        schedule.next_regular(connection, window.location_id, read_until=window.window_until)
        update_webhook_alarm(connection, window.location_id)
    metrics.WINDOWS.labels(window.kind).inc()
    complete_until = accounts.get(connection, window.location_id).complete_until
    log.info(
        "window_read", location_id=window.location_id, kind=str(window.kind), listed=window.listed,
        held=window.held, unannounced=window.unannounced, changed=window.changed, requests=window.requests,
        complete_until=complete_until and complete_until.isoformat(),
    )  # fmt: skip


def cut_if_too_long(connection: Connection, claim: Claim, window: Window, page: Page) -> bool:
    """Ends a window earlier whose list is too long; the run's next window begins there. False: nothing was cut."""
    length = window.window_until - window.window_from
    too_long = page.total is not None and page.total > LARGEST_WINDOW and length > 2 * SHORTEST_WINDOW
    if not too_long or window.next_page != 1:
        return False
    part = max(SHORTEST_WINDOW, length * (CUT_TO / (page.total or 1)))
    _cut(connection, claim, replace(window, requests=window.requests + 1), part)
    return True


def close_if_not_worth_it(connection: Connection, claim: Claim, window: Window, page: Page) -> bool:
    """Closes a burst window if single fetches of the waiting calls take fewer requests than its list; else False."""
    first = window.next_page == 1 and window.pass_number == 1 and window.call_type == CallType.LIVE
    if window.kind is not WindowKind.BURST or not first or page.total is None:
        return False
    if page.total / PAGE_SIZE < schedule.waiting_calls(connection, window.location_id) / 2:
        return False
    windows.close(connection, claim, replace(window, error=NOT_WORTH_IT, requests=window.requests + 1))
    return True
