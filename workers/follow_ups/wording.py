"""Finds what a follow-up has to say: reads the stored call, looks the booking up, renders the rule's words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from models.accounts.accounts import Account
from models.calls import calls
from models.calls.call_log import Action, ActionType, CallLog
from models.follow_ups import follow_ups
from models.follow_ups.languages import zone_of
from models.follow_ups.rules import FollowUpKind, Rule
from models.follow_ups.templates import (
    AppointmentLookup,
    BookedAppointment,
    NoteContext,
    tags_for,
    word_note,
    word_task,
)
from models.work.lifecycle import Claim
from workers.leadway.client import LeadwayClient
from workers.leadway.documents import Appointment
from workers.leadway.errors import ErrorKind, LeadwayError, PermanentLeadwayError, RetryableLeadwayError
from workers.process.connections import Connections

BOOKED_UP_TO = timedelta(hours=1)
"""An appointment added later than this after the action was made by somebody else."""
CLOCKS_DIFFER_BY = timedelta(minutes=1)
ANY_ZONE = timedelta(hours=15)
"""Two readings of a time without a zone may differ by so much."""
MOST_ASKED_FOR = 5
LOOKUPS_TRIED = 6
"""Failed attempts after which the note goes without its lookup: the words say so."""
LATE_AFTER = timedelta(hours=1)
"""A call that became known this long after its end is told as late."""
LOOK_AGAIN_FOR = 12
"""First delays (12 of 5 s: a minute) after storing the call, in which a booking may still turn up."""
NOT_ABOUT_THE_LOOKUP = (ErrorKind.BUDGET, ErrorKind.NO_TIME, ErrorKind.THROTTLED, ErrorKind.CONTACT_UNKNOWN)
STOPS_THE_ACCOUNT = (ErrorKind.TOKEN, ErrorKind.LOCATION)


class RuleGone(Exception):
    """The rule was taken out of the rules file since this follow-up was planned."""


class TooSoon(Exception):
    """The booked appointment may still turn up: ask again in so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the booked appointment is not in the calendar yet")
        self.seconds = seconds


@dataclass(frozen=True)
class Words:
    """What is sent, by kind: a note has a body, a task also a title and a due time, a tag tags, a workflow an id."""

    body: str = ""
    title: str | None = None
    tags: tuple[str, ...] = ()
    due_at: datetime | None = None
    assigned_to: str | None = None
    workflow_id: str = ""
    appointment_id: str | None = None

    @property
    def columns(self) -> dict[str, str | None]:
        """What the row keeps of them."""
        return {"title": self.title, "body": self.body, "appointment_id": self.appointment_id}


def words_for(this: Connections, claim: Claim, *, account: Account, client: LeadwayClient) -> Words:
    """Raises RuleGone, WordingError, TooSoon, and what the lookup of a booking raises; nothing has been sent yet."""
    row = claim.row
    rule = this.rules.find(row["rule_id"], location_id=account.location_id)
    if rule is None:
        raise RuleGone(f"the rule {row['rule_id']!r} is no longer in the rules file")
    with this.database.reading() as connection:
        call = calls.get(connection, account.location_id, row["call_id"])
        actions = calls.keyed_actions(connection, account.location_id, row["call_id"])
    if call is None:
        raise RuleGone("its call is no longer there")
    call_log = calls.as_call_log(call)
    action = dict(actions).get(row["action_key"])
    if row["body"] is not None and rule.kind in _WORDED:
        return _as_worded_before(rule, row, call_log)
    lookup, appointment = AppointmentLookup.UNAVAILABLE, None
    if action is not None and action.action_type == ActionType.APPOINTMENT_BOOKING and rule.kind in _WORDED:
        lookup, appointment = _look_up(
            this, claim, call_log, actions, account=account, client=client, stored_at=call["stored_at"]
        )
    known_after = call["created_at"] - (call_log.ended_at or call["created_at"])
    context = NoteContext(
        call_log=call_log,
        action=action,
        language=account.language,
        time_zone=account.time_zone,
        reference=row["follow_up_id"],
        appointment=None if appointment is None else _as_booked(appointment),
        appointment_lookup=lookup,
        late=known_after > LATE_AFTER,
        written_at=claim.claimed_at,
    )
    return _worded(rule, context, appointment_id=appointment.appointment_id if appointment else None)


_WORDED = (FollowUpKind.NOTE, FollowUpKind.TASK)


def _worded(rule: Rule, context: NoteContext, *, appointment_id: str | None) -> Words:
    match rule.kind:
        case FollowUpKind.NOTE:
            return Words(body=word_note(rule, context), appointment_id=appointment_id)
        case FollowUpKind.TASK:
            words = word_task(rule, context)
            due_at = _due_at(rule, context.call_log)
            return Words(
                words.body, words.title, due_at=due_at, assigned_to=rule.assigned_to, appointment_id=appointment_id
            )
        case FollowUpKind.TAG:
            tags = tags_for(rule, context)
            return Words(body=", ".join(tags), tags=tags)
        case FollowUpKind.WORKFLOW:
            return Words(body=rule.workflow_id or "", workflow_id=rule.workflow_id or "")


def _as_worded_before(rule: Rule, row: Mapping[str, Any], call_log: CallLog) -> Words:
    """It is worded once: a later attempt spends no requests on looking up again what it is going to say."""
    return Words(
        body=row["body"],
        title=row["title"],
        due_at=_due_at(rule, call_log),
        assigned_to=rule.assigned_to,
        appointment_id=row["appointment_id"],
    )


def _due_at(rule: Rule, call_log: CallLog) -> datetime:
    return (call_log.ended_at or datetime.now(UTC)) + (rule.due_in or timedelta())


def _look_up(
    this: Connections,
    claim: Claim,
    call_log: CallLog,
    actions: Sequence[tuple[str, Action]],
    *,
    account: Account,
    client: LeadwayClient,
    stored_at: datetime,
) -> tuple[AppointmentLookup, Appointment | None]:
    contact_id = claim.row["contact_id"]
    try:
        listed = client.list_appointments(contact_id)
    except (RetryableLeadwayError, PermanentLeadwayError) as error:
        if _is_worth_waiting_for(error, claim):
            raise
        return AppointmentLookup.UNAVAILABLE, None
    with this.database.reading() as connection:
        told = follow_ups.appointments_told(connection, account.location_id, contact_id, but_call=call_log.call_id)
    free = _with_exact_times([each for each in listed if each.appointment_id not in told], actions, client=client)
    found = match_bookings(actions, free, call_log=call_log, time_zone=account.time_zone).get(claim.row["action_key"])
    if found is not None:
        return AppointmentLookup.FOUND, found
    first_delay = this.settings.leadway_retry_seconds
    waited = (claim.claimed_at - stored_at).total_seconds()
    if waited < LOOK_AGAIN_FOR * first_delay:
        raise TooSoon(max(first_delay, min(waited, LOOK_AGAIN_FOR * first_delay - waited)))
    return AppointmentLookup.NOT_FOUND, None


def match_bookings(
    actions: Sequence[tuple[str, Action]], appointments: Sequence[Appointment], *, call_log: CallLog, time_zone: str
) -> dict[str, Appointment]:
    """Which appointment each booking of the call made, by action key: the nearest added after it, each used once.

    Decided for all bookings of a call together, so that their notes agree however they are written.
    """
    bookings = [
        (action.executed_at or call_log.started_at, key, action)
        for key, action in actions
        if action.action_type == ActionType.APPOINTMENT_BOOKING
    ]
    free = list(appointments)
    matched = {}
    for executed_at, key, action in sorted(
        bookings, key=lambda each: (each[0] or datetime.max.replace(tzinfo=UTC), each[1])
    ):
        if executed_at is None:
            continue
        calendar_id = action.parameters.get("calendarId")
        added = [
            (added_at, each)
            for each in free
            if calendar_id in (None, each.calendar_id) and (added_at := _added_after(each, executed_at, time_zone))
        ]
        if added:
            matched[key] = min(added, key=lambda pair: (pair[0], pair[1].appointment_id))[1]
            free.remove(matched[key])
    return matched


def _added_after(appointment: Appointment, executed_at: datetime, time_zone: str) -> datetime | None:
    """When it was added, if that is soon after the action. A time without a zone is UTC or the account's: either.

    In the account's zone one hour of the year comes twice: then it is either of the two.
    """
    if appointment.added_at is None:
        return None
    readings = [appointment.added_at]
    if "added_at" in appointment.zoneless:
        local = appointment.added_at.replace(tzinfo=zone_of(time_zone)[0])
        readings += [local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)]
    fitting = [each for each in readings if -CLOCKS_DIFFER_BY <= each - executed_at <= BOOKED_UP_TO]
    return min(fitting, default=None)


def _as_booked(appointment: Appointment) -> BookedAppointment:
    starts_at: datetime | str | None = appointment.starts_at
    if "starts_at" in appointment.zoneless and appointment.starts_at is not None:
        starts_at = f"{appointment.starts_at:%Y-%m-%d %H:%M}"
    return BookedAppointment(title=appointment.title, starts_at=starts_at, status=appointment.status)


def _with_exact_times(
    listed: Sequence[Appointment], actions: Sequence[tuple[str, Action]], *, client: LeadwayClient
) -> list[Appointment]:
    """The contact's list gives times without a zone; those that may be ours are asked for one by one."""
    booked_at = [action.executed_at for _key, action in actions if action.executed_at is not None]
    calendars = {action.parameters.get("calendarId") for _key, action in actions}
    exact = list(listed)
    asked = 0
    for position, each in enumerate(listed):
        near = each.added_at is not None and any(abs(each.added_at - moment) < ANY_ZONE for moment in booked_at)
        if not each.zoneless or each.calendar_id not in calendars or not near or asked == MOST_ASKED_FOR:
            continue
        asked += 1
        try:
            exact[position] = client.get_appointment(each.appointment_id)
        except (RetryableLeadwayError, PermanentLeadwayError) as error:
            if error.kind is ErrorKind.NO_TIME:
                break  # the one before hung: again and again, if this attempt were given up for it
            if error.kind in NOT_ABOUT_THE_LOOKUP:
                raise
    return exact


def _is_worth_waiting_for(error: LeadwayError, claim: Claim) -> bool:
    """A lookup is optional: without its scope, or failing again and again, the note is written without it.

    Not when nobody answers at all: then the note could not be written either, and need not be poorer for it.
    """
    if error.kind in NOT_ABOUT_THE_LOOKUP or error.kind in STOPS_THE_ACCOUNT:
        return True
    if error.kind is ErrorKind.OUTAGE and not error.reached:
        return True
    return isinstance(error, RetryableLeadwayError) and claim.attempts < LOOKUPS_TRIED
