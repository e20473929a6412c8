"""What runs periodically, and how often. A tick may be lost or doubled without harm, so two beats do none."""

from typing import Any

TICK_EXPIRES_SECONDS = 2


def every(seconds: float, task: str) -> dict[str, Any]:
    """A message for `task` every `seconds`; it expires by the time of the next one, which asks for the same."""
    return {"task": task, "schedule": seconds, "options": {"expires": max(TICK_EXPIRES_SECONDS, seconds)}}


SCHEDULE = {
    "dispatch what is due": every(1.0, "due.dispatch"),
    "look whether pauses have healed": every(5.0, "pauses.heal"),
    "compare with Leadway's list": every(2.0, "accounts.reconcile"),
    "empty what has expired": every(3600.0, "expired.prune"),
}
