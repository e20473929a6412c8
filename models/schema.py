"""The whole schema: imports every module that defines a table, so that `metadata` can be compared with migrations."""

from models.accounts import accounts, pauses
from models.calls import calls
from models.database import metadata
from models.follow_ups import follow_ups
from models.intake import inbox, notifications, quarantine, rejection_counts, taken_arrivals
from models.reconciling import local_days, quarantined_rows, seen_ids, windows
from models.reports import readers, users
from models.work import heartbeats, history, life, work_rows

__all__ = [
    "accounts",
    "calls",
    "follow_ups",
    "heartbeats",
    "history",
    "inbox",
    "life",
    "local_days",
    "metadata",
    "notifications",
    "pauses",
    "quarantine",
    "quarantined_rows",
    "readers",
    "rejection_counts",
    "seen_ids",
    "taken_arrivals",
    "users",
    "windows",
    "work_rows",
]
