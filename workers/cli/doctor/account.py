"""What the doctor looks at for one account: its token, each scope, the limits, and whether notifications come."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import sqlalchemy as sa

from models.accounts import accounts, pauses
from models.accounts.accounts import Account
from models.accounts.pauses import PauseCause
from models.calls.calls import calls_table
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUpState, follow_ups_table
from models.intake import inbox, notifications
from models.intake.notifications import NotificationStatus
from models.work.work_rows import Lane
from workers.attempts.failure_policy import GRANT_REFUSED, PAUSING
from workers.cli.doctor.checks import Check, failed, fine, warning
from workers.cli.screen import when
from workers.cli.standing import waiting_told
from workers.leadway.client import LeadwayClient
from workers.leadway.errors import ErrorKind, LeadwayError
from workers.process.connections import Connections

CHECK_SECONDS = 15.0
LEADWAY_SKEW_SECONDS = 30.0
NOBODY = "000000000000000000000000"
"""An id in the form of Leadway's that names nothing: what is asked is whether we may ask."""
MAY_ASK = (ErrorKind.NOT_FOUND, ErrorKind.CONTACT_UNKNOWN, ErrorKind.REFUSED, ErrorKind.WRONG_KIND)
"""Answers that come from behind the door: the token has the scope, the thing is not there."""


@dataclass
class _Seen:
    """The answers' headers, as they come."""

    headers: dict[str, str] = field(default_factory=dict)

    def note(self, _endpoint: str, _answer: object, _seconds: float, headers: Mapping[str, str]) -> None:
        self.headers.update(headers)


def of_account(this: Connections, account: Account) -> Iterator[Check]:
    for check in _checks(this, account):
        yield replace(check, location_id=account.location_id, language=account.language)


def _checks(this: Connections, account: Account) -> Iterator[Check]:
    if account.api_token_encrypted is None and account.token_expires_at is None:
        yield _of_notifications(this, account.location_id)  # the verdict tells that there is no token to ask with
        return
    seen = _Seen()

    def client() -> LeadwayClient:
        deadline = time.monotonic() + CHECK_SECONDS
        return this.leadway.for_account(account, lane=Lane.LIVE, deadline=deadline, observe=seen.note)

    error = _asked(lambda: client().probe(account))
    yield _of_token(account, error)
    if error is None or error.kind is ErrorKind.SCOPE:
        yield _of_scope(
            "voice-ai-dashboard.readonly", error, "call logs can be read", failed, "no call log can be read"
        )
        yield from _of_other_scopes(this, account.location_id, client)
        yield _of_writing(this, account.location_id)
    if seen.headers:
        yield _of_limits(this, account, seen.headers)
        yield _of_clock(seen.headers)
    yield _of_notifications(this, account.location_id)


def _asked(ask: Callable[[], object]) -> LeadwayError | None:
    try:
        ask()
    except LeadwayError as error:
        return error
    return None


def _of_token(account: Account, error: LeadwayError | None) -> Check:
    """Token, location and Version header, told apart by the message of the one answer."""
    location_id = account.location_id
    set_one = f"make one in the portal and set it: `leadway-calls accounts set-token {location_id}`"
    if error is None or error.kind is ErrorKind.SCOPE:
        return fine("API token", "Leadway accepts it, and the Version header with it")
    name = {ErrorKind.LOCATION: "location", ErrorKind.VERSION: "Version header"}.get(error.kind, "API token")
    if error.kind in PAUSING:
        grant = error.kind is ErrorKind.TOKEN and account.token_expires_at is not None
        told = GRANT_REFUSED if grant else PAUSING[error.kind][1]
        if error.endpoint.startswith("the API token cannot"):
            told = "The stored token cannot be read: the key that wrote it is missing from TOKEN_ENCRYPTION_KEYS."
        found, _, do = told.partition(": ") if grant or ": " in told else (told, "", set_one)
        return failed(name, f"{found} ({error})", do or set_one)
    if error.kind in (ErrorKind.THROTTLED, ErrorKind.BUDGET):
        told = "Leadway or our own budget lets nothing through at the moment"
        return warning("API", f"{told} ({error})", "look again in a minute")
    told = f"Leadway cannot be asked ({error})"
    do = "check the network, LEADWAY_API_URL, and Leadway's status page"
    return failed("API", told, do)


def _of_other_scopes(this: Connections, location_id: str, client: Callable[[], LeadwayClient]) -> Iterator[Check]:
    with this.database.reading() as connection:
        query = sa.select(calls_table.c.contact_id).where(
            calls_table.c.location_id == location_id, calls_table.c.contact_id.is_not(None)
        )
        contact_id = connection.execute(query.limit(1)).scalar() or NOBODY
    notes = _asked(lambda: client().list_notes(contact_id))
    without = "no note is written, for none can be looked up first"
    yield _of_scope("contacts.readonly", notes, "notes can be looked up", failed, without)
    appointment = _asked(lambda: client().get_appointment(NOBODY))
    without = "notes about bookings cannot give the exact time"
    yield _of_scope("calendars/events.readonly", appointment, "booked times can be looked up", warning, without)


def _of_scope(
    scope: str, error: LeadwayError | None, granted: str, lacking: Callable[[str, str, str], Check], without: str
) -> Check:
    name = f"scope {scope}"
    if error is None or error.kind in MAY_ASK:
        return fine(name, granted)
    if error.kind is ErrorKind.SCOPE:
        return lacking(name, f"the token lacks it: {without}", f"add {scope} to the token in the portal")
    return warning(name, f"it could not be tried ({error})", "look again in a minute")


def _of_writing(this: Connections, location_id: str) -> Check:
    """Trying it would write. What was written before proves it."""
    name = "scope contacts.write"
    with this.database.reading() as connection:
        paused = pauses.of_account(connection, location_id)
        done = sa.select(sa.func.max(follow_ups_table.c.done_at)).where(
            follow_ups_table.c.location_id == location_id, follow_ups_table.c.status == FollowUpState.DONE
        )
        last = connection.execute(done).scalar()
    if any((each.cause, each.work) == (PauseCause.SCOPE, FOLLOW_UP.name) for each in paused):
        do = "add contacts.write to the token in the portal"
        return failed(name, "the last note was refused for want of a scope", do)
    if last is not None:
        return fine(name, f"the last note was written at {when(last)}")
    return fine(name, "not proven yet: it cannot be tried without writing, and no note was written so far")


def _of_limits(this: Connections, account: Account, headers: Mapping[str, str]) -> Check:
    lower = {name.lower(): value for name, value in headers.items()}
    most, left = lower.get("x-ratelimit-max"), lower.get("x-ratelimit-daily-remaining")
    if most is None:
        told = "Leadway's answers tell none; ours holds"
        return fine("limits", told)
    allowed = this.leadway.allowance(account).per_10_seconds
    told = f"Leadway allows {most} requests in {int(lower.get('x-ratelimit-interval-milliseconds', 10_000)) // 1000} s"
    if left is not None:
        told += f", {left} are left today"
        if account.token_expires_at is None:  # a private token; an app has a day of its own (the vendor's limits page)
            told += " for all private integrations of the location"
    if most.isdigit() and int(most) < allowed:
        do = f"we keep to it; `leadway-calls accounts set-budget {account.location_id} --per-10-seconds {most}` says so"
        return warning("limits", f"{told}; {allowed} are set here", do)
    return fine("limits", f"{told}; {allowed} in 10 s are set here")


def _of_clock(headers: Mapping[str, str]) -> Check:
    date = next((value for name, value in headers.items() if name.lower() == "date"), None)
    try:
        skew = (datetime.now(UTC) - parsedate_to_datetime(date or "")).total_seconds()
    except ValueError:
        return fine("clock and Leadway's", "Leadway's answers tell no time")
    if abs(skew) <= LEADWAY_SKEW_SECONDS:
        return fine("clock and Leadway's", "they agree")
    told = f"this machine is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'} of Leadway"
    return warning("clock and Leadway's", told, "let this machine keep time by NTP")


def _of_notifications(this: Connections, location_id: str) -> Check:
    """Whether the webhook was pasted well. Whether it works on is the verdict's."""
    name, do = "notifications", "compare the webhook in Leadway with the URL of the setup page under /ops/setup"
    with this.database.reading() as connection:
        newest = notifications.newest(connection, location_id=location_id, limit=1)
        waiting = inbox.waiting(connection, location_id)
        secret, _ = accounts.has_intake_secrets(connection, location_id)
    if not newest and waiting.number:
        return fine(name, f"{waiting_told(waiting)}; none came before")
    if not newest:
        door = "" if secret else "; it has no intake secret, so only signed ones could be told to be genuine"
        return warning(name, f"none came yet{door}", do)
    last = newest[0]
    told = f"the last came at {when(last.last_received_at)}, authenticated by {last.authenticated_by}"
    if last.status != NotificationStatus.ACCEPTED:
        return warning(name, f"{told}; it was {last.status} ({last.reason})", do)
    return fine(name, told)
