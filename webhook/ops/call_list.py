"""The list of calls, newest first, below the state of the whole system on one screen."""

from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from models.database import Database, now
from models.reports import call_list, overview, search
from models.reports.call_list import CallFilter, Cursor
from models.reports.overview import AccountOverview
from models.reports.verdict.findings import SystemVerdict
from models.settings import Settings
from models.work import heartbeats
from models.work.heartbeats import NEEDED_PROCESSES, Heartbeat
from webhook.copies import CopyOf
from webhook.ops import frame

PAGE = 50
"""Calls per page."""
CARDS = 6
"""With more accounts than CARDS, accounts without work and findings get no card and are only counted."""
NEEDED_KINDS = tuple(kind for kind in NEEDED_PROCESSES if kind != "web")
"""Without web: whoever reads this page has been answered by a web process, whatever its heartbeat says."""

CHOICES = (
    (CallFilter.PENDING, "waiting"),
    (CallFilter.RUNNING, "being fetched"),
    (CallFilter.COMPLETE, "stored"),
    (CallFilter.DEAD, "dead"),
    (CallFilter.FOLLOW_UP_OPEN, "a note is still due"),
    (CallFilter.FOLLOW_UP_UNCLEAR, "a note is unclear"),
    (CallFilter.FOLLOW_UP_DEAD, "a note is dead"),
)


def add_to(blueprint: Blueprint, database: Database, settings: Settings, verdict: CopyOf[SystemVerdict]) -> None:
    @blueprint.get("/")
    def calls() -> ResponseReturnValue:
        searched = request.args.get("find", "").strip()
        location_id = request.args.get("account") or None
        shown = _filter(request.args.get("status", ""))
        after = _cursor(request.args.get("after", ""))
        with database.reading() as connection:
            at = now(connection)
            accounts = overview.of_accounts(connection, at)
            processes = heartbeats.all_of(connection)
            only = search.matching(connection, searched) if searched else None
            found = call_list.newest(
                connection, limit=PAGE + 1, location_id=location_id, shown=shown, after=after, only=only
            )
        if only is not None and len(found) == 1:
            [it] = found
            return redirect(url_for("ops.call", location_id=it.location_id, call_id=it.call_id), HTTPStatus.SEE_OTHER)
        more = len(found) > PAGE
        judged = verdict.get()
        spoken_of = {each.location_id for each in judged.findings}
        return render_template(
            "calls.html",
            listed=found[:PAGE],
            next_page=_page_url(location_id, shown, found[PAGE - 1].cursor) if more else None,
            first_page=_page_url(location_id, shown, None) if after else None,
            now=at,
            accounts=accounts,
            carded=[
                each
                for each in accounts
                if len(accounts) <= CARDS or has_work(each) or each.account.location_id in spoken_of
            ],
            verdict=judged,
            names={each.account.location_id: each.account.name for each in accounts},
            kinds=_kinds(processes),
            flower=_flower(settings.flower_port),
            choices=CHOICES,
            chosen_account=location_id,
            chosen_status=shown,
            searched=searched,
            refresh=None if after or searched else frame.REFRESH_SECONDS,
        )


@dataclass(frozen=True)
class ProcessKind:
    """The processes of one kind. `slots`: attempts that the living ones run at once. `silent`: for each that no longer
    sends heartbeats, the seconds since its last one."""

    name: str
    alive: int
    slots: int
    silent: tuple[float, ...]


def has_work(each: AccountOverview) -> bool:
    """Whether something of the account is not done."""
    return bool(each.waiting_calls or each.waiting_follow_ups or each.running or each.unclear.number)


def _kinds(processes: list[Heartbeat]) -> list[ProcessKind]:
    names = [*NEEDED_KINDS, *sorted({each.process for each in processes} - set(NEEDED_KINDS))]
    return [
        ProcessKind(
            name,
            alive=sum(each.is_alive for each in processes if each.process == name),
            slots=sum(each.slots for each in processes if each.process == name and each.is_alive),
            silent=tuple(each.seconds_ago for each in processes if each.process == name and not each.is_alive),
        )
        for name in names
    ]


def _flower(port: int) -> str | None:
    """Flower's URL, if this page was opened on the machine itself: Flower listens on loopback only. Else None."""
    host = frame.loopback_host()
    return host and f"http://{host}:{port}/"


def _filter(name: str) -> CallFilter | None:
    return CallFilter(name) if name in tuple(CallFilter) else None


def _cursor(text: str) -> Cursor | None:
    """The cursor in a page's URL; None, the first page, for text that cannot be read: nobody writes one by hand."""
    when, _, rest = text.partition("~")
    location_id, _, call_id = rest.partition("~")
    try:
        first_heard_at = datetime.fromisoformat(when)
    except ValueError:
        return None
    return Cursor(first_heard_at, location_id, call_id) if first_heard_at.tzinfo and call_id else None


def _page_url(location_id: str | None, shown: CallFilter | None, after: Cursor | None) -> str:
    cursor = after and f"{after.first_heard_at.isoformat()}~{after.location_id}~{after.call_id}"
    return url_for("ops.calls", account=location_id, status=shown and str(shown), after=cursor)
