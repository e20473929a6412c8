"""Carries out one follow-up in the CRM, exactly once, on an API that has no idempotency key.

An intent is committed before the request, under fence and lease. From then on the outcome is unclear until the answer
tells it, or until a probe after the settle window: a search for the reference line that each note and task carries.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from models.accounts import accounts, circuit_breaker
from models.accounts.accounts import Account
from models.calls import calls
from models.database import now
from models.failpoints import failpoint
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUp, FollowUpState
from models.follow_ups.references import carries_reference
from models.follow_ups.rules import FollowUpKind
from models.follow_ups.templates import WordingError
from models.work.history import Outcome
from models.work.lifecycle import Claim, LeaseLost
from workers.app import app
from workers.attempts.attempt import Attempt, AttemptFailed, claimed, tell_celery
from workers.attempts.failure_policy import apply_policy, apply_to_account, seconds_until_retry
from workers.follow_ups.wording import BookingNotListedYet, NothingToWord, WordedFollowUp, word_follow_up
from workers.leadway.client import LeadwayClient
from workers.leadway.errors import ErrorKind, LeadwayError, RetryableLeadwayError
from workers.process.connections import Connections
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

MOST_POSTS = 5
"""Requests that may have written the follow-up and were each found absent twice; then a person looks."""
PROVEN_ABSENT = 2
"""Answered probes without a finding that prove one request's follow-up absent; no more probes are made for it."""
KNOWN_LATE = timedelta(minutes=15)
"""From a call's end to its first storing: then its note is looked for before it is written."""
SHARE_FOR_LOOKUPS = 0.5
"""Part of an attempt's time that lookups may take: one that hangs leaves time for writing without its answer."""
MARGIN_OF_LEASE = 0.1
"""Part of the lease that must remain after the request's deadline."""


_SUCCEEDED = ("written", "adopted", "appointment_not_there_yet", ErrorKind.BUDGET, ErrorKind.NO_TIME)
"""Outcomes with which nothing is wrong: it is there, or waits for its turn or for its appointment."""


@app.task(name=FOLLOW_UP.task, throws=(AttemptFailed,))
def send_follow_up(location_id: str, follow_up_id: str) -> None:
    """Makes one attempt at this follow-up, if it is due."""
    key = follow_ups.work_key(location_id, follow_up_id)
    with claimed(key, at_claim=follow_ups.begin, at_abort=follow_ups.record_abort) as attempt:
        if attempt is None:
            return
        attempt.outcome = _send(attempt)
    tell_celery(attempt, succeeded=_SUCCEEDED)


def _send(attempt: Attempt) -> str:
    claim = attempt.claim
    with attempt.this.database.reading() as connection:
        account = accounts.get(connection, claim.key.location_id)
        follow_up = follow_ups.get(connection, claim.key.subject)
    if follow_up is None:
        raise LookupError("work without its follow-up")
    attempt.call_id = follow_up.call_id
    client = attempt.this.leadway.for_account(account, lane=claim.lane, deadline=claim.deadline)
    sending = _Sending(attempt, follow_up, account, client)
    with structlog.contextvars.bound_contextvars(call_id=follow_up.call_id):
        outcome = _probe(sending) if follow_up.intent_at is not None else _look_for_late_one(sending)
        return outcome if outcome is not None else _write(sending)


@dataclass(frozen=True)
class _Sending:
    """One attempt at a follow-up, and what it works with."""

    attempt: Attempt
    follow_up: FollowUp
    """As the claim found it."""
    account: Account
    client: LeadwayClient

    @property
    def this(self) -> Connections:
        return self.attempt.this

    @property
    def claim(self) -> Claim:
        return self.attempt.claim

    @property
    def settle_seconds(self) -> float:
        return self.this.settings.leadway_settle_seconds


def _probe(sending: _Sending) -> str | None:
    """Resolves an unclear outcome: looks for what an earlier request may have written, and adopts what it finds.

    Returns the attempt's outcome. None: the follow-up is proven absent, or writing it twice is harmless; write it.
    """
    follow_up = sending.follow_up
    if follow_up.kind is FollowUpKind.TAG:
        return None  # setting a tag twice is setting it once
    if follow_up.kind is FollowUpKind.WORKFLOW:
        return _wait_for_a_person(sending, "cannot_be_looked_up")
    waited = _seconds_unclear(sending)
    if waited < sending.settle_seconds:
        return _stay_unclear(sending, seconds=sending.settle_seconds - waited, tried=False, error=None)
    if follow_up.absences >= PROVEN_ABSENT:
        return None  # proven by an earlier attempt, which then could not write for another reason
    try:
        found = _find_by_reference(sending)
    except LeadwayError as error:
        return _apply_policy(sending, error)
    failpoint("probe_answered")
    if found:
        return _adopt(sending, found, waited)
    if follow_up.absences == 0:
        seconds = sending.settle_seconds / 3
        return _stay_unclear(sending, seconds=seconds, tried=True, error="absent_once", absences=1)
    if sending.account.references_lost_at is not None:
        return _wait_for_a_person(sending, "reference_not_kept")  # so its absence proves nothing
    if follow_up.posts >= MOST_POSTS:
        return _wait_for_a_person(sending, "absent_after_every_post")
    return None


def _look_for_late_one(sending: _Sending) -> str | None:
    """Looks once, before the first write, where the call became known long after its end: whatever made it late may
    have made us forget that the note was written. Returns the attempt's outcome; None: write it."""
    follow_up = sending.follow_up
    if follow_up.kind not in (FollowUpKind.NOTE, FollowUpKind.TASK):
        return None
    with sending.this.database.reading() as connection:
        ended_at = calls.ended_at(connection, follow_up.location_id, follow_up.call_id)
    if ended_at is None or follow_up.planned_at - ended_at < KNOWN_LATE:
        return None
    try:
        found = _find_by_reference(sending)
    except LeadwayError as error:
        return _apply_policy(sending, error)
    return _adopt(sending, found, 0.0) if found else None


def _seconds_unclear(sending: _Sending) -> float:
    """For how long the outcome has been unclear. The row keeps no time where the vendor's limiter refused the request:
    it stands before the API, so no settle window is waited for."""
    since = sending.follow_up.unclear_since
    return sending.settle_seconds if since is None else (sending.claim.claimed_at - since).total_seconds()


def _find_by_reference(sending: _Sending) -> list[str]:
    """Ids of the notes or tasks that carry our reference, oldest first.

    Raises LeadwayError, also when the list could not be read whole: a part of it proves no absence.
    """
    contact_id, reference = _contact(sending), sending.follow_up.follow_up_id
    earliest = datetime.min.replace(tzinfo=UTC)
    if sending.follow_up.kind is FollowUpKind.NOTE:
        notes = sorted(sending.client.list_notes(contact_id), key=lambda note: note.added_at or earliest)
        return [note.note_id for note in notes if carries_reference(note.body, reference)]
    return [task.task_id for task in sending.client.list_tasks(contact_id) if carries_reference(task.body, reference)]


def _adopt(sending: _Sending, found: list[str], waited: float) -> str:
    """Completes the follow-up with what an earlier request wrote: of several the oldest, and a person must know."""
    if len(found) > 1:
        log.error("follow_up_doubled", follow_up_id=sending.follow_up.follow_up_id, number=len(found))
        metrics.DOUBLED.inc()
    metrics.FOUND_BY_REFERENCE_SECONDS.observe(waited)
    _finish(sending, found[0])
    return "adopted"


def _write(sending: _Sending) -> str:
    """Words the follow-up, commits the intent, sends the one request, and commits its result."""
    proven = {} if sending.follow_up.intent_at is None else {"absences": PROVEN_ABSENT}
    try:
        worded = word_follow_up(
            sending.this, sending.claim, sending.follow_up, account=sending.account, client=_client_for_lookups(sending)
        )
    except BookingNotListedYet as wait:
        return _look_again(sending, seconds=wait.seconds)
    except (NothingToWord, WordingError) as error:
        return _dead_letter(sending, error=str(error))
    except LeadwayError as error:
        return _apply_policy(sending, error, **proven)
    try:
        sending.client.reserve()
    except LeadwayError as error:
        return _apply_policy(sending, error, **proven, **worded.columns)
    failpoint("follow_up_worded")
    if not _intend(sending, worded):
        # Rescheduled, not left alone: a lease that runs out looks like a crash, and several of those like poison.
        too_late = RetryableLeadwayError(ErrorKind.NO_TIME, reached=False)
        return _apply_policy(sending, too_late, **proven, **worded.columns)
    failpoint("intent_committed")
    try:
        remote_id = _request(sending, worded)
    except LeadwayError as error:
        return _after_failed_request(sending, error)
    failpoint("note_answered")
    _finish(sending, remote_id)
    failpoint("follow_up_done")
    return "written"


def _client_for_lookups(sending: _Sending) -> LeadwayClient:
    claim = sending.claim
    deadline = claim.deadline - (1 - SHARE_FOR_LOOKUPS) * claim.seconds_left
    return sending.this.leadway.for_account(sending.account, lane=claim.lane, deadline=deadline)


def _intend(sending: _Sending, worded: WordedFollowUp) -> bool:
    """Commits the intent if the lease outlasts the request's deadline; False: it does not, nothing may be sent."""
    if sending.claim.seconds_left <= 0:
        return False
    seconds = sending.claim.seconds_left + MARGIN_OF_LEASE * sending.this.settings.leadway_lease_seconds

    def write(connection: Connection) -> bool:
        intended = follow_ups.intend(connection, sending.claim, sending.follow_up, seconds=seconds, **worded.columns)
        failpoint("intent_before_commit")
        return intended

    return sending.attempt.commit(write)


def _request(sending: _Sending, worded: WordedFollowUp) -> str | None:
    """Sends the one request that writes; returns the new note's or task's id. Raises LeadwayError."""
    contact_id, client = _contact(sending), sending.client
    match sending.follow_up.kind:
        case FollowUpKind.NOTE:
            note = client.create_note(contact_id, body=worded.body)
            _compare_reference(sending, note.body)
            return note.note_id
        case FollowUpKind.TASK:
            due_at = worded.due_at or datetime.now(UTC)
            task = client.create_task(
                contact_id, title=worded.title or "", body=worded.body, due_at=due_at, assigned_to=worded.assigned_to
            )
            _compare_reference(sending, task.body)
            return task.task_id
        case FollowUpKind.TAG:
            client.add_tags(contact_id, tags=worded.tags)
        case FollowUpKind.WORKFLOW:
            client.enrol_in_workflow(contact_id, workflow_id=worded.workflow_id)
    return None


def _compare_reference(sending: _Sending, returned: str) -> None:
    """Keeps whether the CRM returns what we write with its reference line, by which alone it can be found again."""
    if not returned:
        return  # it is not told
    kept = carries_reference(returned, sending.follow_up.follow_up_id)
    if kept == (sending.account.references_lost_at is None):
        return
    if not kept:
        log.error("reference_not_kept", location_id=sending.account.location_id, kind=str(sending.follow_up.kind))
    with suppress(SQLAlchemyError):  # the note is written: that must be kept before all
        sending.this.database.transact(
            lambda connection: accounts.tell_references(connection, sending.account.location_id, kept=kept)
        )


def _contact(sending: _Sending) -> str:
    if sending.follow_up.contact_id is None:
        raise AssertionError("a follow-up without a contact is skipped when it is planned")
    return sending.follow_up.contact_id


def _after_failed_request(sending: _Sending, error: LeadwayError) -> str:
    """Reschedules as if nothing had been sent where the request provably was not executed; else unclear from now on."""
    refused_by_the_limit = error.kind is ErrorKind.THROTTLED and error.names_limit
    if not error.reached or (refused_by_the_limit and sending.follow_up.kind is FollowUpKind.WORKFLOW):
        not_sent = {"status": FollowUpState.PENDING, "intent_at": None, "posts": sending.follow_up.posts}
        return _apply_policy(sending, error, **not_sent)
    if sending.follow_up.kind is FollowUpKind.TAG:  # a tag twice is a tag once
        return _apply_policy(sending, error, status=FollowUpState.PENDING, intent_at=None)
    kind, status = str(error.kind), error.http_status
    log.warning("follow_up_became_unclear", follow_up_id=sending.follow_up.follow_up_id, error=kind, http_status=status)

    def write(connection: Connection) -> None:
        # The time is taken before the due time, so that the settle window is over when the row is due.
        facts: dict[str, Any] = {"status": FollowUpState.UNCLEAR, "unclear_since": now(connection)}
        seconds = sending.settle_seconds
        if error.kind is ErrorKind.THROTTLED:
            first_delay = sending.this.settings.leadway_retry_seconds
            apply_to_account(
                connection, error, account=sending.account, work=FOLLOW_UP.paused_as, first_delay=first_delay
            )
        if refused_by_the_limit:
            facts |= {"unclear_since": None, "absences": PROVEN_ABSENT - 1, "posts": sending.follow_up.posts}
            seconds = seconds_until_retry(error, tries=1, first_delay=first_delay)
        follow_ups.reschedule(
            connection, sending.claim, seconds=seconds, facts=facts, outcome=Outcome.UNCLEAR,
            counted=not refused_by_the_limit, error=kind, http_status=status, trace_id=error.trace_id,
        )  # fmt: skip

    sending.attempt.commit(write)
    return "unclear"


def _finish(sending: _Sending, remote_id: str | None) -> None:
    def write(connection: Connection) -> None:
        follow_ups.finish(connection, sending.claim, remote_id=remote_id)
        circuit_breaker.record_success(connection, sending.account.location_id)
        failpoint("follow_up_before_commit")

    try:
        sending.attempt.commit(write)
    except LeaseLost:
        # The note is written, but another attempt has taken the row over: that one will find the note's reference.
        log.warning("follow_up_written_after_lease", follow_up_id=sending.follow_up.follow_up_id)
        raise


def _stay_unclear(sending: _Sending, *, seconds: float, tried: bool, error: str | None, absences: int = 0) -> str:
    error = error or sending.claim.last_error
    _reschedule(
        sending, seconds=seconds, facts={"absences": absences}, tried=tried, outcome=Outcome.UNCLEAR, error=error
    )
    return "unclear"


def _wait_for_a_person(sending: _Sending, why: str) -> str:
    _reschedule(sending, seconds=None, outcome=Outcome.UNCLEAR, counted=True, error=why)
    log.error("person_needed", follow_up_id=sending.follow_up.follow_up_id, why=why)
    return "person_needed"


def _dead_letter(sending: _Sending, *, error: str) -> str:
    cause = "cannot_be_worded"
    sending.attempt.commit(
        lambda connection: follow_ups.dead_letter(connection, sending.claim, cause=cause, error=error)
    )
    log.error("work_dead_lettered", work=FOLLOW_UP.name, subject=sending.follow_up.follow_up_id, cause=cause)
    return "dead"


def _look_again(sending: _Sending, *, seconds: float) -> str:
    error = "appointment_not_there_yet"
    _reschedule(sending, seconds=seconds, tried=False, error=error)
    return error


def _reschedule(sending: _Sending, *, seconds: float | None, facts: dict[str, Any] | None = None, **how: Any) -> None:
    sending.attempt.commit(
        lambda connection: follow_ups.reschedule(connection, sending.claim, seconds=seconds, facts=facts, **how)
    )


def _apply_policy(sending: _Sending, error: LeadwayError, **facts: Any) -> str:
    """Applies the failure policy and writes columns of the follow-up. One whose outcome is unclear does not die."""
    status = facts.get("status", sending.follow_up.status)

    def write(connection: Connection) -> None:
        may_die = status is not FollowUpState.UNCLEAR
        dead = apply_policy(connection, sending.this, sending.claim, error, account=sending.account, may_die=may_die)
        follow_ups.write(connection, sending.claim, **(facts | ({"status": FollowUpState.DEAD} if dead else {})))

    sending.attempt.commit(write)
    return str(error.kind)
