"""Carries out one follow-up in the CRM: exactly once, on an API that has no idempotency key.

Before the request an intent is committed, under fence and lease. From then on the outcome is unclear until it is
known: by the answer, or after the settle window by looking for the reference that the written thing carries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection

from models.accounts import accounts
from models.accounts.accounts import Account
from models.database import moment
from models.failpoints import failpoint
from models.follow_ups import follow_ups
from models.follow_ups.follow_ups import FOLLOW_UP, UNCLEAR_FROM_THE_LEASE
from models.follow_ups.rules import FollowUpKind
from models.follow_ups.templates import WordingError, carries_reference
from models.work import lifecycle
from models.work.lifecycle import Claim, Lane, LeaseLost, Outcome, WorkStatus
from workers.app import app
from workers.attempts.attempt import attempt
from workers.attempts.failure_policy import apply_policy
from workers.follow_ups.wording import RuleGone, TooSoon, Words, words_for
from workers.leadway.client import LeadwayClient
from workers.leadway.errors import ErrorKind, LeadwayError, RetryableLeadwayError
from workers.process.connections import Connections
from workers.telemetry import metrics

log = structlog.get_logger(__name__)

MOST_POSTS = 5
"""Requests that may have written it, each found absent twice, after which a person looks."""
PROVEN_ABSENT = 2
"""Answered looks that did not find it: more are not made for one request that may have written it."""
SHARE_FOR_LOOKUPS = 0.5
"""Of an attempt's time: a lookup that hangs leaves the rest for writing without it."""
MARGIN_OF_LEASE = 0.1
"""The lease has to outlast the request's deadline by this fraction of itself."""


@app.task(name="follow_ups.send")
def send_follow_up(follow_up_id: str) -> None:
    attempt(FOLLOW_UP, (follow_up_id,), _send, extra=UNCLEAR_FROM_THE_LEASE)


def _send(this: Connections, claim: Claim) -> str:
    with this.database.reading() as connection:
        account = accounts.get(connection, claim.row["location_id"])
    lane = Lane(claim.row["lane"])
    client = this.leadway.for_account(account, lane=lane, deadline=claim.deadline)
    step = _Step(this, claim, account, client)
    if claim.row["intent_at"] is not None:
        outcome = _look_whether_it_is_there(step)
        if outcome is not None:
            return outcome
    return _write(step)


@dataclass(frozen=True)
class _Step:
    """What one attempt works with."""

    this: Connections
    claim: Claim
    account: Account
    client: LeadwayClient

    def commit(self, write: Callable[[Connection], None]) -> None:
        self.this.database.transact(write)

    @property
    def settle_seconds(self) -> float:
        return self.this.settings.leadway_settle_seconds


def _look_whether_it_is_there(step: _Step) -> str | None:
    """Resolves an unclear outcome: adopts what is found. None: it was proven absent and may be written again."""
    claim = step.claim
    kind = FollowUpKind(claim.row["kind"])
    if kind is FollowUpKind.TAG:
        return None  # setting a tag twice is setting it once
    if kind is FollowUpKind.WORKFLOW:
        return _wait_for_a_person(step, "cannot_be_looked_up")
    waited = (claim.claimed_at - claim.row["unclear_since"]).total_seconds()
    if waited < step.settle_seconds:
        return _stay_unclear(step, seconds=step.settle_seconds - waited, tried=False, error=None)
    if claim.row["absences"] >= PROVEN_ABSENT:
        return None  # something else kept it from being written then
    try:
        found = _find_by_reference(step, kind)
    except LeadwayError as error:
        return _set_back(step, error)
    failpoint("probe_answered")
    if found:
        return _adopt(step, found, waited)
    if claim.row["absences"] == 0:
        seconds = step.settle_seconds / 3
        return _stay_unclear(step, seconds=seconds, tried=True, error="absent_once", absences=1)
    if claim.row["posts"] >= MOST_POSTS:
        return _wait_for_a_person(step, "absent_after_every_post")
    return None


def _find_by_reference(step: _Step, kind: FollowUpKind) -> list[str]:
    """Ids of what carries our reference, oldest first. Raises when the list could not be read whole."""
    contact_id, reference = step.claim.row["contact_id"], step.claim.row["follow_up_id"]
    always = datetime.min.replace(tzinfo=UTC)
    if kind is FollowUpKind.NOTE:
        notes = sorted(step.client.list_notes(contact_id), key=lambda note: note.added_at or always)
        return [note.note_id for note in notes if carries_reference(note.body, reference)]
    return [task.task_id for task in step.client.list_tasks(contact_id) if carries_reference(task.body, reference)]


def _adopt(step: _Step, found: list[str], waited: float) -> str:
    """What an earlier request wrote is ours. Found more than once: the oldest counts, and somebody must know."""
    if len(found) > 1:
        log.error("follow_up_doubled", follow_up_id=step.claim.key[0], number=len(found))
        metrics.DOUBLED.inc()
    metrics.FOUND_BY_REFERENCE_SECONDS.observe(waited)
    _finish(step, found[0])
    return "adopted"


def _write(step: _Step) -> str:
    """Words it, commits the intent, sends the one request, and commits what came of it."""
    claim = step.claim
    known = {} if claim.row["intent_at"] is None else {"absences": PROVEN_ABSENT}
    try:
        words = words_for(step.this, claim, account=step.account, client=_client_for_lookups(step))
    except TooSoon as wait:
        return _later(step, seconds=wait.seconds, error="appointment_not_there_yet")
    except (RuleGone, WordingError) as error:
        return _give_up(step, why=str(error))
    except LeadwayError as error:
        return _set_back(step, error, **known)
    try:
        step.client.reserve()
    except LeadwayError as error:
        return _set_back(step, error, **known, **words.columns)
    failpoint("follow_up_worded")
    if not _intend(step, words):
        # Put back, not left behind: a lease that runs out looks like a crash, and too many of those like poison.
        too_late = RetryableLeadwayError(ErrorKind.NO_TIME, reached=False)
        return _set_back(step, too_late, **known, **words.columns)
    failpoint("intent_committed")
    try:
        remote_id = _request(step, words)
    except LeadwayError as error:
        return _after_failed_request(step, error)
    failpoint("note_answered")
    _finish(step, remote_id)
    failpoint("follow_up_done")
    return "written"


def _client_for_lookups(step: _Step) -> LeadwayClient:
    claim = step.claim
    deadline = claim.deadline - (1 - SHARE_FOR_LOOKUPS) * claim.seconds_left
    return step.this.leadway.for_account(step.account, lane=Lane(claim.row["lane"]), deadline=deadline)


def _intend(step: _Step, words: Words) -> bool:
    """Commits the intent if the lease outlasts the request. Whoever woke up too late sends nothing."""
    if step.claim.seconds_left <= 0:
        return False
    seconds = step.claim.seconds_left + MARGIN_OF_LEASE * step.this.settings.leadway_lease_seconds
    return step.this.database.transact(
        lambda connection: follow_ups.intend(
            connection,
            step.claim,
            seconds=seconds,
            title=words.title,
            body=words.body,
            appointment_id=words.appointment_id,
        )
    )


def _request(step: _Step, words: Words) -> str | None:
    contact_id = step.claim.row["contact_id"]
    client = step.client
    match FollowUpKind(step.claim.row["kind"]):
        case FollowUpKind.NOTE:
            return client.create_note(contact_id, body=words.body)
        case FollowUpKind.TASK:
            due_at = words.due_at or datetime.now(UTC)
            return client.create_task(
                contact_id, title=words.title or "", body=words.body, due_at=due_at, assigned_to=words.assigned_to
            )
        case FollowUpKind.TAG:
            client.add_tags(contact_id, tags=words.tags)
        case FollowUpKind.WORKFLOW:
            client.enrol_in_workflow(contact_id, workflow_id=words.workflow_id)
    return None


def _after_failed_request(step: _Step, error: LeadwayError) -> str:
    """Not executed, provably: as if it had not been tried. Anything else is unclear, counted from now."""
    if not error.reached:
        posts = follow_ups.follow_ups.c.posts - 1
        return _set_back(step, error, status=WorkStatus.PENDING, intent_at=None, posts=posts)
    if FollowUpKind(step.claim.row["kind"]) is FollowUpKind.TAG:
        return _set_back(step, error, status=WorkStatus.PENDING, intent_at=None)  # setting it twice is harmless
    seconds = step.settle_seconds
    log.warning("outcome_unclear", follow_up_id=step.claim.key[0], error=str(error.kind), http_status=error.http_status)
    step.commit(
        lambda connection: lifecycle.reschedule(
            connection, step.claim, seconds=seconds, status=WorkStatus.UNCLEAR, outcome=Outcome.UNCLEAR, counted=True,
            error=str(error.kind), http_status=error.http_status, trace_id=error.trace_id, unclear_since=moment(),
        )
    )  # fmt: skip
    return "unclear"


def _finish(step: _Step, remote_id: str | None) -> None:
    def write(connection: Connection) -> None:
        accounts.record_success(connection, step.account.location_id)
        lifecycle.complete(connection, step.claim, remote_id=remote_id, done_at=moment(), unclear_since=None)

    try:
        step.commit(write)
    except LeaseLost:
        # The thing is written, but the row is somebody else's by now: they will find it by its reference.
        log.warning("written_after_the_lease", follow_up_id=step.claim.key[0])
        raise


def _stay_unclear(step: _Step, *, seconds: float, tried: bool, error: str | None, absences: int = 0) -> str:
    error = error or step.claim.row["last_error"]
    step.commit(
        lambda connection: lifecycle.reschedule(
            connection, step.claim, seconds=seconds, tried=tried, status=WorkStatus.UNCLEAR, outcome=Outcome.UNCLEAR,
            error=error, absences=absences,
        )
    )  # fmt: skip
    return "unclear"


def _wait_for_a_person(step: _Step, why: str) -> str:
    step.commit(
        lambda connection: lifecycle.reschedule(
            connection,
            step.claim,
            seconds=None,
            status=WorkStatus.UNCLEAR,
            outcome=Outcome.UNCLEAR,
            counted=True,
            error=why,
        )
    )
    log.error("person_needed", follow_up_id=step.claim.key[0], why=why)
    return "person_needed"


def _give_up(step: _Step, *, why: str) -> str:
    step.commit(lambda connection: lifecycle.dead_letter(connection, step.claim, cause="cannot_be_worded", error=why))
    log.error("work_dead_lettered", work=FOLLOW_UP.name, key=step.claim.key, cause="cannot_be_worded")
    return "dead"


def _later(step: _Step, *, seconds: float, error: str) -> str:
    step.commit(
        lambda connection: lifecycle.reschedule(connection, step.claim, seconds=seconds, tried=False, error=error)
    )
    return error


def _set_back(step: _Step, error: LeadwayError, **values: Any) -> str:
    step.commit(
        lambda connection: apply_policy(connection, step.this, step.claim, error, account=step.account, **values)
    )
    return str(error.kind)
