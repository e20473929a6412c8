"""The list of calls, newest first, under what one screen says about the whole system."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlsplit

from flask import Blueprint, render_template, request, url_for

from models.database import Database
from models.reports import call_list, overview
from models.reports.call_list import CallFilter, Cursor
from models.reports.overview import AccountOverview
from models.settings import Settings
from models.work import heartbeats
from models.work.heartbeats import NEEDED_PROCESSES, Heartbeat

PAGE = 50
REFRESH_SECONDS = 5
CARDS = 6
"""With more accounts than that, those with nothing to tell are only counted."""
NEEDED_ROLES = tuple(each for each in NEEDED_PROCESSES if each != "web")
"""Whoever reads this page has been answered by a web process, whatever its heartbeat says."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")

CHOICES = (
    (CallFilter.PENDING, "waiting"),
    (CallFilter.RUNNING, "being fetched"),
    (CallFilter.DONE, "stored"),
    (CallFilter.DEAD, "given up"),
    (CallFilter.FOLLOW_UP_OPEN, "a note is still due"),
    (CallFilter.FOLLOW_UP_UNCLEAR, "a note is unclear"),
    (CallFilter.FOLLOW_UP_DEAD, "a note was given up"),
)


def add_to(blueprint: Blueprint, database: Database, settings: Settings) -> None:
    @blueprint.get("/")
    def calls() -> str:
        location_id = request.args.get("account") or None
        shown = _shown(request.args.get("status", ""))
        after = _place(request.args.get("after", ""))
        with database.reading() as connection:
            now = overview.now(connection)
            accounts = overview.of_accounts(connection)
            processes = heartbeats.all_of(connection)
            found = call_list.newest(connection, limit=PAGE + 1, location_id=location_id, shown=shown, after=after)
        more = len(found) > PAGE
        return render_template(
            "calls.html",
            listed=found[:PAGE],
            next_page=_address(location_id, shown, found[PAGE - 1].place) if more else None,
            first_page=_address(location_id, shown, None) if after else None,
            now=now,
            accounts=accounts,
            carded=[each for each in accounts if len(accounts) <= CARDS or needs_a_look(each)],
            problems=problems(accounts, processes),
            kinds=_kinds(processes),
            flower=_flower(settings.flower_port),
            choices=CHOICES,
            chosen_account=location_id,
            chosen_status=shown,
            refresh=None if after else REFRESH_SECONDS,
        )


@dataclass(frozen=True)
class Problem:
    words: str
    what_to_do: str
    tone: str = "bad"


@dataclass(frozen=True)
class Kind:
    """The living processes of one kind, and how long ago those were heard that went silent."""

    name: str
    alive: int
    slots: int
    silent: tuple[float, ...]


def problems(accounts: list[AccountOverview], processes: list[Heartbeat]) -> list[Problem]:
    """What keeps calls or notes from being worked on, worst first: what to look at when somebody was paged."""
    found = [
        Problem(f"No {kind} is alive.", f"Start it: the line {kind} of the Procfile.")
        for kind in NEEDED_ROLES
        if not any(each.process == kind and each.is_alive for each in processes)
    ]
    for each in accounts:
        name = each.account.name or each.account.location_id
        found += [Problem(f"{name} is paused ({pause.cause}).", pause.detail) for pause in each.paused]
        if number := sum(dead.number for dead in each.dead):
            causes = ", ".join(sorted({dead.cause.replace("_", " ") for dead in each.dead}))
            found.append(Problem(f"{name}: {number} given up ({causes}).", "Look at each, then leadway-calls replay."))
        if each.unclear.for_a_person:
            found.append(
                Problem(
                    f"{name}: {each.unclear.for_a_person} unclear, waiting for a person.",
                    "Look into the CRM, then leadway-calls follow-up ID --is-there or --send-again.",
                    "warn",
                )
            )
    return found


def needs_a_look(each: AccountOverview) -> bool:
    return bool(
        each.waiting_calls or each.waiting_follow_ups or each.running or each.unclear.number or each.dead or each.paused
    )


def _kinds(processes: list[Heartbeat]) -> list[Kind]:
    names = [*NEEDED_ROLES, *sorted({each.process for each in processes} - set(NEEDED_ROLES))]
    return [
        Kind(
            name,
            alive=sum(each.is_alive for each in processes if each.process == name),
            slots=sum(each.slots for each in processes if each.process == name and each.is_alive),
            silent=tuple(each.seconds_ago for each in processes if each.process == name and not each.is_alive),
        )
        for name in names
    ]


def _flower(port: int) -> str | None:
    """Its address, if this page was asked for on the machine itself: Flower listens on loopback only."""
    host = urlsplit(request.host_url).hostname or ""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/" if host in LOOPBACK else None


def _shown(name: str) -> CallFilter | None:
    return CallFilter(name) if name in tuple(CallFilter) else None


def _place(text: str) -> Cursor | None:
    """What cannot be read is the first page: nobody writes such an address by hand."""
    when, _, rest = text.partition("~")
    location_id, _, call_id = rest.partition("~")
    try:
        created_at = datetime.fromisoformat(when)
    except ValueError:
        return None
    return Cursor(created_at, location_id, call_id) if created_at.tzinfo and call_id else None


def _address(location_id: str | None, shown: CallFilter | None, after: Cursor | None) -> str:
    place = after and f"{after.created_at.isoformat()}~{after.location_id}~{after.call_id}"
    return url_for("ops.calls", account=location_id, status=shown and str(shown), after=place)
