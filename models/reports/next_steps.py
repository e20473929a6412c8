"""What happens next to a call or a follow-up, why it stands as it does, and what a person can do: in words."""

from collections.abc import Sequence

from models.accounts.pauses import ALL_WORK, Pause
from models.calls.calls import CALL
from models.follow_ups.follow_ups import FOLLOW_UP, FollowUp, FollowUpState
from models.follow_ups.references import reference_line
from models.reports.timeline import KnownCall, OwedFollowUp, Timeline
from models.reports.wording import when
from models.work.work_rows import POISON, WorkKind, WorkStatus

SKIPPED = {
    "trial_call": "It was a trial call: nothing is written for those.",
    "no_contact": "The call has no contact that a note could be written to.",
    "too_old": "The call had ended too long ago when this was planned.",
}
"""By the reason."""
DEAD = {
    "not_found": "Leadway does not find it.",
    "contact_unknown": "Leadway does not know the contact: it was deleted, or merged into another one.",
    "refused": "Leadway refused the request; the attempt has its answer's status and trace id.",
    "cannot_be_worded": "It could not be worded: a rule or a template is not as it should be.",
    "broken": "Each attempt ended in an unexpected error, which stands in the workers' log.",
    "puzzling": "Leadway gave an answer that cannot be understood.",
    "too_large": "Leadway's answer is larger than any that is read.",
    "wrong_kind": "Its id is none of a call.",
    POISON: "Each attempt ended the worker process that made it.",
}
"""By the cause of death."""


def why(owed: KnownCall | OwedFollowUp) -> str | None:
    """Why it was skipped or is dead; None: it is neither."""
    reason = owed.follow_up.skip_reason if isinstance(owed, OwedFollowUp) else None
    if reason is not None:
        return SKIPPED.get(reason, f"It was skipped: {reason}.")
    if owed.dead_cause is not None:
        return DEAD.get(owed.dead_cause, f"It was given up: {owed.dead_cause.replace('_', ' ')}.")
    return None


def why_no_follow_up(found: Timeline) -> str | None:
    """Why the call has none; None: it has one."""
    log = found.call.stored
    if found.follow_ups:
        return None
    if log is None:
        return "none yet: the log comes first"
    if log.settled_at is None:
        return "none yet: the log is not settled, and is read again"
    if not log.wants_follow_ups:
        return f"none: the call was taken in by {log.origin} without them; `leadway-calls replay plan {log.call_id}`"
    types = ", ".join(dict.fromkeys(each.action_type for each in found.actions))
    did = f"the agent did {types}" if types else "the agent carried out no action"
    return f"none: {did}, and no rule asks for one; `leadway-calls replay plan {log.call_id}` asks today's rules"


def of_call(call: KnownCall, paused: Sequence[Pause] = ()) -> str:
    work = call.work
    if work is None:
        return "nothing is to be read: the log is complete"
    if work.status is WorkStatus.DEAD:
        revives = "nothing" if work.dead_cause == POISON else "nothing, unless it is notified of or listed again"
        return f"{revives}; `leadway-calls replay call {call.call_id}` has it read again"
    held_back = _held_back(call, CALL, paused)
    if work.status is WorkStatus.RUNNING:
        return f"it is being read; should that break off, again at {_at(call)}{held_back}"
    if call.stored is None:
        return f"read at {_at(call)}{held_back}"
    reason = "it was asked for again" if call.is_settled else "the log is not settled"
    return f"read again at {_at(call)}, because {reason}{held_back}"


def attempt_of_follow_up(owed: OwedFollowUp, paused: Sequence[Pause] = ()) -> str | None:
    """When it is tried next; None: never by itself."""
    if owed.due_at is None:
        return None
    breaks_off = ", should the present one break off" if owed.is_running else ""
    return when(owed.due_at) + (breaks_off or _held_back(owed, FOLLOW_UP, paused))


def of_follow_up(owed: OwedFollowUp, language: str) -> str:
    """`language`: the account's, in which the reference line stands in the note."""
    found = owed.follow_up
    match found.status:
        case FollowUpState.DONE:
            return "Nothing: it is done."
        case FollowUpState.SKIPPED:
            return f"{why(owed)} If that is no longer right: `leadway-calls replay plan {found.call_id}`."
        case FollowUpState.DEAD:
            again = f"`leadway-calls replay follow-up {found.follow_up_id}`"
            return f"It is dead. Put right what the last error names, then {again}."
        case FollowUpState.UNCLEAR if owed.needs_a_person:
            return f"{_where_to_look(found, language)} There: run this again with --is-there. Not there: --send-again."
        case FollowUpState.UNCLEAR:
            return f"Nothing: it is looked for {'now' if owed.is_running else f'at {_at(owed)}'}."
        case _ if owed.is_running:
            return "Nothing: it is being written."
        case _:
            return "Nothing: it is tried by itself, unless its account is paused (`leadway-calls status`)."


def _where_to_look(found: FollowUp, language: str) -> str:
    if found.kind in ("note", "task"):
        line = reference_line(found.follow_up_id, language)
        return f"Look among the {found.kind}s of the contact {found.contact_id} for one that ends with “{line}”."
    return f"Look at the contact {found.contact_id} in Leadway, whether its {found.kind} is there."


def _at(owed: KnownCall | OwedFollowUp) -> str:
    return "once a person asks" if owed.due_at is None else when(owed.due_at)


def _held_back(owed: KnownCall | OwedFollowUp, kind: WorkKind, paused: Sequence[Pause]) -> str:
    causes = sorted({each.cause for each in paused if each.work in (ALL_WORK, kind.paused_as)})
    return f", but the account is paused by {', '.join(causes)}" if causes and owed.due_at else ""
