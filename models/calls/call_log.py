"""A call log: Leadway's document about one call, as a value, and when it counts as settled.

`workers.leadway.documents` reads it leniently from JSON and redacts it first, so every field may be stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

YOUNG = timedelta(minutes=10)
"""So long after a call's end its log may still grow: it may lack its length, its words, its actions."""
SETTLED_AS_IT_IS_AFTER = timedelta(hours=2)
"""A log that still lacks its words after this time will not get them: it counts as settled as it is."""


class ActionType(StrEnum):
    """The action types that Leadway documents (reference: voice-ai.json). Others are stored as they come."""

    CALL_TRANSFER = "CALL_TRANSFER"
    SMS = "SMS"
    DATA_EXTRACTION = "DATA_EXTRACTION"
    WORKFLOW_TRIGGER = "WORKFLOW_TRIGGER"
    APPOINTMENT_BOOKING = "APPOINTMENT_BOOKING"
    CUSTOM_ACTION = "CUSTOM_ACTION"
    IN_CALL_DATA_EXTRACTION = "IN_CALL_DATA_EXTRACTION"
    KNOWLEDGE_BASE = "KNOWLEDGE_BASE"


class Source(StrEnum):
    """Where a log, or a part of it, came from."""

    FETCH = "fetch"
    """Its own endpoint."""
    LIST = "list"
    """A row of the list, which lacks `extractedData`."""
    NOTIFICATION = "notification"
    """What Leadway signed when the call ended: it fills what the API's log lacks."""


@dataclass(frozen=True)
class Action:
    """What the agent did in the call: one entry of `executedCallActions`."""

    action_type: str
    name: str = ""
    action_id: str | None = None
    """`actionId` or `_id`. It may be missing, and may repeat: it can be the id of the agent's configured action."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    executed_at: datetime | None = None
    trigger_received_at: datetime | None = None


@dataclass(frozen=True)
class CallLog:
    """One call log. Times are aware and UTC, `duration_seconds` is Leadway's `duration`."""

    call_id: str
    source: Source
    contact_id: str | None = None
    agent_id: str | None = None
    agent_name: str | None = None
    agent_deleted: bool | None = None
    message_id: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    direction: str | None = None
    call_status: str | None = None
    call_type: str | None = None
    workflow_name: str | None = None
    started_at: datetime | None = None
    duration_seconds: float | None = None
    trial_call: bool = False
    agent_handoff: bool | None = None
    """`agentTransferOccurred`: most likely a handoff from one AI agent to another, which is no transfer of the call."""
    summary: str = ""
    transcript: str = ""
    translation: Mapping[str, Any] | None = None
    extracted_data: Mapping[str, Any] | None = None
    actions: tuple[Action, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    """What the document has beside all these fields, redacted: unknown fields, and known ones that were not read."""
    unknown_fields: tuple[str, ...] = ()
    """Top-level names that no reference describes: they are counted and kept, and are no error."""
    zoneless_times: int = 0
    """How many times named no zone, and were read in the account's."""
    is_partial: bool = False
    """Whether names are missing that every log has: absent is not empty, so a list row like that is no whole log."""
    unread_fields: tuple[str, ...] = ()
    """Described names whose value has a shape that could not be read: likewise."""

    @property
    def ended_at(self) -> datetime | None:
        if self.started_at is None:
            return None
        return self.started_at + timedelta(seconds=self.duration_seconds or 0)

    @property
    def is_settled(self) -> bool:
        """Whether Leadway has finished writing the log, as far as the log itself tells: it has its words."""
        return bool(self.transcript.strip() and self.summary.strip())

    def is_settled_after(self, waited: timedelta) -> bool:
        """Whether the log is settled, or lacks its words and counts as settled as it is, because `waited` is long.

        A log without a length is waited for less: most likely nobody spoke.

        Callers take `waited` up to the reading from where they know it: for a call that is stored already, fetched or
        listed, from its first storing; for a new call of a list, from its end; for the first fetched reading it is 0.
        A stored call that Leadway does not find any more (404) has no log to ask here: `workers.fetch_call` ends it
        when it was first heard of SETTLED_AS_IT_IS_AFTER ago.
        """
        longest = SETTLED_AS_IT_IS_AFTER if self.duration_seconds else YOUNG
        return self.is_settled or waited >= longest
