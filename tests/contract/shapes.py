"""Compares JSON documents with the field tables in `facts`."""

from datetime import datetime
from typing import Any

from tests.contract.facts import Fields


def complaints(document: Any, fields: Fields, *, live: bool = False) -> list[str]:
    """What the document lacks or has wrong, by field name; never a value, for those may be people's words."""
    if not isinstance(document, dict):
        return [f"an object expected, not {type(document).__name__}"]
    found = []
    for name, rule in fields.items():
        optional = rule.endswith("?") or (live and rule.endswith("~"))
        value = document.get(name)
        if value is None:
            found += [] if optional else [f"{name} is missing"]
        elif not _fits(value, rule.rstrip("?~")):
            found.append(f"{name} is no {rule.rstrip('?~')}")
    return found


def _fits(value: Any, kind: str) -> bool:
    match kind:
        case "str":
            return isinstance(value, str)
        case "num":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "obj":
            return isinstance(value, dict)
        case "list":
            return isinstance(value, list)
        case "instant":
            return (at := _parsed(value)) is not None and at.tzinfo is not None
        case "wall":
            return (at := _parsed(value)) is not None and at.tzinfo is None
    raise ValueError(f"unknown type in the facts: {kind}")


def _parsed(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
