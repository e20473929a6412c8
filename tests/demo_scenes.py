"""Which accounts the demo has, and which calls it places, one after another, over and over."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ENGLISH, SPANISH = "demo_riverside", "demo_clinica"
ACCOUNTS = {
    ENGLISH: {"name": "Riverside Dental", "language": "en", "time_zone": "America/New_York"},
    SPANISH: {"name": "Clínica del Sol", "language": "es", "time_zone": "Europe/Madrid"},
}


@dataclass(frozen=True)
class Scene:
    """A call to place, and how it is announced. `mishap`: what goes wrong on purpose."""

    location_id: str
    dialect: str
    actions: tuple[str, ...]
    wish: Mapping[str, Any] = field(default_factory=dict)
    proof: str | None = None
    mishap: str = ""


SCENES = (
    Scene(ENGLISH, "flat", ("APPOINTMENT_BOOKING", "SMS"), {"booked": True}),
    Scene(SPANISH, "thin", ("CALL_TRANSFER",)),
    Scene(ENGLISH, "workflow", ("KNOWLEDGE_BASE",)),
    Scene(SPANISH, "flat_untyped", ("APPOINTMENT_BOOKING",), {"booked": True, "late": 1.5}, mishap="log comes late"),
    Scene(ENGLISH, "call_completed", ("CALL_TRANSFER",), mishap="answer lost"),
    Scene(SPANISH, "data", ("IN_CALL_DATA_EXTRACTION", "DATA_EXTRACTION"), proof="rsa"),
    Scene(ENGLISH, "flat", ("APPOINTMENT_BOOKING",), {"booked": True, "trial": True}),
    Scene(SPANISH, "workflow", ("CUSTOM_ACTION", "WORKFLOW_TRIGGER"), proof="secret_path"),
    Scene(ENGLISH, "flat", ("APPOINTMENT_BOOKING", "CALL_TRANSFER"), {"booked": True}, mishap="announced twice"),
    Scene(SPANISH, "thin", ("APPOINTMENT_BOOKING",), {"booked": False}, mishap="the booking led to no appointment"),
    Scene(ENGLISH, "thin", ("CALL_TRANSFER",), {"contact": False}),
    Scene(SPANISH, "flat", (), {"empty_for": 2.0}, mishap="log is empty at first"),
)
