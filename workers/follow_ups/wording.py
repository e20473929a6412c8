"""The words of a note: reads the stored call, looks its booking up, renders the rule's template."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from models.accounts.accounts import Account
from models.calls import calls
from models.calls.call_log import Action, ActionType, CallLog
from models.calls.calls import Call
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FollowUp
from models.follow_ups.languages import zone_of
from models.follow_ups.rules import FollowUpKind, Rule
from models.follow_ups.template_names import AppointmentLookup, BookedAppointment, NoteContext
from models.follow_ups.templates import tags_for, word_note, word_task
from models.work.lifecycle import Claim
from workers.leadway.client import LeadwayClient
from workers.leadway.documents import Appointment
from workers.leadway.errors import NOT_A_TRY, ErrorKind, LeadwayError, RetryableLeadwayError
from workers.process.connections import Connections

BOOKED_UP_TO = timedelta(hours=1)
"""An appointment that was added longer than this after the action was not booked by the action."""
CLOCKS_DIFFER_BY = timedelta(minutes=1)
ANY_ZONE = timedelta(hours=15)
"""Two readings of a time without a zone differ by at most this."""
MOST_EXACT_LOOKUPS = 5
"""Appointments of one contact that are asked for singly in one attempt."""
LOOKUPS_TRIED = 6
"""Failed attempts after which the note is written without its lookup, and says so."""
LATE_AFTER = timedelta(hours=1)
"""The note of a call that became known this long after its end says that it is late."""
LOOK_AGAIN_FOR = 12
"""For this many first delays (12 of 5 s: a minute) after the call was stored, a booking may still be listed."""
NOT_ABOUT_THE_LOOKUP = (*NOT_A_TRY, ErrorKind.THROTTLED, ErrorKind.CONTACT_UNKNOWN)
"""Errors that would meet the note's own request as well: no reason to write the note without its lookup."""
STOPS_THE_ACCOUNT = (ErrorKind.TOKEN, ErrorKind.LOCATION)


class NothingToWord(Exception):
    """The follow-up's rule or its call is gone: there is nothing to word it from."""


class BookingNotListedYet(Exception):
    """The booked appointment may still turn up in the calendar: look again in `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the booked appointment is not in the calendar yet")
        self.seconds = seconds


@dataclass(frozen=True)
class WordedFollowUp:
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
        """The columns of `follow_ups` that keep the words."""
        return {"title": self.title, "body": self.body, "appointment_id": self.appointment_id}


def word_follow_up(
    this: Connections, claim: Claim, follow_up: FollowUp, *, account: Account, client: LeadwayClient
) -> WordedFollowUp:
    """The follow-up in words; looks a booked appointment up, and writes nothing.

    Raises NothingToWord, WordingError (the template), BookingNotListedYet, and LeadwayError where the lookup is worth
    waiting for.
    """
    rule = this.rules.find(follow_up.rule_id, location_id=account.location_id)
    if rule is None:
        raise NothingToWord(f"the rule {follow_up.rule_id!r} is no longer in the rules file")
    if rule.kind is not follow_up.kind:
        raise NothingToWord(
            f"the rule {rule.id!r} made a {follow_up.kind} when it was planned and makes a {rule.kind} now"
        )
    with this.database.reading() as connection:
        call = calls.get(connection, account.location_id, follow_up.call_id)
        actions = calls.keyed_actions(connection, account.location_id, follow_up.call_id)
    if call is None:
        raise NothingToWord("its call is no longer stored")
    call_log = call.call_log
    action = dict(actions).get(follow_up.action_key)
    if follow_up.body is not None and rule.kind in _WORDED:
        return _as_worded_before(rule, follow_up, call_log)
    lookup, appointment = AppointmentLookup.UNAVAILABLE, None
    if action is not None and action.action_type == ActionType.APPOINTMENT_BOOKING and rule.kind in _WORDED:
        lookup, appointment = _look_up(
            this, claim, follow_up, call_log, actions, account=account, client=client, stored_at=call.stored_at
        )
    context = _context(
        call, action, account=account, reference=follow_up.follow_up_id, lookup=lookup, appointment=appointment,
        written_at=claim.claimed_at,
    )  # fmt: skip
    return _worded(rule, context, appointment_id=appointment.appointment_id if appointment else None)


def words_of(
    rule: Rule, call: Call, action: Action | None, *, account: Account, reference: str, at: datetime
) -> WordedFollowUp:
    """What the rule would say of the call at that time, without asking Leadway: as if no appointment could be looked
    up. Raises WordingError (the template)."""
    context = _context(
        call, action, account=account, reference=reference, lookup=AppointmentLookup.UNAVAILABLE, appointment=None,
        written_at=at,
    )  # fmt: skip
    return _worded(rule, context, appointment_id=None)


def _context(
    call: Call,
    action: Action | None,
    *,
    account: Account,
    reference: str,
    lookup: AppointmentLookup,
    appointment: Appointment | None,
    written_at: datetime,
) -> NoteContext:
    call_log = call.call_log
    known_after = call.first_heard_at - (call_log.ended_at or call.first_heard_at)
    return NoteContext(
        call_log=call_log,
        action=action,
        language=account.language,
        time_zone=account.time_zone,
        reference=reference,
        appointment=None if appointment is None else _as_booked(appointment),
        appointment_lookup=lookup,
        late=known_after > LATE_AFTER,
        written_at=written_at,
    )


_WORDED = (FollowUpKind.NOTE, FollowUpKind.TASK)


def _worded(rule: Rule, context: NoteContext, *, appointment_id: str | None) -> WordedFollowUp:
    match rule.kind:
        case FollowUpKind.NOTE:
            return WordedFollowUp(body=word_note(rule, context), appointment_id=appointment_id)
        case FollowUpKind.TASK:
            words = word_task(rule, context)
            due_at = _due_at(rule, context.call_log)
            return WordedFollowUp(
                words.body, words.title, due_at=due_at, assigned_to=rule.assigned_to, appointment_id=appointment_id
            )
        case FollowUpKind.TAG:
            tags = tags_for(rule, context)
            return WordedFollowUp(body=", ".join(tags), tags=tags)
        case FollowUpKind.WORKFLOW:
            return WordedFollowUp(body=rule.workflow_id or "", workflow_id=rule.workflow_id or "")


def _as_worded_before(rule: Rule, follow_up: FollowUp, call_log: CallLog) -> WordedFollowUp:
    """A follow-up is worded once: a later attempt spends no requests on another lookup."""
    return WordedFollowUp(
        body=follow_up.body or "",
        title=follow_up.title,
        due_at=_due_at(rule, call_log),
        assigned_to=rule.assigned_to,
        appointment_id=follow_up.appointment_id,
    )


def _due_at(rule: Rule, call_log: CallLog) -> datetime:
    return (call_log.ended_at or datetime.now(UTC)) + (rule.due_in or timedelta())


def _look_up(
    this: Connections,
    claim: Claim,
    follow_up: FollowUp,
    call_log: CallLog,
    actions: Sequence[tuple[str, Action]],
    *,
    account: Account,
    client: LeadwayClient,
    stored_at: datetime,
) -> tuple[AppointmentLookup, Appointment | None]:
    contact_id = follow_up.contact_id or ""
    try:
        listed = client.list_appointments(contact_id)
    except LeadwayError as error:
        if _is_worth_waiting_for(error, claim):
            raise
        return AppointmentLookup.UNAVAILABLE, None
    with this.database.reading() as connection:
        used = follow_ups.appointments_used(connection, account.location_id, contact_id, but_call=call_log.call_id)
    free = _with_exact_times([each for each in listed if each.appointment_id not in used], actions, client=client)
    found = match_bookings(actions, free, call_log=call_log, time_zone=account.time_zone).get(follow_up.action_key)
    if found is not None:
        return AppointmentLookup.FOUND, found
    first_delay = this.settings.leadway_retry_seconds
    waited = (claim.claimed_at - stored_at).total_seconds()
    if waited < LOOK_AGAIN_FOR * first_delay:
        raise BookingNotListedYet(max(first_delay, min(waited, LOOK_AGAIN_FOR * first_delay - waited)))
    return AppointmentLookup.NOT_FOUND, None


def match_bookings(
    actions: Sequence[tuple[str, Action]], appointments: Sequence[Appointment], *, call_log: CallLog, time_zone: str
) -> dict[str, Appointment]:
    """The appointment that each booking of the call made, by action key: the nearest one added after the booking.

    Each appointment is used once. All bookings of a call are decided together, so that their notes agree whichever is
    written first. `time_zone`: the account's, for times without a zone.
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
    """When the appointment was added, if that was soon after the action; else None.

    A time without a zone may be UTC or in the account's zone, so both readings are tried. In the account's zone one
    hour of the year comes twice; then both of its readings are tried.
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
    """Replaces appointments whose times lack a zone, and which a booking may have made, by their exact documents."""
    booked_at = [action.executed_at for _key, action in actions if action.executed_at is not None]
    calendars = {action.parameters.get("calendarId") for _key, action in actions}
    exact = list(listed)
    asked = 0
    for position, each in enumerate(listed):
        near = each.added_at is not None and any(abs(each.added_at - moment) < ANY_ZONE for moment in booked_at)
        if not each.zoneless or each.calendar_id not in calendars or not near or asked == MOST_EXACT_LOOKUPS:
            continue
        asked += 1
        try:
            exact[position] = client.get_appointment(each.appointment_id)
        except LeadwayError as error:
            if error.kind is ErrorKind.NO_TIME:
                break  # the lookup before hung, and would hang in the next attempt too: go on with what is known
            if error.kind in NOT_ABOUT_THE_LOOKUP:
                raise
    return exact


def _is_worth_waiting_for(error: LeadwayError, claim: Claim) -> bool:
    """Whether the attempt should be made again later, rather than the note written without this lookup.

    A lookup is optional: without its scope, or after LOOKUPS_TRIED failures, the note is written without it. When
    Leadway does not answer at all, the note could not be written either and need not be poorer.
    """
    if error.kind in NOT_ABOUT_THE_LOOKUP or error.kind in STOPS_THE_ACCOUNT:
        return True
    if error.kind is ErrorKind.OUTAGE and not error.reached:
        return True
    return isinstance(error, RetryableLeadwayError) and claim.attempts < LOOKUPS_TRIED
