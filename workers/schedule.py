"""What runs periodically, and how often. Every tick is harmless when doubled or lost, so two beats do no harm."""

from typing import Any

TICK_EXPIRES_SECONDS = 2


def every(seconds: float, task: str) -> dict[str, Any]:
    """A tick that nobody took in time is worth nothing: the next one asks the same."""
    return {"task": task, "schedule": seconds, "options": {"expires": max(TICK_EXPIRES_SECONDS, seconds)}}


SCHEDULE = {
    "dispatch what is due": every(1.0, "due.dispatch"),
    "look whether pauses have healed": every(5.0, "pauses.heal"),
    "compare with Leadway's list": every(2.0, "accounts.reconcile"),
    "empty what has expired": every(3600.0, "expired.prune"),
}
