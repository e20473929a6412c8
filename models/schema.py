"""Every table, by importing every module that defines one: what the migrations are compared with."""

from models import (
    accounts,
    attempts,
    calls,
    follow_ups,
    heartbeats,
    notifications,
    pauses,
    reconciliations,
    refusals,
    window_lists,
)
from models.database import metadata

__all__ = [
    "accounts",
    "attempts",
    "calls",
    "follow_ups",
    "heartbeats",
    "metadata",
    "notifications",
    "pauses",
    "reconciliations",
    "refusals",
    "window_lists",
]
