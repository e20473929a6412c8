"""Carries out one follow-up in the CRM, exactly once, on an API that has no idempotency key.

An intent is committed before the request, under fence and lease. From then on the outcome is unclear until the answer
tells it, or until a probe after the settle window: a search for the reference line that each note and task carries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection

from models.accounts import accounts, circuit_breaker
from models.accounts.accounts import Account
from models.database import moment
from models.failpoints import failpoint
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP, UNCLEAR_FROM_THE_LEASE
from models.follow_ups.references import carries_reference
from models.follow_ups.rules import FollowUpKind
from models.follow_ups.templates import WordingError
from models.work import lifecycle
from models.work.history import Outcome
from models.work.lifecycle import Claim, LeaseLost
from models.work.work_rows import Lane, WorkStatus
from workers.app import app
from workers.attempts.attempt import attempt
from workers.attempts.failure_policy import apply_policy
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
SHARE_FOR_LOOKUPS = 0.5
"""Part of an attempt's time that lookups may take: one that hangs leaves time for writing without its answer."""
MARGIN_OF_LEASE = 0.1
"""Part of the lease that must remain after the request's deadline."""


@app.task(name="follow_ups.send")
def send_follow_up(follow_up_id: str) -> None:
    """Makes one attempt at this follow-up, if it is due."""
    attempt(FOLLOW_UP, (follow_up_id,), _send, extra=UNCLEAR_FROM_THE_LEASE)


def _send(this: Connections, claim: Claim) -> str:
    with this.database.reading() as connection:
        account = accounts.get(connection, claim.row["location_id"])
    lane = Lane(claim.row["lane"])
    client = this.leadway.for_account(account, lane=lane, deadline=claim.deadline)
    sending = _Sending(this, claim, account, client)
    if claim.row["intent_at"] is not None:
        outcome = _probe(sending)
        if outcome is not None:
            return outcome
    return _write(sending)


@dataclass(frozen=True)
class _Sending:
    """One attempt at a follow-up, and what it works with."""

    this: Connections
    claim: Claim
    account: Account
    client: LeadwayClient

    def commit(self, write: Callable[[Connection], None]) -> None:
        self.this.database.transact(write)

    @property
    def settle_seconds(self) -> float:
        return self.this.settings.leadway_settle_seconds


def _probe(sending: _Sending) -> str | None:
    """Resolves an unclear outcome: looks for what an earlier request may have written, and adopts what it finds.

    Returns the attempt's outcome. None: the follow-up is proven absent, or writing it twice is harmless; write it.
    """
    claim = sending.claim
    kind = FollowUpKind(claim.row["kind"])
    if kind is FollowUpKind.TAG:
        return None  # setting a tag twice is setting it once
    if kind is FollowUpKind.WORKFLOW:
        return _wait_for_a_person(sending, "cannot_be_looked_up")
    waited = (claim.claimed_at - claim.row["unclear_since"]).total_seconds()
    if waited < sending.settle_seconds:
        return _stay_unclear(sending, seconds=sending.settle_seconds - waited, tried=False, error=None)
    if claim.row["absences"] >= PROVEN_ABSENT:
        return None  # proven by an earlier attempt, which then could not write for another reason
    try:
        found = _find_by_reference(sending, kind)
    except LeadwayError as error:
        return _apply_policy(sending, error)
    failpoint("probe_answered")
    if found:
        return _adopt(sending, found, waited)
    if claim.row["absences"] == 0:
        seconds = sending.settle_seconds / 3
        return _stay_unclear(sending, seconds=seconds, tried=True, error="absent_once", absences=1)
    if claim.row["posts"] >= MOST_POSTS:
        return _wait_for_a_person(sending, "absent_after_every_post")
    return None


def _find_by_reference(sending: _Sending, kind: FollowUpKind) -> list[str]:
    """Ids of the notes or tasks that carry our reference, oldest first.

    Raises LeadwayError, also when the list could not be read whole: a part of it proves no absence.
    """
    contact_id, reference = sending.claim.row["contact_id"], sending.claim.row["follow_up_id"]
    earliest = datetime.min.replace(tzinfo=UTC)
    if kind is FollowUpKind.NOTE:
        notes = sorted(sending.client.list_notes(contact_id), key=lambda note: note.added_at or earliest)
        return [note.note_id for note in notes if carries_reference(note.body, reference)]
    return [task.task_id for task in sending.client.list_tasks(contact_id) if carries_reference(task.body, reference)]


def _adopt(sending: _Sending, found: list[str], waited: float) -> str:
    """Completes the follow-up with what an earlier request wrote: of several the oldest, and a person must know."""
    if len(found) > 1:
        log.error("follow_up_doubled", follow_up_id=sending.claim.key[0], number=len(found))
        metrics.DOUBLED.inc()
    metrics.FOUND_BY_REFERENCE_SECONDS.observe(waited)
    _finish(sending, found[0])
    return "adopted"


def _write(sending: _Sending) -> str:
    """Words the follow-up, commits the intent, sends the one request, and commits its result."""
    claim = sending.claim
    proven = {} if claim.row["intent_at"] is None else {"absences": PROVEN_ABSENT}
    try:
        worded = word_follow_up(sending.this, claim, account=sending.account, client=_client_for_lookups(sending))
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
    return sending.this.leadway.for_account(sending.account, lane=Lane(claim.row["lane"]), deadline=deadline)


def _intend(sending: _Sending, worded: WordedFollowUp) -> bool:
    """Commits the intent if the lease outlasts the request's deadline; False: it does not, nothing may be sent."""
    if sending.claim.seconds_left <= 0:
        return False
    seconds = sending.claim.seconds_left + MARGIN_OF_LEASE * sending.this.settings.leadway_lease_seconds
    return sending.this.database.transact(
        lambda connection: follow_ups.intend(
            connection,
            sending.claim,
            seconds=seconds,
            title=worded.title,
            body=worded.body,
            appointment_id=worded.appointment_id,
        )
    )


def _request(sending: _Sending, worded: WordedFollowUp) -> str | None:
    """Sends the one request that writes; returns the new note's or task's id. Raises LeadwayError."""
    contact_id = sending.claim.row["contact_id"]
    client = sending.client
    match FollowUpKind(sending.claim.row["kind"]):
        case FollowUpKind.NOTE:
            return client.create_note(contact_id, body=worded.body)
        case FollowUpKind.TASK:
            due_at = worded.due_at or datetime.now(UTC)
            return client.create_task(
                contact_id, title=worded.title or "", body=worded.body, due_at=due_at, assigned_to=worded.assigned_to
            )
        case FollowUpKind.TAG:
            client.add_tags(contact_id, tags=worded.tags)
        case FollowUpKind.WORKFLOW:
            client.enrol_in_workflow(contact_id, workflow_id=worded.workflow_id)
    return None


def _after_failed_request(sending: _Sending, error: LeadwayError) -> str:
    """Reschedules as if nothing had been sent where the request provably was not executed; else unclear from now on."""
    if not error.reached:
        posts = follow_ups.follow_ups_table.c.posts - 1
        return _apply_policy(sending, error, status=WorkStatus.PENDING, intent_at=None, posts=posts)
    if FollowUpKind(sending.claim.row["kind"]) is FollowUpKind.TAG:
        return _apply_policy(sending, error, status=WorkStatus.PENDING, intent_at=None)  # a tag twice is a tag once
    seconds = sending.settle_seconds
    claim, kind, status = sending.claim, str(error.kind), error.http_status
    log.warning("follow_up_became_unclear", follow_up_id=claim.key[0], error=kind, http_status=status)
    sending.commit(
        lambda connection: lifecycle.reschedule(
            connection, claim, seconds=seconds, status=WorkStatus.UNCLEAR, outcome=Outcome.UNCLEAR, counted=True,
            error=kind, http_status=status, trace_id=error.trace_id, unclear_since=moment(),
        )
    )  # fmt: skip
    return "unclear"


def _finish(sending: _Sending, remote_id: str | None) -> None:
    def write(connection: Connection) -> None:
        circuit_breaker.record_success(connection, sending.account.location_id)
        lifecycle.complete(connection, sending.claim, remote_id=remote_id, done_at=moment(), unclear_since=None)

    try:
        sending.commit(write)
    except LeaseLost:
        # The note is written, but another attempt has taken the row over: that one will find the note's reference.
        log.warning("follow_up_written_after_lease", follow_up_id=sending.claim.key[0])
        raise


def _stay_unclear(sending: _Sending, *, seconds: float, tried: bool, error: str | None, absences: int = 0) -> str:
    error = error or sending.claim.row["last_error"]
    sending.commit(
        lambda connection: lifecycle.reschedule(
            connection, sending.claim, seconds=seconds, tried=tried, status=WorkStatus.UNCLEAR, outcome=Outcome.UNCLEAR,
            error=error, absences=absences,
        )
    )  # fmt: skip
    return "unclear"


def _wait_for_a_person(sending: _Sending, why: str) -> str:
    sending.commit(
        lambda connection: lifecycle.reschedule(
            connection,
            sending.claim,
            seconds=None,
            status=WorkStatus.UNCLEAR,
            outcome=Outcome.UNCLEAR,
            counted=True,
            error=why,
        )
    )
    log.error("person_needed", follow_up_id=sending.claim.key[0], why=why)
    return "person_needed"


def _dead_letter(sending: _Sending, *, error: str) -> str:
    sending.commit(
        lambda connection: lifecycle.dead_letter(connection, sending.claim, cause="cannot_be_worded", error=error)
    )
    log.error("work_dead_lettered", work=FOLLOW_UP.name, key=sending.claim.key, cause="cannot_be_worded")
    return "dead"


def _look_again(sending: _Sending, *, seconds: float) -> str:
    error = "appointment_not_there_yet"
    sending.commit(
        lambda connection: lifecycle.reschedule(connection, sending.claim, seconds=seconds, tried=False, error=error)
    )
    return error


def _apply_policy(sending: _Sending, error: LeadwayError, **values: Any) -> str:
    this, claim, account = sending.this, sending.claim, sending.account
    sending.commit(lambda connection: apply_policy(connection, this, claim, error, account=account, **values))
    return str(error.kind)
