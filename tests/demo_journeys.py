"""What the demo says of a call when its journey is complete: one line, of which the database is the witness."""

from models.follow_ups.follow_ups import FollowUp
from models.reports.timeline import Timeline


def is_complete(told: Timeline) -> bool:
    over = ("done", "dead", "skipped")
    return told.call.status in over and all(each.status in over for each in told.follow_ups)


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
    tries = [each for each in told.attempts if each.work == "call"]
    last = tries[-1] if tries else None
    if told.call.status == "dead" or last is None or last.started_at is None:
        return [f"dead: {told.call.dead_cause}"]
    milliseconds = round(1000 * (last.ended_at - last.started_at).total_seconds())
    tried = f" at the {_ordinal(len(tries))} reading" if len(tries) > 1 else ""
    number = len(told.actions)
    stored = f"{number} action{'' if number == 1 else 's'}" if number else "no action"
    return [f"fetched{tried} in {milliseconds} ms", f"stored: {stored}"]


def _followed_up(told: Timeline) -> list[str]:
    """Equal ones together, with the time of the last of them."""
    ends: dict[tuple[str, str], list[float]] = {}
    for row in told.follow_ups:
        since = told.call.announced_at or told.call.created_at
        seconds = (row.done_at - since).total_seconds() if row.done_at else 0.0
        ends.setdefault((row.kind, _how(told, row)), []).append(seconds)
    return [
        f"{kind if len(each) == 1 else f'{len(each)} {kind}s'} {how}"
        + (f" {max(each):.1f} s after the call's notification" if max(each) else "")
        for (kind, how), each in ends.items()
    ] or ["no follow-up due"]


def _how(told: Timeline, row: FollowUp) -> str:
    if row.status == "skipped":
        return f"skipped: {str(row.skip_reason).replace('_', ' ')}"
    if row.status == "dead":
        return f"dead: {row.dead_cause}"
    outcomes = [each.outcome for each in told.attempts if each.follow_up_id == row.follow_up_id]
    if "unclear" not in outcomes:
        return "written"
    return "written, answer lost, found by its reference" if row.posts == 1 else "written again after it was not found"


def _ordinal(number: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(number, f"{number}th")
