"""What an operator may do from a page: fetch a call again, send or settle a follow-up, pause, resume, compare the list.

Each is first told: what will happen, to what. Then it writes down what is wanted and a line of the audit, in one
transaction; a worker does it within a second or so, and the page that follows tells what became of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from flask import Blueprint, abort, flash, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import Connection

from models.accounts import accounts, pauses
from models.accounts.accounts import UnknownAccount
from models.accounts.pauses import PauseCause
from models.calls import calls
from models.database import Database, now
from models.follow_ups import follow_ups
from models.reconciling import schedule
from models.reports import users
from webhook.deadline import DeadlinePool

NOT_ANY_MORE = "Nothing was changed: it is not like that any more."
LONGEST_REASON = 200


@dataclass(frozen=True)
class Subject:
    """What an act is about: an account, one of its calls, or one of that call's follow-ups."""

    location_id: str
    call_id: str | None = None
    follow_up_id: str | None = None
    reason: str = ""

    @property
    def id(self) -> str | None:
        """None: the account itself."""
        return self.follow_up_id or self.call_id

    @property
    def page(self) -> str:
        if self.call_id is None:
            return url_for("ops.calls")
        return url_for("ops.call", location_id=self.location_id, call_id=self.call_id)


@dataclass(frozen=True)
class Act:
    title: str
    before: str
    """Says what will happen."""
    after: str
    """Says what has been done."""
    write: Callable[[Connection, Subject], bool]
    """Returns whether anything was changed."""
    wants_reason: bool = False


def add_to(blueprint: Blueprint, database: Database, pool: DeadlinePool) -> None:
    def asked(acts: Mapping[str, Act], name: str, subject: Subject) -> ResponseReturnValue:
        act = acts.get(name)
        if act is None:
            abort(HTTPStatus.NOT_FOUND)
        if not g.user.may_act:
            abort(HTTPStatus.FORBIDDEN)
        if request.method == "GET":
            return render_template("act.html", act=act, subject=subject)
        by = g.user

        def write(connection: Connection) -> bool:
            changed = act.write(connection, subject)
            if changed:
                users.write_audit(connection, by, name, location_id=subject.location_id, subject=subject.id)
            return changed

        changed = pool.run(lambda: database.transact(write))
        flash(act.after if changed else NOT_ANY_MORE, "good" if changed else "warn")
        return redirect(subject.page, HTTPStatus.SEE_OTHER)

    @blueprint.route("/accounts/<location_id>/<name>", methods=["GET", "POST"])
    def act_on_account(location_id: str, name: str) -> ResponseReturnValue:
        reason = " ".join(request.form.get("reason", "").split())[:LONGEST_REASON]
        return asked(ON_ACCOUNTS, name, Subject(location_id, reason=reason))

    @blueprint.route("/calls/<location_id>/<call_id>/<name>", methods=["GET", "POST"])
    def act_on_call(location_id: str, call_id: str, name: str) -> ResponseReturnValue:
        return asked(ON_CALLS, name, Subject(location_id, call_id))

    @blueprint.route("/calls/<location_id>/<call_id>/<follow_up_id>/<name>", methods=["GET", "POST"])
    def act_on_follow_up(location_id: str, call_id: str, follow_up_id: str, name: str) -> ResponseReturnValue:
        return asked(ON_FOLLOW_UPS, name, Subject(location_id, call_id, follow_up_id))


def _if_served(write: Callable[[Connection, Subject], bool]) -> Callable[[Connection, Subject], bool]:
    def checked(connection: Connection, it: Subject) -> bool:
        try:
            return accounts.get(connection, it.location_id).removed_at is None and write(connection, it)
        except UnknownAccount:
            return False

    return checked


def _if_of_this_call(write: Callable[[Connection, str], bool]) -> Callable[[Connection, Subject], bool]:
    def checked(connection: Connection, it: Subject) -> bool:
        found = follow_ups.get(connection, it.follow_up_id or "")
        is_its = found is not None and (found.location_id, found.call_id) == (it.location_id, it.call_id)
        return is_its and write(connection, it.follow_up_id or "")

    return checked


def _pause(connection: Connection, it: Subject) -> bool:
    detail = f"{it.reason or 'Paused by a person.'} Ends with `leadway-calls accounts resume {it.location_id}`."
    return pauses.pause(connection, it.location_id, cause=PauseCause.PERSON, detail=detail)


def _refetch(connection: Connection, it: Subject) -> bool:
    return calls.replay(connection, it.location_id, it.call_id or "")


ON_CALLS = {
    "refetch": Act(
        "Fetch the log again",
        "Leadway is asked for this call's log now. A fuller log adds follow-ups, and repeats none.",
        "Its log is fetched again now.",
        _refetch,
    )
}
ON_FOLLOW_UPS = {
    "send": Act(
        "Try again now",
        "It is tried again now. If an earlier request may have written it, it is looked for first: nothing is written"
        " twice.",
        "It is tried again now.",
        _if_of_this_call(follow_ups.resend),
    ),
    "is-there": Act(
        "It is there",
        "You have looked into Leadway, and it is there. It counts as done, and is not written again.",
        "It counts as done.",
        _if_of_this_call(lambda connection, it: follow_ups.settle_by_person(connection, it, is_there=True)),
    ),
    "is-not-there": Act(
        "It is not there: write it",
        "You have looked into Leadway, and it is not there. It is written again without being looked for: this is the"
        " one way in which a note can be written twice.",
        "It is written again now.",
        _if_of_this_call(lambda connection, it: follow_ups.settle_by_person(connection, it, is_there=False)),
    ),
}
ON_ACCOUNTS = {
    "pause": Act(
        "Pause",
        "Leadway is asked nothing about this account any more: no logs, no notes. Notifications are still taken in.",
        "The account is paused.",
        _if_served(_pause),
        wants_reason=True,
    ),
    "resume": Act(
        "Go on",
        "Every pause of this account ends. A cause that still holds pauses it again by itself.",
        "The account goes on.",
        _if_served(lambda connection, it: pauses.resume(connection, it.location_id)),
    ),
    "reconcile": Act(
        "Compare the list now",
        "Leadway's list of calls is compared with what is here now; what is missing is taken in.",
        "Leadway's list is compared now.",
        _if_served(lambda connection, it: schedule.open_regular(connection, it.location_id, until=now(connection))),
    ),
}
