"""The list of calls, newest first, below the state of the whole system on one screen."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from models.database import Database, now
from models.reports import call_list, overview, search
from models.reports.call_filter import CallFilter, CallState, FollowUpFilter
from models.reports.call_list import Cursor
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

OF_FOLLOW_UPS = "follow-up-"
CHOICES = (
    (CallState.PENDING, "waiting"),
    (CallState.RUNNING, "being fetched"),
    (CallState.COMPLETE, "stored"),
    (CallState.DEAD, "dead"),
    (f"{OF_FOLLOW_UPS}{FollowUpFilter.OPEN}", "a note is still due"),
    (f"{OF_FOLLOW_UPS}{FollowUpFilter.UNCLEAR}", "a note is unclear"),
    (f"{OF_FOLLOW_UPS}{FollowUpFilter.DEAD}", "a note is dead"),
    (f"{OF_FOLLOW_UPS}{FollowUpFilter.DONE}", "a note is written"),
    (f"{OF_FOLLOW_UPS}{FollowUpFilter.SKIPPED}", "a note was skipped"),
    (f"{OF_FOLLOW_UPS}{FollowUpFilter.NONE}", "no note was asked for"),
)
FILTERS = ("account", "status", "action", "agent", "direction", "trial", "since", "until")
"""The names in a page's URL."""


def add_to(blueprint: Blueprint, database: Database, settings: Settings, verdict: CopyOf[SystemVerdict]) -> None:
    @blueprint.get("/")
    def calls() -> ResponseReturnValue:
        searched = request.args.get("find", "").strip()
        given = {name: text for name in FILTERS if (text := request.args.get(name, "").strip())}
        wanted, after = _filter(given), Cursor.read(request.args.get("after", ""))
        with database.reading() as connection:
            at = now(connection)
            accounts = overview.of_accounts(connection, at)
            processes = heartbeats.all_of(connection)
            if searched:
                page = search.calls(connection, searched, wanted, limit=PAGE, after=after)
            else:
                page = call_list.newest(connection, wanted, limit=PAGE, after=after)
        if searched and after is None and page.following is None and len(page.calls) == 1:
            [it] = page.calls
            return redirect(url_for("ops.call", location_id=it.location_id, call_id=it.call_id), HTTPStatus.SEE_OTHER)
        in_url: dict[str, Any] = given | ({"find": searched} if searched else {})
        judged = verdict.get()
        spoken_of = {each.location_id for each in judged.findings}
        return render_template(
            "calls.html",
            listed=page.calls,
            next_page=url_for("ops.calls", **in_url, after=str(page.following)) if page.following else None,
            first_page=url_for("ops.calls", **in_url) if after else None,
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
            chosen=given,
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


def _filter(given: Mapping[str, str]) -> CallFilter:
    """What cannot be read counts as not given: nobody writes a page's URL by hand."""
    status = given.get("status", "")
    of_follow_up = status.removeprefix(OF_FOLLOW_UPS) if status.startswith(OF_FOLLOW_UPS) else ""
    return CallFilter(
        location_id=given.get("account"),
        state=CallState(status) if status in tuple(CallState) else None,
        follow_up=FollowUpFilter(of_follow_up) if of_follow_up in tuple(FollowUpFilter) else None,
        action=given.get("action"),
        agent=given.get("agent"),
        direction=given.get("direction"),
        trial={"yes": True, "no": False}.get(given.get("trial", "")),
        since=_time(given.get("since", "")),
        until=_time(given.get("until", "")),
    )


def _time(text: str) -> datetime | None:
    """In UTC, where no zone is given."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
