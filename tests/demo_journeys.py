"""What the demo says of a call when its journey is complete: one line, of which the database is the witness."""

from models.calls.calls import CALL
from models.follow_ups.follow_ups import FollowUpState
from models.reports.timeline import OwedFollowUp, Timeline
from models.work.history import Outcome


def is_complete(told: Timeline) -> bool:
    """Whether nothing is left that happens by itself."""
    return all(each.work is None or each.dead_cause for each in (told.call, *told.follow_ups))


def journey(told: Timeline) -> str:
    """No names, numbers or words of a caller."""
    return f"call {told.call.call_id[:6]}… " + " → ".join([_received(told), *_fetched(told), *_followed_up(told)])


def _received(told: Timeline) -> str:
    if not told.notifications:
        return "found without a notification"
    first = told.notifications[0]
    proof = "signed" if first.authenticated_by in ("ed25519", "rsa") else "secret"
    times = sum(1 + each.repeats for each in told.notifications)
    return f"received{f' {times} times' if times > 1 else ''} ({first.dialect}, {proof})"


def _fetched(told: Timeline) -> list[str]:
    tries = [each for each in told.attempts if each.kind == CALL.name]
    last = tries[-1] if tries else None
    if told.call.dead_cause or last is None or last.started_at is None:
        return [f"dead: {told.call.dead_cause}"]
    milliseconds = round(1000 * (last.ended_at - last.started_at).total_seconds())
    tried = f" at the {_ordinal(len(tries))} reading" if len(tries) > 1 else ""
    number = len(told.actions)
    stored = f"{number} action{'' if number == 1 else 's'}" if number else "no action"
    return [f"fetched{tried} in {milliseconds} ms", f"stored: {stored}"]


def _followed_up(told: Timeline) -> list[str]:
    """Equal ones together, with the time of the last of them."""
    ends: dict[tuple[str, str], list[float]] = {}
    for owed in told.follow_ups:
        row, since = owed.follow_up, told.call.first_heard_at
        seconds = (row.done_at - since).total_seconds() if row.done_at and since else 0.0
        ends.setdefault((row.kind, _how(told, owed)), []).append(seconds)
    return [
        f"{kind if len(each) == 1 else f'{len(each)} {kind}s'} {how}"
        + (f" {max(each):.1f} s after the call's notification" if max(each) else "")
        for (kind, how), each in ends.items()
    ] or ["no follow-up due"]


def _how(told: Timeline, owed: OwedFollowUp) -> str:
    row = owed.follow_up
    if row.status is FollowUpState.SKIPPED:
        return f"skipped: {str(row.skip_reason).replace('_', ' ')}"
    if owed.dead_cause:
        return f"dead: {owed.dead_cause}"
    outcomes = [each.outcome for each in told.attempts if each.subject == row.follow_up_id]
    if Outcome.UNCLEAR not in outcomes:
        return "written"
    return "written, answer lost, found by its reference" if row.posts == 1 else "written again after it was not found"


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
