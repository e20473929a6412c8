"""Leadway's document about one call, as a value.

Read leniently from JSON by `workers.leadway.documents`; already redacted when it gets here, so it may be stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class ActionType(StrEnum):
    """The action types that Leadway has today (reference: voice-ai.json). Others are stored as they come."""

    CALL_TRANSFER = "CALL_TRANSFER"
    SMS = "SMS"
    DATA_EXTRACTION = "DATA_EXTRACTION"
    WORKFLOW_TRIGGER = "WORKFLOW_TRIGGER"
    APPOINTMENT_BOOKING = "APPOINTMENT_BOOKING"
    CUSTOM_ACTION = "CUSTOM_ACTION"
    IN_CALL_DATA_EXTRACTION = "IN_CALL_DATA_EXTRACTION"
    KNOWLEDGE_BASE = "KNOWLEDGE_BASE"


class Source(StrEnum):
    """Where a reading of the log came from. A list row cannot carry everything (no `extractedData`)."""

    FETCH = "fetch"
    LIST = "list"


@dataclass(frozen=True)
class Action:
    """What the agent did in the call: one entry of `executedCallActions`."""

    action_type: str
    name: str = ""
    action_id: str | None = None
    """`actionId` or `_id`. May be missing, may repeat: it can name the agent's configured action."""
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
    agent_deleted: bool | None = None
    message_id: str | None = None
    from_number: str | None = None
    started_at: datetime | None = None
    duration_seconds: float | None = None
    trial_call: bool = False
    transferred: bool | None = None
    """`agentTransferOccurred`, which the vendor does not document."""
    summary: str = ""
    transcript: str = ""
    translation: Mapping[str, Any] | None = None
    extracted_data: Mapping[str, Any] | None = None
    actions: tuple[Action, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)
    """The whole document, redacted, unknown fields included."""
    unknown_fields: tuple[str, ...] = ()
    """Top-level names that no source describes: counted, kept, never fatal."""

    @property
    def ended_at(self) -> datetime | None:
        if self.started_at is None:
            return None
        return self.started_at + timedelta(seconds=self.duration_seconds or 0)

    @property
    def is_settled(self) -> bool:
        """Whether Leadway has finished writing it: a call that lasted has a transcript and a summary."""
        return not self.duration_seconds or bool(self.transcript.strip() and self.summary.strip())
