"""Every table, by importing every module that defines one: what the migrations are compared with."""

from models.accounts import accounts, pauses
from models.calls import calls
from models.database import metadata
from models.follow_ups import follow_ups
from models.intake import notifications, rejection_counts
from models.reconciling import seen_ids, windows
from models.work import heartbeats, lifecycle

__all__ = [
    "accounts",
    "calls",
    "follow_ups",
    "heartbeats",
    "lifecycle",
    "metadata",
    "notifications",
    "pauses",
    "rejection_counts",
    "seen_ids",
    "windows",
]
